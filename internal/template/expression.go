package template

import (
	"errors"
	"strings"
)

const (
	// maxSteps bounds the values, calls and members that one Deployment computes.
	maxSteps = 400_000
	// maxValue bounds what one function returns, and maxMade what all of them return together.
	maxValue = 1 << 20
	maxMade  = 64 << 20
	// maxNesting bounds how deep values are within values: what is kept must be read again,
	// and decoders of JSON have a bound of their own.
	maxNesting = 200
)

// errUnknown is the error of an expression whose value is not known before the deployment: that
// of a resource.
var errUnknown = errors.New("the value is known only when it is deployed")

// Needs is the error of an expression that refers to a resource of the template which is not
// deployed yet.
type Needs struct {
	// Index is the resource's place in Deployment.Resources.
	Index int
}

// Error implements error.
func (n *Needs) Error() string { return "a resource of the template is not deployed yet" }

// scope is where an expression stands.
type scope struct {
	d *Deployment
	// copies are the indices of the copy loops around it, by lower-case name; "" is the innermost.
	copies map[string]int64
	// defaults is set in the default values of parameters, where some functions are allowed.
	defaults bool
	// bound are the values of the names of lambdas around it, by lower-case name.
	bound map[string]any
	// own are the parameters of the template's own function that it stands in; nil means none.
	own map[string]any
	// depth counts variables and parameters that refer to others.
	depth int
}

// text evaluates a string of the template.
func (s scope) text(v string) (any, error) {
	switch {
	case strings.HasPrefix(v, "[["):
		return v[1:], nil
	case !isExpression(v):
		return v, nil
	}
	if err := s.d.spend(len(v)); err != nil {
		return nil, err
	}
	n, err := parse(v)
	if err != nil {
		return nil, err
	}
	return s.eval(n)
}

// step counts one value that is computed.
func (d *Deployment) step() error {
	if d.steps++; d.steps > maxSteps {
		return invalid("", "The template takes more than %d steps to evaluate.", maxSteps)
	}
	return nil
}

// spend counts bytes that are read or made.
func (d *Deployment) spend(bytes int) error {
	if d.made += bytes; d.made > maxMade {
		return invalid("",
			"The values of the template's expressions have more than %d bytes together.", maxMade)
	}
	return nil
}

func (s scope) eval(n *node) (any, error) {
	if err := s.d.step(); err != nil {
		return nil, err
	}
	switch {
	case n.of != nil:
		return s.member(n)
	case n.call != "":
		return s.call(n)
	}
	return n.literal, nil
}

func (s scope) member(n *node) (any, error) {
	of, err := s.eval(n.of)
	if err != nil {
		return nil, err
	}
	key, err := s.eval(n.key)
	if err != nil {
		return nil, err
	}
	v, ok := get(of, key)
	if !ok {
		return nil, invalid("",
			"An expression wants the member %v of %s, which has none of that name.",
			key, describe(of))
	}
	return v, nil
}

// get returns the member of an object, in any case, or the element of an array.
func get(of, key any) (any, bool) {
	switch of := of.(type) {
	case map[string]any:
		name, ok := key.(string)
		if !ok {
			return nil, false
		}
		if v, ok := of[name]; ok {
			return v, true
		}
		for k, v := range of {
			if strings.EqualFold(k, name) {
				return v, true
			}
		}
	case []any:
		if i, ok := key.(int64); ok && i >= 0 && i < int64(len(of)) {
			return of[i], true
		}
	}
	return nil, false
}

func describe(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "a truth value"
	case int64, float64:
		return "a number"
	case []any:
		return "an array"
	}
	return "an object"
}

func (s scope) call(n *node) (any, error) {
	name := strings.ToLower(n.call)
	if lazy, ok := s.d.lazies[name]; ok {
		return lazy(s, n)
	}
	if own, ok := s.d.own[name]; ok {
		return s.callOwn(n, own)
	}
	f, ok := s.d.functions[name]
	if !ok {
		return nil, invalid(n.call, "The function %q is not supported. Work its value out "+
			"beforehand and give it as a parameter.", n.call)
	}
	args := make([]any, len(n.args))
	for i, a := range n.args {
		v, err := s.eval(a)
		if err != nil {
			return nil, err
		}
		args[i] = v
	}
	if len(args) < f.least || f.most >= 0 && len(args) > f.most {
		return nil, invalid(n.call, "The function %s is called with %d arguments.",
			n.call, len(args))
	}
	v, err := f.run(s, args)
	if err != nil {
		return nil, named(err, n.call)
	}
	return s.made(n.call, v)
}

// made holds what a function returns to its bounds.
func (s scope) made(function string, v any) (any, error) {
	bytes, ok := size(v, maxValue, maxNesting)
	if !ok || bytes > maxValue {
		return nil, invalid(function, "The function %s makes more than %d bytes, or a value that "+
			"is more than %d deep.", clip(function), maxValue, maxNesting)
	}
	return v, s.d.spend(bytes)
}

// wrong is the error of a function about its arguments; call names the function.
type wrong struct{ what string }

func (w *wrong) Error() string { return w.what }

func named(err error, function string) error {
	var w *wrong
	if errors.As(err, &w) {
		return invalid(function, "The function %s %s.", function, w.what)
	}
	return err
}

// size is about how many bytes v has in memory, and whether it is at most deep levels deep; it
// stops counting beyond bound.
func size(v any, bound, deep int) (n int, ok bool) {
	const each = 16 // an empty text takes room too
	n, ok = each, deep >= 0
	add := func(e any) bool {
		more, fits := size(e, bound, deep-1)
		n, ok = n+more, fits
		return ok && n <= bound
	}
	switch v := v.(type) {
	case string:
		n += len(v)
	case []any:
		for _, e := range v {
			if !ok || !add(e) {
				break
			}
		}
	case map[string]any:
		for k, e := range v {
			if n += each + len(k); !ok || !add(e) {
				break
			}
		}
	}
	return n, ok
}

// value evaluates every string in v, names of members too. A member whose value is not known yet
// keeps its expression if unknown may be.
func (s scope) value(v any, unknown bool) (any, error) {
	if err := s.d.step(); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case string:
		out, err := s.text(v)
		if errors.Is(err, errUnknown) && unknown {
			return v, nil
		}
		return out, err
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			var err error
			if out[i], err = s.value(e, unknown); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		return s.object(v, unknown)
	}
	return v, nil
}

func (s scope) object(v map[string]any, unknown bool) (any, error) {
	out := make(map[string]any, len(v))
	for k, e := range v {
		if loops, ok := e.([]any); ok && strings.EqualFold(k, "copy") && isCopy(loops) {
			if err := s.copyInto(out, loops, unknown); err != nil {
				return nil, err
			}
			continue
		}
		name, err := s.text(k)
		if errors.Is(err, errUnknown) && unknown {
			name, err = k, nil
		}
		if err != nil {
			return nil, err
		}
		text, ok := name.(string)
		if !ok {
			return nil, invalid("", "The name %q is not a string when it is evaluated.", clip(k))
		}
		if out[text], err = s.value(e, unknown); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// isCopy tells the copies of properties from a property that is called copy.
func isCopy(loops []any) bool {
	for _, l := range loops {
		m, ok := l.(map[string]any)
		if !ok || m["input"] == nil || m["count"] == nil || m["name"] == nil {
			return false
		}
	}
	return len(loops) > 0
}

// copyInto makes the properties that a property copy describes.
func (s scope) copyInto(out map[string]any, loops []any, unknown bool) error {
	for _, l := range loops {
		loop, _ := l.(map[string]any)
		name, count, err := s.loop(loop)
		if err != nil {
			return err
		}
		list := make([]any, count)
		for i := range list {
			if list[i], err = s.in(name, int64(i)).value(loop["input"], unknown); err != nil {
				return err
			}
		}
		out[name] = list
	}
	return nil
}

// in is s within a copy loop.
func (s scope) in(loop string, index int64) scope {
	copies := map[string]int64{"": index, strings.ToLower(loop): index}
	for k, v := range s.copies {
		if _, ok := copies[k]; !ok {
			copies[k] = v
		}
	}
	s.copies = copies
	return s
}

// loop reads the name and the count of a copy.
func (s scope) loop(m map[string]any) (name string, count int64, err error) {
	v, err := s.value(m["name"], false)
	if err != nil {
		return "", 0, err
	}
	name, ok := v.(string)
	if v, err = s.value(m["count"], false); err != nil {
		return "", 0, err
	}
	count, isNumber := v.(int64)
	if !ok || !isNumber || count < 0 || count > maxResources {
		return "", 0, invalid("copy", "A copy needs a name and a count from 0 to %d.", maxResources)
	}
	return name, count, nil
}
