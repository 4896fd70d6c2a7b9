package openapi

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed" // the page's template and style
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"
)

//go:embed page.html
var pageText string

//go:embed page.css
var style string

// described is what the page shows of the description.
type described struct {
	Info struct{ Title, Description string }
	Tags []struct {
		Name, Description string
		Operations        []operation `json:"-"`
	}
	Paths      map[string]map[string]json.RawMessage
	Components struct {
		Schemas    map[string]schema
		Parameters map[string]parameter
		Responses  map[string]answer
	}
	Style template.CSS `json:"-"`
}

type reference struct {
	Ref string `json:"$ref"`
}

type parameter struct {
	reference
	Name, In, Description string
	Schema                schema
}

type answer struct {
	reference
	Description string
	Content     map[string]struct{ Schema schema }
}

type operation struct {
	Method, Path string `json:"-"`
	OperationID  string
	Summary      string
	Tags         []string
	Parameters   []parameter
	RequestBody  struct {
		Content map[string]struct{ Schema schema }
	}
	Responses map[string]answer
}

// schema is a JSON Schema as far as the page shows it.
type schema struct {
	reference
	Type                 any
	Format, Description  string
	Items                *schema
	AdditionalProperties *schema
	AnyOf                []schema
	Properties           map[string]schema
	Required             []string
}

// last is the name at the end of a reference.
func (r reference) last() string { return r.Ref[strings.LastIndexByte(r.Ref, '/')+1:] }

// Links are the schemas that s is made of; Words say how.
func (s schema) Links() []string {
	var out []string
	switch {
	case s.Ref != "":
		out = []string{s.last()}
	case s.Items != nil:
		out = s.Items.Links()
	case s.AdditionalProperties != nil:
		out = s.AdditionalProperties.Links()
	}
	for _, one := range s.AnyOf {
		out = append(out, one.Links()...)
	}
	return out
}

// Words say what a value of s is, without the names of schemas.
func (s schema) Words() string {
	switch {
	case s.Ref != "":
		return ""
	case s.Items != nil:
		return strings.TrimSpace("list of " + s.Items.Words())
	case s.AdditionalProperties != nil:
		return strings.TrimSpace("map of " + s.AdditionalProperties.Words())
	case len(s.AnyOf) > 0:
		return "one of"
	case s.Type == nil:
		return "anything"
	}
	return strings.TrimSpace(fmt.Sprint(s.Type, " ", s.Format))
}

// Needs reports whether an object always has the property.
func (s schema) Needs(property string) bool { return slices.Contains(s.Required, property) }

// page serves the page.
func page() http.HandlerFunc {
	sum := sha256.Sum256([]byte(style))
	csp := strings.Replace(policy, "%", base64.StdEncoding.EncodeToString(sum[:]), 1)
	serve := fixed("text/html; charset=utf-8", render)
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", csp)
		w.Header().Set("Referrer-Policy", "no-referrer")
		serve(w, r)
	}
}

// render makes the page.
func render() ([]byte, error) {
	var d described
	if err := json.Unmarshal(document, &d); err != nil {
		return nil, err
	}
	d.Style = template.CSS(style)
	byTag := map[string][]operation{}
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		for method, text := range d.Paths[path] {
			if method == "parameters" {
				continue
			}
			o := operation{Method: strings.ToUpper(method), Path: path}
			if err := json.Unmarshal(text, &o); err != nil {
				return nil, err
			}
			d.resolve(&o)
			byTag[o.Tags[0]] = append(byTag[o.Tags[0]], o)
		}
	}
	for i := range d.Tags {
		ops := byTag[d.Tags[i].Name]
		slices.SortFunc(ops, func(a, b operation) int {
			return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Method, b.Method))
		})
		d.Tags[i].Operations = ops
	}
	t, err := template.New("").Parse(pageText)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, d)
	return out.Bytes(), err
}

// resolve puts what o refers to into it.
func (d *described) resolve(o *operation) {
	for i, p := range o.Parameters {
		if p.Ref != "" {
			o.Parameters[i] = d.Components.Parameters[p.last()]
		}
	}
	for status, a := range o.Responses {
		if a.Ref != "" {
			o.Responses[status] = d.Components.Responses[a.last()]
		}
	}
}
