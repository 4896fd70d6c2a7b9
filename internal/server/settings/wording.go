package settings

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sandpool/sandpool/internal/pattern"
)

// What the YAML decoder says about a value of the wrong kind and about an unknown name.
var (
	kindPattern = pattern.Lazy(
		"^(line \\d+: )cannot unmarshal !!\\w+(?: `(.*)`)? into (\\S+)$")
	namePattern = pattern.Lazy(`^(line \d+: )field (.*) not found in type \S+$`)
)

// plain words an error of the YAML decoder for people, who know the file and not the types
// of this program. known are all settings by their paths.
func plain(err error, known map[string]reflect.Value) string {
	var te *yaml.TypeError
	if !errors.As(err, &te) {
		return strings.TrimPrefix(err.Error(), "yaml: ")
	}
	lines, paths := slices.Clone(te.Errors), slices.Sorted(maps.Keys(known))
	for i, line := range lines {
		if m := kindPattern().FindStringSubmatch(line); m != nil {
			value := "what is there"
			if m[2] != "" {
				value = strconv.Quote(m[2])
			}
			lines[i] = fmt.Sprintf("%s%s does not fit; use %s", m[1], value, kind(m[3], known))
		} else if m := namePattern().FindStringSubmatch(line); m != nil {
			lines[i] = fmt.Sprintf("%s%s is not a setting here%s", m[1], m[2], suggest(m[2], paths))
		}
	}
	return strings.Join(lines, "; ")
}

// kind is what a value of the Go type is for people.
func kind(goType string, known map[string]reflect.Value) string {
	switch goType {
	case "time.Duration":
		return "a duration such as 10s"
	case "int", "int64":
		return "a whole number"
	case "float64":
		return "a number"
	case "string":
		return "text"
	}
	for _, field := range known {
		if field.Kind() == reflect.String && field.Type().String() == goType {
			return "text"
		}
	}
	if strings.HasPrefix(goType, "[]") {
		return "a list such as [a, b]"
	}
	return "settings with their names, each on a line of its own"
}

// suggest names the setting whose path, or the last part of it, is spelled most like name.
func suggest(name string, known []string) string {
	near := min(2, len(name)/2) // more is another word
	best, found := near+1, ""
	for _, path := range known {
		last := path[strings.LastIndexByte(path, '.')+1:]
		if d := min(distance(name, path), distance(name, last)); d < best {
			best, found = d, path
		}
	}
	if found == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", found)
}

// distance is how many letters must be put in, taken out or replaced to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
