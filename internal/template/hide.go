package template

import (
	"slices"
	"strings"
)

const (
	// hidden stands where the value of a secure parameter would.
	hidden = "*******"
	// minHidden is the least length of a secret that is hidden within other texts, too.
	minHidden = 4
)

// Hider returns a function that returns its argument, which is JSON, with the values of secure
// parameters hidden in its texts.
func (d *Deployment) Hider() func(v any) any {
	whole, pairs := map[string]bool{}, []string{}
	for _, p := range d.parameters {
		if strings.HasPrefix(p.kind, "secure") {
			texts(p.value, func(s string) {
				if s != "" && !whole[s] {
					whole[s] = true
					if len(s) >= minHidden {
						pairs = append(pairs, s)
					}
				}
			})
		}
	}
	slices.SortFunc(pairs, func(a, b string) int { return len(b) - len(a) }) // the longest first
	var each []string
	for _, s := range pairs {
		each = append(each, s, hidden)
	}
	within := strings.NewReplacer(each...)
	return func(v any) any {
		if len(whole) == 0 {
			return v
		}
		return mapTexts(v, func(s string) string {
			if whole[s] {
				return hidden
			}
			return within.Replace(s)
		})
	}
}

// texts calls f with each text in v.
func texts(v any, f func(string)) {
	mapTexts(v, func(s string) string {
		f(s)
		return s
	})
}

// mapTexts returns v with f of each text in it.
func mapTexts(v any, f func(string) string) any {
	switch v := v.(type) {
	case string:
		return f(v)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = mapTexts(e, f)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = mapTexts(e, f)
		}
		return out
	}
	return v
}
