package template

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// lambda is a function that stands in an expression, as the argument of another one.
type lambda func(args ...any) (any, error)

// lambdas returns the functions that take one.
func lambdas() map[string]func(scope, *node) (any, error) {
	return map[string]func(scope, *node) (any, error){
		"map":       over(mapOver),
		"filter":    over(filter),
		"reduce":    reduce,
		"sort":      over(sortBy),
		"toobject":  over(toObject),
		"groupby":   over(groupBy),
		"mapvalues": mapValues,
	}
}

// lambda reads lambda('name', …, value), with least to most names.
func (s scope) lambda(n *node, most int) (lambda, error) {
	if !strings.EqualFold(n.call, "lambda") || len(n.args) < 2 || len(n.args) > most+1 {
		return nil, &wrong{"takes a lambda there, with one to a few names"}
	}
	var names []string
	for _, a := range n.args[:len(n.args)-1] {
		name, ok := a.literal.(string)
		if !ok {
			return nil, &wrong{"takes a lambda whose names are in quotes"}
		}
		names = append(names, strings.ToLower(name))
	}
	value := n.args[len(n.args)-1]
	return func(args ...any) (any, error) {
		inner := s
		inner.bound = maps.Clone(s.bound)
		if inner.bound == nil {
			inner.bound = map[string]any{}
		}
		for i, name := range names {
			inner.bound[name] = args[i]
		}
		return inner.eval(value)
	}, nil
}

// over is a function of a list and of lambdas.
func over(run func(s scope, list []any, lambdas []*node) (any, error)) func(scope, *node) (any,
	error) {
	return func(s scope, n *node) (any, error) {
		if len(n.args) < 2 || len(n.args) > 3 {
			return nil, invalid(n.call, "The function %s is called with %d arguments.", n.call,
				len(n.args))
		}
		v, err := s.eval(n.args[0])
		if err != nil {
			return nil, err
		}
		list, ok := v.([]any)
		if !ok {
			return nil, invalid(n.call, "The first argument of %s is %s; it must be an array.",
				n.call, describe(v))
		}
		out, err := run(s, list, n.args[1:])
		if err != nil {
			return nil, named(err, n.call)
		}
		return s.made(n.call, out)
	}
}

// each calls one lambda, which takes an element and, if it wants that, its index, for every one.
func (s scope) each(list []any, with *node, do func(element, result any) error) error {
	f, err := s.lambda(with, 2)
	if err != nil {
		return err
	}
	for i, e := range list {
		v, err := f(e, int64(i))
		if err == nil {
			err = do(e, v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func mapOver(s scope, list []any, with []*node) (any, error) {
	out := []any{}
	return out, s.each(list, with[0], func(_, v any) error { out = append(out, v); return nil })
}

func filter(s scope, list []any, with []*node) (any, error) {
	out := []any{}
	err := s.each(list, with[0], func(e, v any) error {
		keep, ok := v.(bool)
		if !ok {
			return &wrong{"takes a lambda that gives a truth value, and not " + describe(v)}
		}
		if keep {
			out = append(out, e)
		}
		return nil
	})
	return out, err
}

func sortBy(s scope, list []any, with []*node) (any, error) {
	f, err := s.lambda(with[0], 2)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(list)
	slices.SortStableFunc(out, func(a, b any) int {
		before := func(a, b any) bool {
			v, failed := f(a, b)
			less, ok := v.(bool)
			if failed == nil && !ok {
				failed = &wrong{"takes a lambda that gives a truth value, and not " + describe(v)}
			}
			err = cmp.Or(err, failed)
			return less
		}
		switch {
		case err != nil:
			return 0
		case before(a, b):
			return -1
		case before(b, a):
			return 1
		}
		return 0
	})
	return out, err
}

// key calls do with the text that the first lambda gives of each element.
func (s scope) key(list []any, with *node, do func(key string, element any) error) error {
	return s.each(list, with, func(e, v any) error {
		key, ok := v.(string)
		if !ok {
			return &wrong{"takes a lambda that gives a string, and not " + describe(v)}
		}
		return do(key, e)
	})
}

func toObject(s scope, list []any, with []*node) (any, error) {
	value := lambda(func(args ...any) (any, error) { return args[0], nil })
	if len(with) > 1 {
		var err error
		if value, err = s.lambda(with[1], 1); err != nil {
			return nil, err
		}
	}
	out := map[string]any{}
	err := s.key(list, with[0], func(key string, e any) (err error) {
		if _, twice := out[key]; twice {
			return &wrong{"makes two members of one name"}
		}
		out[key], err = value(e)
		return err
	})
	return out, err
}

func groupBy(s scope, list []any, with []*node) (any, error) {
	out := map[string]any{}
	err := s.key(list, with[0], func(key string, e any) error {
		group, _ := out[key].([]any)
		out[key] = append(group, e)
		return nil
	})
	return out, err
}

func reduce(s scope, n *node) (any, error) {
	if len(n.args) != 3 {
		return nil, invalid(n.call, "The function reduce is called with %d arguments.", len(n.args))
	}
	v, err := s.eval(n.args[0])
	if err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok {
		return nil, invalid(n.call, "The first argument of reduce is %s; it must be an array.",
			describe(v))
	}
	out, err := s.eval(n.args[1])
	if err != nil {
		return nil, err
	}
	f, err := s.lambda(n.args[2], 3)
	for i, e := range list {
		if err != nil {
			break
		}
		if out, err = f(out, e, int64(i)); err == nil {
			out, err = s.made(n.call, out)
		}
	}
	if err != nil {
		return nil, named(err, n.call)
	}
	return out, nil
}

func mapValues(s scope, n *node) (any, error) {
	if len(n.args) != 2 {
		return nil, invalid(n.call, "The function mapValues is called with %d arguments.",
			len(n.args))
	}
	v, err := s.eval(n.args[0])
	if err != nil {
		return nil, err
	}
	of, ok := v.(map[string]any)
	if !ok {
		return nil, invalid(n.call, "The first argument of mapValues is %s; it must be an object.",
			describe(v))
	}
	f, err := s.lambda(n.args[1], 1)
	if err != nil {
		return nil, named(err, n.call)
	}
	out := make(map[string]any, len(of))
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if out[name], err = f(of[name]); err != nil {
			return nil, named(err, n.call)
		}
	}
	return s.made(n.call, out)
}
