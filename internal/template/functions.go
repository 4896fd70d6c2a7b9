package template

import (
	"fmt"
	"maps"
)

// function is a function whose arguments are evaluated before it runs. most below 0 is no bound.
type function struct {
	least, most int
	run         func(s scope, args []any) (any, error)
}

// functions returns the functions by their names in lower case.
func functions() map[string]function {
	all := map[string]function{}
	for _, part := range []map[string]function{textFunctions(), logicFunctions(), numberFunctions(),
		listFunctions(), deploymentFunctions()} {
		for name, f := range part {
			all[name] = f
		}
	}
	return all
}

// lazies returns the functions that do not evaluate all of their arguments.
func lazies() map[string]func(scope, *node) (any, error) {
	all := lambdas()
	maps.Copy(all, map[string]func(scope, *node) (any, error){
		"if": func(s scope, n *node) (any, error) {
			if len(n.args) != 3 {
				return nil, invalid("if", "The function if is called with %d arguments; it takes 3.",
					len(n.args))
			}
			v, err := s.eval(n.args[0])
			if err != nil {
				return nil, err
			}
			yes, ok := v.(bool)
			if !ok {
				return nil, invalid("if", "The first argument of if is %s; it must be a truth value.",
					describe(v))
			}
			if yes {
				return s.eval(n.args[1])
			}
			return s.eval(n.args[2])
		},
		"and": junction(false),
		"or":  junction(true),
	})
	return all
}

// junction is and (it ends at the first false) or or (at the first true).
func junction(end bool) func(scope, *node) (any, error) {
	return func(s scope, n *node) (any, error) {
		for _, a := range n.args {
			v, err := s.eval(a)
			if err != nil {
				return nil, err
			}
			b, ok := v.(bool)
			if !ok {
				return nil, invalid(n.call, "An argument of %s is %s; it must be a truth value.",
					n.call, describe(v))
			}
			if b == end {
				return end, nil
			}
		}
		return !end, nil
	}
}

// arg returns argument i as a T.
func arg[T any](args []any, i int) (T, error) {
	v, ok := args[i].(T)
	if !ok {
		var want any = v
		return v, &wrong{fmt.Sprintf("has %s as argument %d; it takes %s", describe(args[i]), i+1,
			describe(want))}
	}
	return v, nil
}

// one makes a function of one typed argument.
func one[T any](f func(T) (any, error)) function {
	return function{1, 1, func(_ scope, args []any) (any, error) {
		v, err := arg[T](args, 0)
		if err != nil {
			return nil, err
		}
		return f(v)
	}}
}

// two makes a function of two typed arguments.
func two[A, B any](f func(A, B) (any, error)) function {
	return function{2, 2, func(_ scope, args []any) (any, error) {
		a, err := arg[A](args, 0)
		if err != nil {
			return nil, err
		}
		b, err := arg[B](args, 1)
		if err != nil {
			return nil, err
		}
		return f(a, b)
	}}
}
