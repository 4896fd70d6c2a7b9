package template

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/sandpool/sandpool/internal/template/cidr"
)

func textFunctions() map[string]function {
	return map[string]function{
		"tolower": one(func(s string) (any, error) { return strings.ToLower(s), nil }),
		"toupper": one(func(s string) (any, error) { return strings.ToUpper(s), nil }),
		"trim":    one(func(s string) (any, error) { return strings.TrimSpace(s), nil }),
		"base64": one(func(s string) (any, error) {
			return base64.StdEncoding.EncodeToString([]byte(s)), nil
		}),
		"base64tostring": one(fromBase64),
		"base64tojson": one(func(s string) (any, error) {
			text, err := fromBase64(s)
			if err != nil {
				return nil, err
			}
			return decode([]byte(text.(string)))
		}),
		"uricomponent": one(func(s string) (any, error) { return url.PathEscape(s), nil }),
		"uricomponenttostring": one(func(s string) (any, error) {
			out, err := url.PathUnescape(s)
			if err != nil {
				return nil, &wrong{"has an argument with an invalid escape"}
			}
			return out, nil
		}),
		"uri": two(func(base, rel string) (any, error) {
			if i := strings.LastIndexByte(base, '/'); !strings.HasSuffix(base, "/") && i > 8 {
				base = base[:i+1]
			}
			return strings.TrimSuffix(base, "/") + "/" + strings.TrimPrefix(rel, "/"), nil
		}),
		"startswith": two(func(s, p string) (any, error) {
			return strings.HasPrefix(strings.ToLower(s), strings.ToLower(p)), nil
		}),
		"endswith": two(func(s, p string) (any, error) {
			return strings.HasSuffix(strings.ToLower(s), strings.ToLower(p)), nil
		}),
		"indexof":     {2, 2, indexOf(strings.Index, slices.Index)},
		"lastindexof": {2, 2, indexOf(strings.LastIndex, lastIndex)},
		"datauri": one(func(s string) (any, error) {
			return "data:text/plain;charset=utf8;base64," +
				base64.StdEncoding.EncodeToString([]byte(s)), nil
		}),
		"datauritostring": one(fromDataURI),
		"parsecidr": one(func(s string) (any, error) {
			out, err := cidr.Parse(s)
			if err != nil {
				return nil, &wrong{err.Error()}
			}
			return out, nil
		}),
		"cidrsubnet": {3, 3, cidrSubnet},
		"cidrhost": two(func(s string, n int64) (any, error) {
			out, err := cidr.Host(s, n)
			if err != nil {
				return nil, &wrong{err.Error()}
			}
			return out, nil
		}),
		"replace":   {3, 3, replace},
		"split":     {2, 2, split},
		"join":      two(join),
		"substring": {2, 3, substring},
		"padleft":   {2, 3, padLeft},
		"format":    {1, -1, format},
		"string":    {1, 1, func(_ scope, a []any) (any, error) { return text(a[0]), nil }},
		"json":      one(func(s string) (any, error) { return decode([]byte(s)) }),
		"guid": {1, -1, func(_ scope, a []any) (any, error) {
			all, err := joined(a)
			return GUID(all), err
		}},
		"uniquestring": {1, -1, func(_ scope, a []any) (any, error) {
			all, err := joined(a)
			sum := sha256.Sum256([]byte(all))
			const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
			return base32.NewEncoding(alphabet).EncodeToString(sum[:10])[:13], err
		}},
	}
}

// text is v as the function string writes it.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return map[bool]string{true: "True", false: "False"}[v]
	case int64:
		return strconv.FormatInt(v, 10)
	case nil:
		return ""
	}
	out, _ := json.Marshal(v) // made of JSON
	return string(out)
}

func fromBase64(s string) (any, error) {
	out, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return "", &wrong{"has an argument that is no base64"}
	}
	return string(out), nil
}

// fromDataURI is the text of a data URI (RFC 2397).
func fromDataURI(s string) (any, error) {
	rest, ok := strings.CutPrefix(s, "data:")
	kind, data, comma := strings.Cut(rest, ",")
	if !ok || !comma {
		return nil, &wrong{"has an argument that is no data URI"}
	}
	if strings.HasSuffix(strings.ToLower(kind), ";base64") {
		return fromBase64(data)
	}
	out, err := url.PathUnescape(data)
	if err != nil {
		return nil, &wrong{"has an argument with an invalid escape"}
	}
	return out, nil
}

func cidrSubnet(_ scope, args []any) (any, error) {
	s, err := arg[string](args, 0)
	if err != nil {
		return nil, err
	}
	bits, err := arg[int64](args, 1)
	if err != nil {
		return nil, err
	}
	index, err := arg[int64](args, 2)
	if err != nil {
		return nil, err
	}
	out, err := cidr.Subnet(s, bits, index)
	if err != nil {
		return nil, &wrong{err.Error()}
	}
	return out, nil
}

// indexOf looks for a part of a text, in any case, or for an element of an array.
func indexOf(part func(s, p string) int,
	element func(list []string, e string) int) func(scope, []any) (any, error) {
	return func(_ scope, args []any) (any, error) {
		if list, ok := args[0].([]any); ok {
			names := make([]string, len(list))
			for i, e := range list {
				names[i] = identity(e)
			}
			return int64(element(names, identity(args[1]))), nil
		}
		s, err := arg[string](args, 0)
		if err != nil {
			return nil, err
		}
		p, err := arg[string](args, 1)
		return int64(part(strings.ToLower(s), strings.ToLower(p))), err
	}
}

func lastIndex(list []string, e string) int {
	for i, each := range slices.Backward(list) {
		if each == e {
			return i
		}
	}
	return -1
}

func replace(_ scope, args []any) (any, error) {
	s, err := arg[string](args, 0)
	if err != nil {
		return nil, err
	}
	from, err := arg[string](args, 1)
	if err != nil {
		return nil, err
	}
	to, err := arg[string](args, 2)
	if err != nil {
		return nil, err
	}
	if from == "" || strings.Count(s, from)*(len(to)+1) > maxValue {
		return nil, &wrong{"replaces nothing, or too much"}
	}
	return strings.ReplaceAll(s, from, to), nil
}

func split(_ scope, args []any) (any, error) {
	s, err := arg[string](args, 0)
	if err != nil {
		return nil, err
	}
	by := []any{args[1]}
	if list, ok := args[1].([]any); ok {
		by = list
	}
	parts := []string{s}
	for i := range by {
		sep, err := arg[string](by, i)
		if err != nil || sep == "" {
			return nil, &wrong{"has a delimiter that is no text"}
		}
		var next []string
		for _, p := range parts {
			next = append(next, strings.Split(p, sep)...)
		}
		parts = next
	}
	out := make([]any, len(parts))
	for i, p := range parts {
		out[i] = p
	}
	return out, nil
}

func join(list []any, by string) (any, error) {
	var parts []string
	total := 0
	for _, e := range list {
		parts = append(parts, text(e))
		if total += len(parts[len(parts)-1]) + len(by); total > maxValue {
			return nil, &wrong{"makes too long a text"}
		}
	}
	return strings.Join(parts, by), nil
}

func joined(args []any) (string, error) {
	all := make([]string, len(args))
	for i := range args {
		s, err := arg[string](args, i)
		if err != nil {
			return "", err
		}
		all[i] = s
	}
	return strings.Join(all, "-"), nil
}

func substring(_ scope, args []any) (any, error) {
	s, err := arg[string](args, 0)
	if err != nil {
		return nil, err
	}
	start, err := arg[int64](args, 1)
	if err != nil {
		return nil, err
	}
	runes := []rune(s)
	length := int64(len(runes)) - start
	if len(args) == 3 {
		if length, err = arg[int64](args, 2); err != nil {
			return nil, err
		}
	}
	if start < 0 || length < 0 || start > int64(len(runes)) || length > int64(len(runes))-start {
		return nil, &wrong{fmt.Sprintf("wants %d characters from %d on of a text of %d",
			length, start,
			len(runes))}
	}
	return string(runes[start : start+length]), nil
}

func padLeft(_ scope, args []any) (any, error) {
	width, err := arg[int64](args, 1)
	if err != nil {
		return nil, err
	}
	pad := " "
	if len(args) == 3 {
		if pad, err = arg[string](args, 2); err != nil {
			return nil, err
		}
	}
	s := text(args[0])
	if width > 4096 || len(pad) != 1 {
		return nil, &wrong{"pads to at most 4096 characters, with one character"}
	}
	return strings.Repeat(pad, max(int(max(width, 0))-len(s), 0)) + s, nil
}

// format replaces {0}, {1} and so on; {{ and }} are braces.
func format(_ scope, args []any) (any, error) {
	s, err := arg[string](args, 0)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case (c == '{' || c == '}') && i+1 < len(s) && s[i+1] == c:
			b.WriteByte(c)
			i++
		case c == '{':
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				return nil, &wrong{"has a brace without its end"}
			}
			n, err := strconv.Atoi(s[i+1 : i+end])
			if err != nil || n < 0 || n+1 >= len(args) {
				return nil,
					&wrong{fmt.Sprintf("has the placeholder %q, which is no argument's number",
						clip(s[i:i+end+1]))}
			}
			b.WriteString(text(args[n+1]))
			i += end
		default:
			b.WriteByte(c)
		}
		if b.Len() > maxValue {
			return nil, &wrong{"makes too long a text"}
		}
	}
	return b.String(), nil
}

// GUID is the UUID that Azure makes of a text: version 5 (RFC 9562), in a namespace of its own.
func GUID(text string) string {
	namespace := []byte{0x11, 0xfb, 0x06, 0xfb, 0x71, 0x2d, 0x4d, 0xdd, 0x98, 0xc7,
		0xe7, 0x1b, 0xbd,
		0x58, 0x88, 0x30}
	sum := sha1.Sum(append(namespace, text...))
	u := sum[:16]
	u[6], u[8] = u[6]&0x0f|0x50, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
