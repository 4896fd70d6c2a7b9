// Package settings reads what an operator has set, from a file and from the environment, into a
// struct whose fields have YAML names. Errors are for people, who know names of settings and no
// types.
package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ReadFile changes cfg, a pointer to a struct, by the YAML file at path. Unknown names are errors.
func ReadFile(path string, cfg any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("configuration file: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(cfg); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("configuration file %q: %s",
			path, plain(err, Of(cfg)))
	}
	return nil
}

// clientEnv are the variables of the same prefix that belong to the command line client.
func clientEnv(name string) bool {
	return slices.Contains([]string{"ENDPOINT", "TOKEN", "POOL", "CONFIG", "CA"}, name)
}

// ReadEnv changes cfg, a pointer to a struct, by the variables of env (KEY=value) that are
// SANDPOOL_ and the path of a setting in capitals, such as SANDPOOL_LIMITS_MIN_COOLDOWN. Others of
// that prefix are errors, but those of the client and of tests.
func ReadEnv(env []string, cfg any) (problems []error) {
	fields := map[string]reflect.Value{}
	for path, field := range Of(cfg) {
		fields["SANDPOOL_"+strings.ToUpper(strings.ReplaceAll(path, ".", "_"))] = field
	}
	for _, kv := range env {
		key, value, _ := strings.Cut(kv, "=")
		name, ours := strings.CutPrefix(key, "SANDPOOL_")
		if !ours || clientEnv(name) || strings.HasPrefix(name, "TEST_") {
			continue
		}
		field, known := fields[key]
		if !known {
			problems = append(problems, fmt.Errorf("environment: %s is not a setting%s", key,
				suggest(key, slices.Sorted(maps.Keys(fields)))))
			continue
		}
		err := yaml.Unmarshal([]byte(value), field.Addr().Interface())
		if err != nil && field.Kind() == reflect.String {
			field.SetString(value) // it is no YAML, as {region}.example.com
			continue
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("environment: %s: %s",
				key, strings.TrimPrefix(plain(err, nil), "line 1: ")))
		}
	}
	return problems
}

// Of returns the fields of cfg, a pointer to a struct, by their paths, such as limits.min_cooldown.
func Of(cfg any) map[string]reflect.Value {
	fields := map[string]reflect.Value{}
	collect(reflect.ValueOf(cfg).Elem(), "", fields)
	return fields
}

// collect maps the path of every leaf field below v to the field.
func collect(v reflect.Value, prefix string, into map[string]reflect.Value) {
	for i := range v.NumField() {
		name := prefix + v.Type().Field(i).Tag.Get("yaml")
		if v.Field(i).Kind() == reflect.Struct {
			collect(v.Field(i), name+".", into)
			continue
		}
		into[name] = v.Field(i)
	}
}
