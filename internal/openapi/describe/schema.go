package describe

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"
)

// object is an object of JSON.
type object map[string]any

// schemas makes JSON Schemas of Go types, as encoding/json writes them. Each struct is one of its
// own, to which others refer.
type schemas struct {
	comments comments
	made     map[string]object
}

func (s *schemas) of(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[json.RawMessage]():
		return object{}
	case reflect.TypeFor[json.Number]():
		return object{"type": []string{"number", "string"}}
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Struct:
		return s.reference(t)
	case reflect.Slice, reflect.Array:
		return object{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int32:
		return object{"type": "integer"}
	case reflect.Int64, reflect.Uint64:
		return object{"type": "integer", "format": "int64"}
	case reflect.Float64:
		return object{"type": "number"}
	}
	return object{} // an interface: whatever there is
}

// nameOf is the name of a struct's schema: that of List[Tenant] is TenantList.
func nameOf(t reflect.Type) string {
	name, of, generic := strings.Cut(t.Name(), "[")
	if !generic {
		return name
	}
	of = strings.TrimSuffix(of, "]")
	return of[strings.LastIndexByte(of, '.')+1:] + name
}

func (s *schemas) reference(t reflect.Type) object {
	name := nameOf(t)
	if name == "" {
		return s.structure(t)
	}
	if _, there := s.made[name]; !there {
		s.made[name] = object{} // types may hold themselves
		made := s.structure(t)
		base, _, _ := strings.Cut(t.Name(), "[")
		if text := s.comments[base]; text != "" {
			made["description"] = text
		}
		s.made[name] = made
	}
	return object{"$ref": "#/components/schemas/" + name}
}

// named gives a schema a name.
func (s *schemas) named(name, description string, schema object) object {
	schema["description"] = description
	s.made[name] = schema
	return object{"$ref": "#/components/schemas/" + name}
}

// part is the schema of requests that may leave out what a value of t always has.
func (s *schemas) part(t reflect.Type) object {
	name := nameOf(t) + "Request"
	made := s.structure(t)
	delete(made, "required")
	made["description"] = s.comments[t.Name()] + " A request may leave out any of it."
	s.made[name] = made
	return object{"$ref": "#/components/schemas/" + name}
}

func (s *schemas) structure(t reflect.Type) object {
	properties, required := object{}, []string{}
	s.fields(t, properties, &required)
	out := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

func (s *schemas) fields(t reflect.Type, into object, required *[]string) {
	for f := range t.Fields() {
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		if f.Anonymous && name == "" {
			s.fields(f.Type, into, required)
			continue
		}
		if name == "-" || !f.IsExported() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		schema := s.of(f.Type)
		if f.Type.Kind() == reflect.Pointer && !strings.Contains(options, "omit") {
			schema = object{"anyOf": []object{schema, {"type": "null"}}}
		}
		if text := s.comments[t.Name()+"."+f.Name]; text != "" {
			schema["description"] = text // beside $ref, as OpenAPI 3.1 has it
		}
		if slices.Contains(given()[t.Name()], name) {
			schema["readOnly"] = true
		}
		if slices.Contains(hidden()[t.Name()], name) {
			schema["writeOnly"] = true
		}
		if slices.Contains(empty()[t.Name()], name) {
			bare(schema)
		}
		into[name] = schema
		if !strings.Contains(options, "omit") {
			*required = append(*required, name)
		}
	}
}
