package template

import (
	"math"
	"reflect"
	"strconv"
	"strings"
)

func logicFunctions() map[string]function {
	constant := func(v any) function {
		return function{0, 0, func(scope, []any) (any, error) { return v, nil }}
	}
	return map[string]function{
		"true":  constant(true),
		"false": constant(false),
		"null":  constant(nil),
		"not":   one(func(b bool) (any, error) { return !b, nil }),
		"equals": {2, 2, func(_ scope, a []any) (any, error) {
			return reflect.DeepEqual(folded(a[0]), folded(a[1])), nil
		}},
		"less":            compare(func(c int) bool { return c < 0 }),
		"lessorequals":    compare(func(c int) bool { return c <= 0 }),
		"greater":         compare(func(c int) bool { return c > 0 }),
		"greaterorequals": compare(func(c int) bool { return c >= 0 }),
		"coalesce": {1, -1, func(_ scope, a []any) (any, error) {
			for _, v := range a {
				if v != nil {
					return v, nil
				}
			}
			return nil, nil
		}},
		"bool": {1, 1, func(_ scope, a []any) (any, error) {
			switch v := a[0].(type) {
			case bool:
				return v, nil
			case int64:
				return v != 0, nil
			case string:
				if b, err := strconv.ParseBool(strings.ToLower(v)); err == nil {
					return b, nil
				}
			}
			return nil, &wrong{"has an argument that is no truth value"}
		}},
	}
}

// folded is v with numbers of one type, for comparison. Texts are compared exactly, as Azure does.
func folded(v any) any {
	if n, ok := v.(int64); ok {
		return float64(n)
	}
	return v
}

func compare(holds func(int) bool) function {
	return function{2, 2, func(_ scope, args []any) (any, error) {
		if a, ok := args[0].(string); ok {
			b, err := arg[string](args, 1)
			return holds(strings.Compare(a, b)), err
		}
		a, err := arg[int64](args, 0)
		if err != nil {
			return nil, err
		}
		b, err := arg[int64](args, 1)
		switch {
		case err != nil:
			return nil, err
		case a < b:
			return holds(-1), nil
		case a > b:
			return holds(1), nil
		}
		return holds(0), nil
	}}
}

func numberFunctions() map[string]function {
	op := func(f func(a, b int64) (int64, bool)) function {
		return two(func(a, b int64) (any, error) {
			v, ok := f(a, b)
			if !ok {
				return nil, &wrong{"divides by zero or leaves the range of 64 bits"}
			}
			return v, nil
		})
	}
	return map[string]function{
		"add": op(func(a, b int64) (int64, bool) { c := a + b; return c, (c > a) == (b > 0) }),
		"sub": op(func(a, b int64) (int64, bool) { c := a - b; return c, (c < a) == (b > 0) }),
		"mul": op(func(a, b int64) (int64, bool) {
			if a == 0 || b == 0 {
				return 0, true
			}
			c := a * b
			return c, c/b == a && (a != -1 || b != c) && (b != -1 || a != c)
		}),
		"div": op(func(a, b int64) (int64, bool) {
			if b == 0 || b == -1 && a == -a && a != 0 {
				return 0, false
			}
			return a / b, true
		}),
		"mod": op(func(a, b int64) (int64, bool) {
			if b == 0 {
				return 0, false
			}
			return a % b, true
		}),
		"min": {1, -1, extreme(func(a, b int64) bool { return a < b })},
		"max": {1, -1, extreme(func(a, b int64) bool { return a > b })},
		"float": {1, 1, func(_ scope, a []any) (any, error) {
			switch v := a[0].(type) {
			case int64:
				return float64(v), nil
			case float64:
				return v, nil
			case string:
				n, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
				if err == nil && !math.IsInf(n, 0) && !math.IsNaN(n) {
					return n, nil
				}
			}
			return nil, &wrong{"has an argument that is no number"}
		}},
		"int": {1, 1, func(_ scope, a []any) (any, error) {
			switch v := a[0].(type) {
			case int64:
				return v, nil
			case float64:
				return int64(v), nil
			case string:
				if n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil {
					return n, nil
				}
			}
			return nil, &wrong{"has an argument that is no whole number"}
		}},
	}
}

func extreme(better func(a, b int64) bool) func(scope, []any) (any, error) {
	return func(_ scope, args []any) (any, error) {
		if list, ok := args[0].([]any); ok && len(args) == 1 && len(list) > 0 {
			args = list
		}
		best, err := arg[int64](args, 0)
		if err != nil {
			return nil, err
		}
		for i := range args {
			n, err := arg[int64](args, i)
			if err != nil {
				return nil, err
			}
			if better(n, best) {
				best = n
			}
		}
		return best, nil
	}
}
