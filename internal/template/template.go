package template

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// maxResources bounds the resources of a template, and the elements of a copy, as Azure does.
const maxResources = 800

// maxID bounds the id of a resource, which is kept with what became of it.
const maxID = 1024

// Input is what a template is evaluated with.
type Input struct {
	// Template is the template, and Parameters the values, each as {"value": …}.
	Template, Parameters map[string]any
	// Name is that of the deployment; Mode is Incremental or Complete.
	Name, Mode                          string
	Subscription, ResourceGroup, Tenant string
	// Group is what the function resourceGroup returns.
	Group map[string]any
	// Deployer is the object id of the principal who deploys.
	Deployer string
	// BaseURL is the server's address.
	BaseURL string
	// Time is when the deployment began; Unique is a text of its own, which new GUIDs are made of,
	// so that an evaluation that begins again gives the same.
	Time   time.Time
	Unique string
	// Get returns a resource that is deployed; nil means that none can be asked for yet.
	Get func(id, apiVersion string) (map[string]any, error)
}

// Resource is a resource that a template deploys.
type Resource struct {
	ID, Type, Name, APIVersion string
	// Symbol is its name within the template, and Loop that of its copy; empty means none.
	Symbol, Loop string
	// Wanted is false if its condition is false. Existing ones are referred to and not deployed.
	Wanted, Existing bool
	// After are the places in Deployment.Resources of those that come first.
	After []int
	// Done says that it is deployed, which the caller sets.
	Done bool

	body    map[string]any
	depends []any
	in      scope
}

// Deployment is a template with its input.
type Deployment struct {
	// Resources are those of the template, copies expanded.
	Resources []*Resource

	in         Input
	raw        map[string]any
	parameters map[string]declared
	variables  map[string]any
	known      map[string]any // variables that were evaluated, by lower-case name
	outputs    map[string]any
	functions  map[string]function
	lazies     map[string]func(scope, *node) (any, error)
	own        map[string]ownFunction // by namespace and name, in lower case
	places     map[string]int         // of resources, by what find looks for
	found      int                    // resources that are in places
	steps      int                    // see maxSteps
	made       int                    // see maxMade
	fresh      int
}

// declared is a parameter.
type declared struct {
	kind   string
	value  any
	set    bool
	define map[string]any
}

// sections are the parts of a template.
var sections = []string{"$schema", "contentVersion", "languageVersion", "apiProfile", "metadata",
	"parameters", "variables", "functions", "resources", "outputs", "definitions", "imports"}

// New reads a template, checks its parameters and expands its resources. Errors name what is not
// supported.
func New(in Input) (*Deployment, error) {
	d := &Deployment{in: in, raw: in.Template, known: map[string]any{},
		functions: functions(), lazies: lazies()}
	if in.Template == nil {
		return nil, invalid("template", "The deployment has no template; send one in "+
			"properties.template.")
	}
	for name := range in.Template {
		if !slices.ContainsFunc(sections, func(s string) bool {
			return strings.EqualFold(s, name)
		}) {
			return nil, invalid(name, "A template has no part %q; it has %s.", clip(name),
				strings.Join(sections, ", "))
		}
	}
	if n, _ := lengthOf(member(in.Template, "imports")); n > 0 {
		return nil, invalid("imports", "The part \"imports\" of templates is not supported.")
	}
	if err := d.readFunctions(); err != nil {
		return nil, err
	}
	variables, ok := orEmpty(member(in.Template, "variables"))
	outputs, ok2 := orEmpty(member(in.Template, "outputs"))
	if !ok || !ok2 {
		return nil, invalid("variables", "The variables and the outputs of a template are objects.")
	}
	d.variables, d.outputs = variables, outputs
	if err := d.readParameters(); err != nil {
		return nil, err
	}
	if err := d.expand(); err != nil {
		return nil, err
	}
	return d, nil
}

func member(m map[string]any, name string) any {
	v, _ := get(m, name)
	return v
}

func orEmpty(v any) (map[string]any, bool) {
	if v == nil {
		return map[string]any{}, true
	}
	m, ok := v.(map[string]any)
	return m, ok
}

// types are the types of parameters and outputs, by their names in lower case.
var types = map[string]func(any) bool{
	"string": isA[string], "securestring": isA[string], "bool": isA[bool], "int": isA[int64],
	"array": isA[[]any], "object": isA[map[string]any], "secureobject": isA[map[string]any],
}

func isA[T any](v any) bool { _, ok := v.(T); return ok }

func (d *Deployment) readParameters() error {
	declaredOnes, ok := orEmpty(member(d.in.Template, "parameters"))
	if !ok {
		return invalid("parameters", "The parameters of a template are an object.")
	}
	d.parameters = map[string]declared{}
	for _, name := range slices.Sorted(maps.Keys(declaredOnes)) {
		define, _ := declaredOnes[name].(map[string]any)
		define, err := d.defined(define, name)
		if err != nil {
			return err
		}
		kind, _ := member(define, "type").(string)
		if types[strings.ToLower(kind)] == nil {
			return invalid(name,
				"The parameter %q has the type %q; use string, securestring, int, bool, "+
					"array, object or secureobject.", name, clip(kind))
		}
		d.parameters[strings.ToLower(name)] = declared{kind: strings.ToLower(kind), define: define}
	}
	for _, name := range slices.Sorted(maps.Keys(d.in.Parameters)) {
		p, ok := d.parameters[strings.ToLower(name)]
		if !ok {
			return invalid(name, "The parameter %q is not one of the template.", name)
		}
		given, _ := d.in.Parameters[name].(map[string]any)
		value, has := get(given, "value")
		if !has {
			return invalid(name,
				"The parameter %q has no value; send {\"value\": …}. References to a key "+
					"vault are not supported.", name)
		}
		p.value, p.set = value, value != nil
		d.parameters[strings.ToLower(name)] = p
	}
	for _, name := range slices.Sorted(maps.Keys(d.parameters)) {
		v, _, err := d.parameter(scope{d: d}, name)
		if err != nil {
			return err
		}
		if err := check(name, d.parameters[name], v); err != nil {
			return err
		}
	}
	return nil
}

// definitionsBelow begins the references to the types that a template defines.
const definitionsBelow = "#/definitions/"

// defined is the definition of a parameter or an output with what it takes from the types that the
// template defines, as Bicep writes types of the user's own. What it says itself counts for more.
func (d *Deployment) defined(define map[string]any, name string) (map[string]any, error) {
	for deep := 0; ; deep++ {
		ref, ok := member(define, "$ref").(string)
		if !ok {
			return define, nil
		}
		kind, ok := strings.CutPrefix(ref, definitionsBelow)
		all, _ := member(d.in.Template, "definitions").(map[string]any)
		from, found := member(all, kind).(map[string]any)
		if !ok || !found || deep > maxDepth {
			return nil, invalid(name, "The type of %q is %q, which the template does not define.",
				clip(name), clip(ref))
		}
		out := maps.Clone(from)
		for k, v := range define {
			if !strings.EqualFold(k, "$ref") {
				out[k] = v
			}
		}
		define = out
	}
}

// parameter returns the value of a parameter, that of its default if none was given.
func (d *Deployment) parameter(s scope, name string) (any, bool, error) {
	key := strings.ToLower(name)
	p, ok := d.parameters[key]
	if !ok || p.set {
		return p.value, ok, nil
	}
	def, has := get(p.define, "defaultValue")
	if !has {
		if nullable, _ := member(p.define, "nullable").(bool); nullable {
			return nil, true, nil
		}
		return nil, true, invalid(name,
			"The parameter %q has no value and no default; give it one.", name)
	}
	v, err := scope{d: d, defaults: true, depth: s.depth}.value(def, false)
	if err != nil {
		return nil, true, err
	}
	p.value, p.set = v, true // a time or a GUID stays the same
	d.parameters[key] = p
	return v, true, nil
}

// check compares a parameter with what its definition allows.
func check(name string, p declared, v any) error {
	nullable, _ := member(p.define, "nullable").(bool)
	if v == nil && nullable {
		return nil
	}
	if !types[p.kind](v) {
		return invalid(name, "The parameter %q is %s; it must be of type %s.", name,
			describe(v), p.kind)
	}
	if allowed, ok := member(p.define, "allowedValues").([]any); ok {
		found, _ := contains(scope{}, []any{allowed, v})
		if found != true {
			return invalid(name, "The parameter %q has a value that is not one of %s.", name,
				text(allowed))
		}
	}
	n, _ := lengthOf(v)
	for limit, bad := range map[string]func(int64) bool{
		"minLength": func(l int64) bool { return p.kind != "int" && int64(n) < l },
		"maxLength": func(l int64) bool { return p.kind != "int" && int64(n) > l },
		"minValue":  func(l int64) bool { i, ok := v.(int64); return ok && i < l },
		"maxValue":  func(l int64) bool { i, ok := v.(int64); return ok && i > l },
	} {
		if l, ok := member(p.define, limit).(int64); ok && bad(l) {
			return invalid(name, "The parameter %q breaks its %s, %d.", name, limit, l)
		}
	}
	return nil
}

// variable returns the value of a variable.
func (d *Deployment) variable(s scope, name string) (any, bool, error) {
	key := strings.ToLower(name)
	if v, ok := d.known[key]; ok {
		return v, true, nil
	}
	inner := scope{d: d, depth: s.depth}
	if v, ok := get(d.variables, name); ok && key != "copy" {
		out, err := inner.value(v, false)
		if err == nil {
			d.known[key] = out
		}
		return out, true, err
	}
	loops, _ := member(d.variables, "copy").([]any)
	for _, l := range loops {
		m, _ := l.(map[string]any)
		if n, _ := member(m, "name").(string); strings.EqualFold(n, name) {
			made := map[string]any{}
			err := inner.copyInto(made, []any{m}, false)
			v := member(made, name)
			if err == nil {
				d.known[key] = v
			}
			return v, true, err
		}
	}
	return nil, false, nil
}

// Parameters returns the parameters' values as deployments show them, without those of the secure
// ones.
func (d *Deployment) Parameters() map[string]any {
	out := map[string]any{}
	for name := range d.in.Template {
		if !strings.EqualFold(name, "parameters") {
			continue
		}
		all, _ := d.in.Template[name].(map[string]any)
		for name := range all {
			p := d.parameters[strings.ToLower(name)]
			shown := map[string]any{"type": typeName(p.kind)}
			if !strings.HasPrefix(p.kind, "secure") {
				shown["value"] = p.value
			}
			out[name] = shown
		}
	}
	return out
}

// typeName is a type as deployments show it.
func typeName(kind string) string {
	names := map[string]string{"securestring": "SecureString", "secureobject": "SecureObject"}
	if n, ok := names[kind]; ok {
		return n
	}
	return strings.ToUpper(kind[:1]) + kind[1:]
}

// Outputs evaluates the outputs.
func (d *Deployment) Outputs() (map[string]any, error) {
	out := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(d.outputs)) {
		define, _ := d.outputs[name].(map[string]any)
		define, err := d.defined(define, name)
		if err != nil {
			return nil, err
		}
		kind, _ := member(define, "type").(string)
		if types[strings.ToLower(kind)] == nil {
			return nil, invalid(name, "The output %q has the type %q, which is none.",
				name, clip(kind))
		}
		s := scope{d: d}
		if c, ok := get(define, "condition"); ok {
			wanted, err := s.value(c, false)
			if err != nil {
				return nil, err
			}
			if wanted == false {
				continue
			}
		}
		value := member(define, "value")
		if loop, ok := member(define, "copy").(map[string]any); ok {
			made := map[string]any{}
			err := s.copyInto(made,
				[]any{map[string]any{"name": "x", "count": member(loop, "count"),
					"input": member(loop, "input")}}, false)
			if err != nil {
				return nil, err
			}
			value = made["x"]
		} else {
			var err error
			if value, err = s.value(value, false); err != nil {
				return nil, err
			}
		}
		if !types[strings.ToLower(kind)](value) && value != nil {
			return nil, invalid(name, "The output %q is %s; it must be of type %s.",
				name, describe(value),
				kind)
		}
		shown := map[string]any{"type": typeName(strings.ToLower(kind))}
		if !strings.HasPrefix(strings.ToLower(kind), "secure") {
			shown["value"] = value
		}
		out[name] = shown
	}
	return out, nil
}
