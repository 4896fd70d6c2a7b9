package arm

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Unmarshal is json.Unmarshal for requests. It takes numbers and truth values also as text
// ("300", "True"), and whole numbers also as fractions (300.0), because clients send
// them so: az does wherever an option has no type, PowerShell and some JSON writers in their
// own ways. What is still of the wrong type is json.Unmarshal's error.
func Unmarshal(data []byte, into any) error {
	err := json.Unmarshal(data, into)
	var syntax *json.SyntaxError
	if err == nil || errors.As(err, &syntax) {
		return err
	}
	var tree any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&tree); err != nil {
		return err
	}
	target := reflect.ValueOf(into).Elem()
	mended, err := json.Marshal(mend(tree, target.Type()))
	if err != nil {
		return err
	}
	fresh := reflect.New(target.Type()) // the first attempt has left something behind
	if err := json.Unmarshal(mended, fresh.Interface()); err != nil {
		return err
	}
	target.Set(fresh.Elem())
	return nil
}

// mend returns v with its numbers and truth values as t wants them.
func mend(v any, t reflect.Type) any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == reflect.TypeFor[json.Number]() {
		return number(v)
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return v
	}
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return whole(number(v))
	case reflect.Float32, reflect.Float64:
		return number(v)
	case reflect.Bool:
		return truth(v)
	case reflect.Struct:
		if m, ok := v.(map[string]any); ok {
			for name, member := range m {
				if f, ok := fieldOf(t, name); ok {
					m[name] = mend(member, f)
				}
			}
		}
	case reflect.Map:
		if m, ok := v.(map[string]any); ok {
			for name, member := range m {
				m[name] = mend(member, t.Elem())
			}
		}
	case reflect.Slice, reflect.Array:
		if list, ok := v.([]any); ok {
			for i, member := range list {
				list[i] = mend(member, t.Elem())
			}
		}
	}
	return v
}

// fieldOf returns the type of the field of struct t that the JSON name means.
func fieldOf(t reflect.Type, name string) (reflect.Type, bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && tag == "":
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct {
				if found, ok := fieldOf(inner, name); ok {
					return found, true
				}
			}
		case f.IsExported() && strings.EqualFold(cmp.Or(tag, f.Name), name) && tag != "-":
			return f.Type, true
		}
	}
	return nil, false
}

// maxDigits bounds the text of a number: what is longer is none that anybody means.
const maxDigits = 40

// number returns the number that the text v is, and otherwise v.
func number(v any) any {
	s, ok := v.(string)
	if !ok {
		return v
	}
	s = strings.TrimSpace(s)
	n := json.Number(strings.TrimPrefix(s, "+"))
	if len(s) > maxDigits || !json.Valid([]byte(n)) ||
		strings.Trim(string(n), "0123456789.eE+-") != "" {
		return v
	}
	return n
}

// whole returns the number v without a fraction of zero, and otherwise v.
func whole(v any) any {
	n, ok := v.(json.Number)
	if !ok || !strings.ContainsAny(string(n), ".eE") || len(n) > maxDigits {
		return v
	}
	f, err := n.Float64()
	if err != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<53 {
		return v
	}
	return json.Number(strconv.FormatInt(int64(f), 10))
}

// truth returns the truth value that the text v is, and otherwise v.
func truth(v any) any {
	s, ok := v.(string)
	switch {
	case !ok:
	case strings.EqualFold(strings.TrimSpace(s), "true"):
		return true
	case strings.EqualFold(strings.TrimSpace(s), "false"):
		return false
	}
	return v
}

// The bounds of what Unknown returns: a small body can hold very many wrong names.
const (
	maxUnknown     = 20
	maxUnknownPath = 200
)

// Unknown returns the paths, such as properties.a[0].b, of the members of objects in data, which
// is JSON, that into has no place for, in order and at most 20 of them.
func Unknown(data []byte, into any) []string {
	var tree any
	if json.Unmarshal(data, &tree) != nil {
		return nil
	}
	var out []string
	unknown(tree, reflect.TypeOf(into), "", func(path string) bool {
		out = append(out, clip(path, maxUnknownPath))
		return len(out) < maxUnknown
	})
	return out
}

// unknown calls found with each path in v that t has no place for, until that returns false.
func unknown(v any, t reflect.Type, path string, found func(string) bool) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return true
	}
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			at := name
			if path != "" {
				at = path + "." + name
			}
			var member reflect.Type
			var known bool
			switch t.Kind() {
			case reflect.Struct:
				member, known = fieldOf(t, name)
			case reflect.Map:
				member, known = t.Elem(), true
			default:
				return true // anything may be there
			}
			if !known && !found(at) || known && !unknown(v[name], member, at, found) {
				return false
			}
		}
	case []any:
		if t.Kind() != reflect.Slice && t.Kind() != reflect.Array {
			return true
		}
		for i, each := range v {
			if !unknown(each, t.Elem(), fmt.Sprintf("%s[%d]", path, i), found) {
				return false
			}
		}
	}
	return true
}
