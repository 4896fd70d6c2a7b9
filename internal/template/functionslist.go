package template

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

func listFunctions() map[string]function {
	return map[string]function{
		"concat": {1, -1, concat},
		"createarray": {0, -1, func(_ scope, a []any) (any, error) {
			return append([]any{}, a...), nil
		}},
		"createobject": {0, -1, func(_ scope, a []any) (any, error) {
			out := map[string]any{}
			if len(a)%2 != 0 {
				return nil, &wrong{"has a name without a value"}
			}
			for i := 0; i < len(a); i += 2 {
				name, err := arg[string](a, i)
				if err != nil {
					return nil, err
				}
				out[name] = a[i+1]
			}
			return out, nil
		}},
		"array": {1, 1, func(_ scope, a []any) (any, error) {
			if list, ok := a[0].([]any); ok {
				return list, nil
			}
			return []any{a[0]}, nil
		}},
		"length": {1, 1, func(_ scope, a []any) (any, error) {
			n, ok := lengthOf(a[0])
			if !ok {
				return nil, &wrong{"takes a text, an array or an object"}
			}
			return int64(n), nil
		}},
		"empty": {1, 1, func(_ scope, a []any) (any, error) {
			n, ok := lengthOf(a[0])
			return a[0] == nil || ok && n == 0, nil
		}},
		"first":        {1, 1, end(func(n int) int { return 0 })},
		"last":         {1, 1, end(func(n int) int { return n - 1 })},
		"take":         {2, 2, cut(func(n, k int) (int, int) { return 0, k })},
		"skip":         {2, 2, cut(func(n, k int) (int, int) { return k, n })},
		"contains":     {2, 2, contains},
		"union":        {2, -1, union},
		"intersection": {2, -1, intersection},
		"range":        two(rangeOf),
		"flatten": one(func(list []any) (any, error) {
			out := []any{}
			for i := range list {
				inner, err := arg[[]any](list, i)
				if err != nil {
					return nil, err
				}
				out = append(out, inner...)
			}
			return out, nil
		}),
		"items": one(func(m map[string]any) (any, error) {
			out := []any{}
			for _, k := range slices.Sorted(maps.Keys(m)) {
				out = append(out, map[string]any{"key": k, "value": m[k]})
			}
			return out, nil
		}),
		"objectkeys": one(func(m map[string]any) (any, error) {
			out := []any{}
			for _, k := range slices.Sorted(maps.Keys(m)) {
				out = append(out, k)
			}
			return out, nil
		}),
		"tryget": {2, -1, func(_ scope, a []any) (any, error) {
			return follow(a[0], a[1:]), nil
		}},
		"indexfromend":    two(indexFromEnd),
		"tryindexfromend": {2, -1, tryIndexFromEnd},
		"shallowmerge": one(func(list []any) (any, error) {
			out := map[string]any{}
			for i := range list {
				m, err := arg[map[string]any](list, i)
				if err != nil {
					return nil, err
				}
				maps.Copy(out, m)
			}
			return out, nil
		}),
	}
}

func indexFromEnd(list []any, n int64) (any, error) {
	v, ok := fromEnd(list, n)
	if !ok {
		return nil, &wrong{fmt.Sprintf("wants the element %d from the end of an array of %d", n,
			len(list))}
	}
	return v, nil
}

func tryIndexFromEnd(_ scope, a []any) (any, error) {
	if _, err := arg[int64](a, 1); err != nil {
		return nil, err
	}
	v, _ := fromEnd(a[0], a[1])
	return follow(v, a[2:]), nil
}

// fromEnd is an element of an array by its number from the end, where the last one is 1.
func fromEnd(of, number any) (any, bool) {
	list, _ := of.([]any)
	n, ok := number.(int64)
	if !ok || n < 1 || n > int64(len(list)) {
		return nil, false
	}
	return list[len(list)-int(n)], true
}

// follow goes into v, as far as there is something. A key may be an object that counts from the
// end of an array, as Bicep writes [^1] behind a safe access.
func follow(v any, keys []any) any {
	for _, key := range keys {
		counted, _ := key.(map[string]any)
		if n, ok := get(counted, "value"); ok {
			if from, _ := get(counted, "fromEnd"); from == true {
				v, _ = fromEnd(v, n)
				continue
			}
			key = n
		}
		v, _ = get(v, key)
	}
	return v
}

func lengthOf(v any) (int, bool) {
	switch v := v.(type) {
	case string:
		return len([]rune(v)), true
	case []any:
		return len(v), true
	case map[string]any:
		return len(v), true
	}
	return 0, false
}

func concat(_ scope, args []any) (any, error) {
	if _, ok := args[0].([]any); ok {
		out := []any{}
		for i := range args {
			list, err := arg[[]any](args, i)
			if err != nil {
				return nil, err
			}
			out = append(out, list...)
		}
		return out, nil
	}
	var b strings.Builder
	for _, a := range args {
		switch a.(type) {
		case []any, map[string]any, nil:
			return nil, &wrong{"joins texts, or arrays, and not " + describe(a)}
		}
		if b.WriteString(text(a)); b.Len() > maxValue {
			return nil, &wrong{"makes too long a text"}
		}
	}
	return b.String(), nil
}

// end picks one element or character.
func end(at func(n int) int) func(scope, []any) (any, error) {
	return func(_ scope, args []any) (any, error) {
		switch v := args[0].(type) {
		case []any:
			if len(v) == 0 {
				return nil, nil
			}
			return v[at(len(v))], nil
		case string:
			runes := []rune(v)
			if len(runes) == 0 {
				return "", nil
			}
			return string(runes[at(len(runes))]), nil
		}
		return nil, &wrong{"takes a text or an array, and not " + describe(args[0])}
	}
}

// cut picks elements or characters.
func cut(part func(n, k int) (from, to int)) func(scope, []any) (any, error) {
	return func(_ scope, args []any) (any, error) {
		count, err := arg[int64](args, 1)
		if err != nil {
			return nil, err
		}
		n, _ := lengthOf(args[0])
		from, to := part(n, int(min(max(count, 0), int64(n))))
		switch v := args[0].(type) {
		case []any:
			return v[from:to:to], nil
		case string:
			return string([]rune(v)[from:to]), nil
		}
		return nil, &wrong{"takes a text or an array, and not " + describe(args[0])}
	}
}

func contains(_ scope, args []any) (any, error) {
	switch in := args[0].(type) {
	case string:
		part, err := arg[string](args, 1)
		return strings.Contains(in, part), err
	case []any:
		return slices.ContainsFunc(in, func(e any) bool {
			return reflect.DeepEqual(e, args[1])
		}), nil
	case map[string]any:
		_, ok := get(in, args[1])
		return ok, nil
	}
	return nil, &wrong{"looks in a text, an array or an object, and not in " + describe(args[0])}
}

// identity is what tells v from other elements of a set.
func identity(v any) string {
	if t, ok := v.(string); ok {
		return "s" + t
	}
	return text(v)
}

func union(_ scope, args []any) (any, error) {
	if _, ok := args[0].(map[string]any); ok {
		out := map[string]any{}
		for i := range args {
			m, err := arg[map[string]any](args, i)
			if err != nil {
				return nil, err
			}
			deepMerge(out, m)
		}
		return out, nil
	}
	out, seen := []any{}, map[string]bool{}
	for i := range args {
		list, err := arg[[]any](args, i)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			if key := identity(e); !seen[key] {
				seen[key] = true
				out = append(out, e)
			}
		}
	}
	return out, nil
}

// deepMerge puts the members of from into into. Objects within objects are merged, and are copied
// first: they may be those of a variable.
func deepMerge(into, from map[string]any) {
	for k, v := range from {
		inner, ok := v.(map[string]any)
		have, both := into[k].(map[string]any)
		if !ok || !both {
			into[k] = v
			continue
		}
		merged := maps.Clone(have)
		deepMerge(merged, inner)
		into[k] = merged
	}
}

func intersection(_ scope, args []any) (any, error) {
	first, ok := args[0].([]any)
	if !ok {
		return nil, &wrong{"takes arrays, and not " + describe(args[0])}
	}
	in := map[string]int{} // how many of the arrays have an element
	for i := range args {
		list, err := arg[[]any](args, i)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			if key := identity(e); in[key] == i {
				in[key]++
			}
		}
	}
	out := []any{}
	for _, e := range first {
		if in[identity(e)] == len(args) {
			out = append(out, e)
		}
	}
	return out, nil
}

func rangeOf(start, count int64) (any, error) {
	if count < 0 || count > 10_000 || start > 1<<31 || start < -1<<31 {
		return nil, &wrong{"makes up to 10000 numbers"}
	}
	out := make([]any, count)
	for i := range out {
		out[i] = start + int64(i)
	}
	return out, nil
}
