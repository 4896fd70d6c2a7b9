package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/control/managed"
)

// The properties that PATCH takes. Those that cannot change are among them:
// they are compared with the pool afterwards, so that a caller may send them as they are.
var (
	patchable = []string{"tags", "identity", "properties", "location", "id", "name", "type",
		"systemData"}

	patchableProperties = []string{"scaleConfiguration", "secrets", "dynamicPoolConfiguration",
		"customContainerTemplate",
		"sessionNetworkConfiguration", "managedIdentitySettings", "mcpServerSettings", "sandpool",
		"containerType", "poolManagementType", "environmentId",
		"provisioningState", "poolManagementEndpoint", "nodeCount", "templateUpdateStatus"}
)

// mergePatch applies a JSON merge patch (RFC 7396) to a pool. Names are matched
// without regard to case; a null takes a property back to its default. Names
// that are no property of a pool are errors: a patch that changes nothing would pass for one that
// did.
func mergePatch(pool api.SessionPool, patch map[string]any) (api.SessionPool, error) {
	var ps problems
	if patch == nil {
		return pool, sandpool.Errorf(sandpool.Invalid, "InvalidRequestContent", "",
			"The request body is null; send a JSON object.")
	}
	checkNames(&ps, "", patch, patchable)
	checkTwice(&ps, "", patch)
	checkDeeper(&ps, patch)
	switch key, properties := member(patch, "properties"); {
	case properties == nil:
		// Null would by the rule reset every setting; it is what a client sends that has none to
		// change.
		delete(patch, key)
	default:
		m, ok := properties.(map[string]any)
		if !ok {
			ps.add(sandpool.Invalid, "InvalidRequestContent", "properties",
				"The value of properties must be of type object.")
		}
		checkNames(&ps, "properties.", m, patchableProperties)
		nestLifecycle(m)
		pool = leaveLifecycle(pool, m)
	}
	if err := ps.err(); err != nil {
		return pool, err
	}
	raw, err := json.Marshal(pool)
	if err != nil {
		return pool, fmt.Errorf("patch: %w", err)
	}
	var current map[string]any
	if err := json.Unmarshal(raw, &current); err != nil {
		return pool, fmt.Errorf("patch: %w", err)
	}
	merged, err := json.Marshal(merge(current, patch))
	if err != nil {
		return pool, fmt.Errorf("patch: %w", err)
	}
	var out api.SessionPool
	var typ *json.UnmarshalTypeError
	switch err := arm.Unmarshal(merged, &out); {
	case errors.As(err, &typ):
		return pool, sandpool.Errorf(sandpool.Invalid, "InvalidRequestContent", typ.Field,
			"The value of %s is a JSON %s, which is not what it takes.", typ.Field,
			typ.Value[:min(len(typ.Value), 60)])
	case err != nil:
		return pool, fmt.Errorf("patch: %w", err)
	}
	managed.Patched(&out, patch)
	return out, nil
}

func checkNames(ps *problems, prefix string, m map[string]any, known []string) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if !slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, name) }) {
			ps.invalid(prefix+name,
				"%s%s is not a property of a session pool that PATCH can change.", prefix, name)
		}
	}
}

// checkDeeper looks for names that are no property, below those that checkNames knows.
func checkDeeper(ps *problems, patch map[string]any) {
	data, err := json.Marshal(patch)
	if err != nil {
		return // it came from JSON
	}
	for _, path := range arm.Unknown(data, api.SessionPool{}) {
		if strings.Count(path, ".") > 1 {
			ps.invalid(path, "%s is not a property of a session pool.", path)
		}
	}
}

// checkTwice looks for members of objects whose names differ in case alone and whose values differ:
// which of them were meant, nobody knows.
func checkTwice(ps *problems, prefix string, v any) {
	switch v := v.(type) {
	case map[string]any:
		seen := make(map[string]string, len(v))
		for _, name := range slices.Sorted(maps.Keys(v)) {
			first, twice := seen[strings.ToLower(name)]
			if twice && !reflect.DeepEqual(v[first], v[name]) {
				ps.invalid(prefix+name, "%s and %s are one name, with two values; send one.",
					prefix+first, prefix+name)
			}
			seen[strings.ToLower(name)] = name
			checkTwice(ps, prefix+name+".", v[name])
		}
	case []any:
		for i, each := range v {
			checkTwice(ps, fmt.Sprintf("%s[%d].", strings.TrimSuffix(prefix, "."), i), each)
		}
	}
}

// nestLifecycle rewrites the old flat form of dynamicPoolConfiguration to the
// nested one, in place, which is the form of the pool that the patch meets.
func nestLifecycle(properties map[string]any) {
	_, v := member(properties, "dynamicPoolConfiguration")
	dynamic, ok := v.(map[string]any)
	if !ok {
		return
	}
	for flat, nested := range map[string]string{
		"cooldownPeriodInSeconds": "cooldownPeriodInSeconds", "executionType": "lifecycleType"} {
		key, value := member(dynamic, flat)
		if key == "" {
			continue
		}
		lifecycleKey, lifecycle := member(dynamic, "lifecycleConfiguration")
		if lifecycleKey == "" {
			lifecycle = map[string]any{}
			dynamic["lifecycleConfiguration"] = lifecycle
		}
		inner, ok := lifecycle.(map[string]any)
		if !ok {
			return
		}
		if has, _ := member(inner, nested); has != "" {
			continue // both forms: left to parse, which compares them
		}
		inner[nested] = value
		delete(dynamic, key)
	}
}

// leaveLifecycle returns pool without the settings of its lifecycle if the patch changes its type:
// each type has its own, which the other does not know.
func leaveLifecycle(pool api.SessionPool, properties map[string]any) api.SessionPool {
	_, dynamic := member(properties, "dynamicPoolConfiguration")
	outer, _ := dynamic.(map[string]any)
	_, lifecycle := member(outer, "lifecycleConfiguration")
	inner, _ := lifecycle.(map[string]any)
	_, want := member(inner, "lifecycleType")
	kind, ok := want.(string)
	now := pool.Properties.DynamicPoolConfiguration
	if ok && !strings.EqualFold(kind, now.LifecycleConfiguration.LifecycleType) {
		props := *pool.Properties
		props.DynamicPoolConfiguration = nil
		pool.Properties = &props
	}
	return pool
}

// member finds a member of m without regard to case; key is "" if there is none.
func member(m map[string]any, name string) (key string, value any) {
	for k, v := range m {
		if strings.EqualFold(k, name) {
			return k, v
		}
	}
	return "", nil
}

// merge applies patch to target as RFC 7396 has it. The depth of patch is
// bounded by the JSON decoder. Keys are found by an index: comparing each with
// each would make a large patch slow, while other changes wait for this one.
func merge(target map[string]any, patch map[string]any) map[string]any {
	if target == nil {
		target = map[string]any{}
	}
	keys := make(map[string]string, len(target))
	for key := range target {
		keys[strings.ToLower(key)] = key
	}
	for name, v := range patch {
		key, known := keys[strings.ToLower(name)]
		if !known {
			key = name
			keys[strings.ToLower(name)] = name
		}
		switch v := v.(type) {
		case nil:
			delete(target, key)
		case map[string]any:
			object, _ := target[key].(map[string]any)
			target[key] = merge(object, v)
		default:
			target[key] = v
		}
	}
	return target
}
