package template

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// expand makes the resources of the template.
func (d *Deployment) expand() error {
	switch all := member(d.in.Template, "resources").(type) {
	case nil:
	case []any:
		for i, r := range all {
			if err := d.addResource(r, fmt.Sprintf("resources[%d]", i), "", nil); err != nil {
				return err
			}
		}
	case map[string]any: // with symbolic names, as Bicep writes them
		for _, symbol := range slices.Sorted(maps.Keys(all)) {
			if err := d.addResource(all[symbol], "resources."+symbol, symbol, nil); err != nil {
				return err
			}
		}
	default:
		return invalid("resources", "The resources of a template are an array or an object.")
	}
	if err := d.order(); err != nil {
		return err
	}
	return d.checkCycles()
}

// addResource adds the resource v, once for each turn of its copy, and the children within it.
func (d *Deployment) addResource(v any, path, symbol string, parent *Resource) error {
	body, ok := v.(map[string]any)
	if !ok {
		return invalid(path, "%s is %s; a resource is an object.", path, describe(v))
	}
	s := scope{d: d}
	if parent != nil {
		s = parent.in
	}
	loop, ok := member(body, "copy").(map[string]any)
	if !ok {
		return d.addOne(body, path, symbol, "", s, parent)
	}
	name, count, err := s.loop(loop)
	if err != nil {
		return err
	}
	for i := range count {
		if err := d.addOne(body, path, symbol, name, s.in(name, i), parent); err != nil {
			return err
		}
	}
	return nil
}

// resourceParts are the members of a resource in a template that are not sent.
var resourceParts = []string{"condition", "copy", "dependsOn", "comments", "apiVersion", "type",
	"name", "resources", "scope", "existing", "metadata", "asserts"}

func (d *Deployment) addOne(body map[string]any, path, symbol, loop string, s scope,
	parent *Resource) error {
	if len(d.Resources) >= maxResources {
		return invalid("resources", "The template has more than %d resources.", maxResources)
	}
	r := &Resource{Symbol: symbol, Loop: loop, in: s, body: map[string]any{}, Wanted: true}
	for part, into := range map[string]*string{"type": &r.Type, "name": &r.Name,
		"apiVersion": &r.APIVersion} {
		v, err := s.value(member(body, part), false)
		if err != nil {
			return err
		}
		if *into, _ = v.(string); *into == "" {
			return invalid(path+"."+part, "%s has no %s.", path, part)
		}
	}
	if parent != nil {
		if !strings.Contains(r.Type[:min(strings.Index(r.Type+"/", "/")+1, len(r.Type))], ".") {
			r.Type = parent.Type + "/" + r.Type
			r.Name = parent.Name + "/" + r.Name
		}
		r.After = append(r.After, slices.Index(d.Resources, parent))
	}
	r.Existing, _ = member(body, "existing").(bool)
	if c, ok := get(body, "condition"); ok {
		v, err := s.value(c, false)
		if err != nil {
			return err
		}
		wanted, ok := v.(bool)
		if !ok {
			return invalid(path+".condition",
				"The condition of %s is %s; it must be a truth value.", path,
				describe(v))
		}
		r.Wanted = wanted
	}
	if err := d.place(r, body, path); err != nil {
		return err
	}
	r.depends, _ = member(body, "dependsOn").([]any)
	for k, v := range body {
		if !slices.ContainsFunc(resourceParts, func(p string) bool {
			return strings.EqualFold(p, k)
		}) {
			r.body[k] = v
		}
	}
	for _, other := range d.Resources {
		if strings.EqualFold(other.ID, r.ID) && r.Wanted && other.Wanted && !r.Existing &&
			!other.Existing {
			return invalid(path, "The template defines the resource %s twice.", r.ID)
		}
	}
	d.Resources = append(d.Resources, r)
	children, _ := member(body, "resources").([]any)
	for i, child := range children {
		if err := d.addResource(child, fmt.Sprintf("%s.resources[%d]", path, i), "",
			r); err != nil {
			return err
		}
	}
	return nil
}

// place finds the id of r: in the resource group, or below the resource that its scope names.
func (d *Deployment) place(r *Resource, body map[string]any, path string) error {
	base := "/subscriptions/" + d.in.Subscription + "/resourceGroups/" + d.in.ResourceGroup
	if group, ok := get(body, "resourceGroup"); ok {
		v, err := r.in.value(group, false)
		name, isText := v.(string)
		if err != nil || !isText {
			return errors.Join(err, invalid(path+".resourceGroup",
				"The resource group of %s is no text.",
				path))
		}
		base = "/subscriptions/" + d.in.Subscription + "/resourceGroups/" + name
	}
	if given, ok := get(body, "scope"); ok {
		v, err := r.in.value(given, false)
		if err != nil {
			return err
		}
		name, _ := v.(string)
		switch {
		case strings.HasPrefix(name, "/"):
			base = strings.TrimRight(name, "/")
		case strings.Count(name, "/") >= 2: // Microsoft.App/sessionPools/NAME
			base += "/providers/" + name
		default:
			return invalid(path+".scope", "The scope %q of %s is not the id of a resource.",
				clip(name), path)
		}
	}
	kinds, names := strings.Split(r.Type, "/"), strings.Split(r.Name, "/")
	if len(kinds) < 2 || len(kinds)-1 < len(names) {
		return invalid(path+".name",
			"The name %q of %s does not fit its type %q: it needs one part for "+
				"each of the type's.", clip(r.Name), path, clip(r.Type))
	}
	if len(names) < len(kinds)-1 {
		return invalid(path+".name", "The name %q of %s has %d parts, and its type %q takes %d.",
			clip(r.Name), path, len(names), clip(r.Type), len(kinds)-1)
	}
	id := base + "/providers/" + kinds[0]
	for i, kind := range kinds[1:] {
		id += "/" + kind + "/" + names[i]
	}
	if len(id) > maxID {
		return invalid(path+".name", "The id of %s has %d characters; at most %d are taken.", path,
			len(id), maxID)
	}
	r.ID = id
	return nil
}

// find returns the place of the resource that a reference or a dependency names: by its id, its
// symbolic name or its plain name.
func (d *Deployment) find(name string) (int, bool) {
	if d.places == nil {
		d.places = map[string]int{}
	}
	for i := d.found; i < len(d.Resources); i++ { // those that came since the last time
		r := d.Resources[i]
		symbol := r.Symbol
		if r.Loop != "" {
			symbol = fmt.Sprintf("%s[%d]", r.Symbol, r.in.copies[""])
		}
		keys := []string{"id " + strings.ToLower(r.ID), "name " + strings.ToLower(r.Name),
			"name " + strings.ToLower(r.Type+"/"+r.Name)}
		if r.Symbol != "" {
			keys = append(keys, "symbol "+symbol)
		}
		for _, key := range keys {
			if _, there := d.places[key]; !there {
				d.places[key] = i
			}
		}
	}
	d.found = len(d.Resources)
	for _, key := range []string{"id " + strings.ToLower(name), "symbol " + name,
		"name " + strings.ToLower(name)} {
		if i, ok := d.places[key]; ok {
			return i, true
		}
	}
	return 0, false
}

// copies are the places of the resources that a copy makes, by the name of its loop, in lower
// case, and by its symbol.
func (d *Deployment) copies() (loops, symbols map[string][]int) {
	loops, symbols = map[string][]int{}, map[string][]int{}
	for i, r := range d.Resources {
		if r.Loop != "" {
			loop := strings.ToLower(r.Loop)
			loops[loop] = append(loops[loop], i)
			symbols[r.Symbol] = append(symbols[r.Symbol], i)
		}
	}
	return loops, symbols
}

// order resolves what the resources depend on.
func (d *Deployment) order() error {
	loops, symbols := d.copies()
	for _, r := range d.Resources {
		after := map[int]bool{}
		for _, i := range r.After {
			after[i] = true
		}
		if len(r.depends) > maxResources {
			return invalid("dependsOn", "The resource %q has %d dependencies; at most %d are taken.",
				clip(r.Name), len(r.depends), maxResources)
		}
		for _, each := range r.depends {
			v, err := r.in.value(each, false)
			if err != nil {
				return err
			}
			name, ok := v.(string)
			if !ok {
				return invalid("dependsOn",
					"A dependency of %s is %s; it must be a name or an id.", r.Name,
					describe(v))
			}
			places := slices.Concat(loops[strings.ToLower(name)], symbols[name])
			if i, ok := d.find(name); ok {
				places = append(places, i)
			}
			if len(places) == 0 {
				return invalid("dependsOn",
					"The resource %q depends on %q, which is not in the template.",
					r.Name, clip(name))
			}
			for _, i := range places {
				after[i] = true
			}
		}
		r.After = slices.Sorted(maps.Keys(after))
	}
	return nil
}

func (d *Deployment) checkCycles() error {
	const visiting, done = 1, 2
	state := make([]int, len(d.Resources))
	var visit func(i int) error
	visit = func(i int) error {
		switch state[i] {
		case done:
			return nil
		case visiting:
			return Circular(d.Resources[i])
		}
		state[i] = visiting
		for _, j := range d.Resources[i].After {
			if err := visit(j); err != nil {
				return err
			}
		}
		state[i] = done
		return nil
	}
	for i := range d.Resources {
		if err := visit(i); err != nil {
			return err
		}
	}
	return nil
}

// Circular is the error of a resource that would have to be there before itself.
func Circular(r *Resource) error {
	return invalid("dependsOn", "The resource %q depends on itself, by way of others.", r.Name)
}

// Body is what is sent for r. With unknown set, expressions whose value is known only when other
// resources are deployed stay as they are; otherwise such a resource is an error of type *Needs.
func (d *Deployment) Body(r *Resource, unknown bool) (map[string]any, error) {
	if strings.EqualFold(r.Type, "Microsoft.Resources/deployments") {
		return d.nested(r, unknown)
	}
	v, err := r.in.value(r.body, unknown)
	if err != nil {
		return nil, err
	}
	return v.(map[string]any), nil
}

// nested is the body of a deployment within the template. Its template is its own: what it says is
// evaluated there, with its own parameters.
func (d *Deployment) nested(r *Resource, unknown bool) (map[string]any, error) {
	properties, ok := member(r.body, "properties").(map[string]any)
	if !ok {
		return nil, invalid("properties", "The deployment %q has no properties.", r.Name)
	}
	if options, ok := member(properties, "expressionEvaluationOptions").(map[string]any); !ok ||
		!strings.EqualFold(text(member(options, "scope")), "inner") {
		if n, _ := lengthOf(member(properties, "parameters")); n == 0 {
			return nil, invalid("expressionEvaluationOptions",
				"The deployment %q evaluates its template "+
					"in the outer scope, which is not supported; set expressionEvaluationOptions.scope to "+
					"inner.", r.Name)
		}
	}
	out := map[string]any{}
	for k, v := range properties {
		if strings.EqualFold(k, "template") {
			out[k] = v
			continue
		}
		var err error
		if out[k], err = r.in.value(v, unknown); err != nil {
			return nil, err
		}
	}
	return map[string]any{"properties": out}, nil
}
