package template

import (
	"maps"
	"slices"
	"strings"
)

// ownFunction is a function that the template defines.
type ownFunction struct {
	parameters []string // in lower case
	value      any
}

// readFunctions reads the functions that the template defines, by namespace and name.
func (d *Deployment) readFunctions() error {
	bad := func(what string) error {
		return invalid("functions", "The functions of a template are a list of namespaces with "+
			"members, and %s.", what)
	}
	all := member(d.in.Template, "functions")
	list, ok := all.([]any)
	if all != nil && !ok {
		return bad("these are " + describe(all))
	}
	d.own = map[string]ownFunction{}
	for _, each := range list {
		in, _ := each.(map[string]any)
		space, _ := member(in, "namespace").(string)
		members, ok := member(in, "members").(map[string]any)
		if space == "" || !ok {
			return bad("one of these lacks its namespace or its members")
		}
		for _, name := range slices.Sorted(maps.Keys(members)) {
			define, _ := members[name].(map[string]any)
			output, _ := member(define, "output").(map[string]any)
			value, has := get(output, "value")
			if !has {
				return bad("the function " + clip(name) + " has no value of its output")
			}
			f := ownFunction{value: value}
			parameters, _ := member(define, "parameters").([]any)
			for _, p := range parameters {
				m, _ := p.(map[string]any)
				text, ok := member(m, "name").(string)
				if !ok {
					return bad("a parameter of the function " + clip(name) + " has no name")
				}
				f.parameters = append(f.parameters, strings.ToLower(text))
			}
			d.own[strings.ToLower(space+"."+name)] = f
		}
	}
	return nil
}

// callOwn calls a function of the template's own. It sees its parameters alone.
func (s scope) callOwn(n *node, f ownFunction) (any, error) {
	if len(n.args) != len(f.parameters) {
		return nil, invalid(n.call, "The function %s is called with %d arguments; it takes %d.",
			clip(n.call), len(n.args), len(f.parameters))
	}
	if s.depth > maxDepth {
		return nil, invalid(n.call, "The function %s calls itself.", clip(n.call))
	}
	inner := scope{d: s.d, depth: s.depth + 1, own: map[string]any{}}
	for i, a := range n.args {
		v, err := s.eval(a)
		if err != nil {
			return nil, err
		}
		inner.own[f.parameters[i]] = v
	}
	v, err := inner.value(f.value, false)
	if err != nil {
		return nil, err
	}
	return s.made(n.call, v)
}
