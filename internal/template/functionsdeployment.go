package template

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/sandpool/sandpool/internal/template/moment"
)

func deploymentFunctions() map[string]function {
	return map[string]function{
		"parameters": {1, 1, func(s scope, a []any) (any, error) {
			if s.own != nil {
				return s.boundTo(a, s.own, "parameter")
			}
			return s.named(a, s.d.parameter, "parameter")
		}},
		"lambdavariables": {1, 1, func(s scope, a []any) (any, error) {
			return s.boundTo(a, s.bound, "name of a lambda")
		}},
		"deployer": {0, 0, func(s scope, _ []any) (any, error) {
			return map[string]any{"objectId": s.d.in.Deployer, "tenantId": s.d.in.Tenant,
				"userPrincipalName": ""}, nil
		}},
		"fail": {1, 1, func(_ scope, a []any) (any, error) {
			why, err := arg[string](a, 0)
			if err != nil {
				return nil, err
			}
			return nil, invalid("fail", "The template ends the deployment: %.500s", why)
		}},
		"datetimeadd":       {2, 3, dateTimeAdd},
		"datetimetoepoch":   one(dateTimeToEpoch),
		"datetimefromepoch": one(dateTimeFromEpoch),
		"variables": {1, 1, func(s scope, a []any) (any, error) {
			if s.own != nil {
				return nil, &wrong{"may not stand in a function of the template's own"}
			}
			return s.named(a, s.d.variable, "variable")
		}},
		"copyindex":              {0, 2, copyIndex},
		"resourceid":             {2, -1, resourceID},
		"subscriptionresourceid": {2, -1, subscriptionResourceID},
		"tenantresourceid":       {2, -1, func(_ scope, a []any) (any, error) { return idOf("", a) }},
		"extensionresourceid": {3, -1, func(_ scope, a []any) (any, error) {
			base, err := arg[string](a, 0)
			if err != nil {
				return nil, err
			}
			return idOf(strings.TrimRight(base, "/"), a[1:])
		}},
		"reference":  {1, 3, reference},
		"references": {1, 2, references},
		"resourcegroup": {0, 0, func(s scope, _ []any) (any, error) {
			return s.d.in.Group, nil
		}},
		"subscription": {0, 0, func(s scope, _ []any) (any, error) {
			return map[string]any{"id": "/subscriptions/" + s.d.in.Subscription,
				"subscriptionId": s.d.in.Subscription, "tenantId": s.d.in.Tenant,
				"displayName": "sandpool"}, nil
		}},
		"tenant": {0, 0, func(s scope, _ []any) (any, error) {
			return map[string]any{"tenantId": s.d.in.Tenant}, nil
		}},
		"deployment": {0, 0, func(s scope, _ []any) (any, error) {
			return map[string]any{"name": s.d.in.Name, "properties": map[string]any{
				"template": s.d.raw, "mode": s.d.in.Mode}}, nil
		}},
		"environment": {0, 0, func(s scope, _ []any) (any, error) {
			return map[string]any{"name": "sandpool", "resourceManager": s.d.in.BaseURL + "/",
				"authentication": map[string]any{"loginEndpoint": s.d.in.BaseURL + "/adfs",
					"audiences": []any{"https://management.azure.com/"}}}, nil
		}},
		"newguid": {0, 0, func(s scope, _ []any) (any, error) {
			if !s.defaults {
				return nil, &wrong{"may stand in the default value of a parameter alone"}
			}
			s.d.fresh++
			return GUID(fmt.Sprintf("%s-%d", s.d.in.Unique, s.d.fresh)), nil
		}},
		"utcnow": {0, 1, func(s scope, a []any) (any, error) {
			if !s.defaults {
				return nil, &wrong{"may stand in the default value of a parameter alone"}
			}
			if len(a) == 0 {
				return s.d.in.Time.UTC().Format("20060102T150405Z"), nil
			}
			return formatTime(s.d.in.Time, a[0])
		}},
	}
}

// formatTime writes a time in a format of .NET.
func formatTime(t time.Time, form any) (any, error) {
	text, ok := form.(string)
	if !ok {
		return nil, &wrong{"has a format of a time that is no text"}
	}
	out, err := moment.Format(t, text)
	if err != nil {
		return nil, &wrong{err.Error()}
	}
	return out, nil
}

// dateTimeAdd adds a duration to a time. Without a format the result is as precise as people write.
func dateTimeAdd(_ scope, a []any) (any, error) {
	base, err := arg[string](a, 0)
	if err != nil {
		return nil, err
	}
	length, err := arg[string](a, 1)
	if err != nil {
		return nil, err
	}
	at, isTime := moment.Parse(base)
	at, isLength := moment.Add(at, length)
	if !isTime || !isLength {
		return nil, &wrong{"takes a time, and a duration such as PT8H or -P1D"}
	}
	if len(a) == 3 {
		return formatTime(at, a[2])
	}
	return at.UTC().Format(time.RFC3339), nil
}

// dateTimeToEpoch is a time in seconds since 1970.
func dateTimeToEpoch(s string) (any, error) {
	at, ok := moment.Parse(s)
	if !ok {
		return nil, &wrong{"takes a time, such as 2026-05-02T15:16:13Z"}
	}
	return at.Unix(), nil
}

// dateTimeFromEpoch is its inverse, for the years that people write with four digits.
func dateTimeFromEpoch(n int64) (any, error) {
	if at := time.Unix(n, 0).UTC(); at.Year() >= 1 && at.Year() <= 9999 && n > -1<<40 && n < 1<<40 {
		return at.Format(time.RFC3339), nil
	}
	return nil, &wrong{"takes seconds since 1970, up to the year 9999"}
}

// boundTo looks up a name among those that are bound.
func (s scope) boundTo(args []any, bound map[string]any, what string) (any, error) {
	name, err := arg[string](args, 0)
	if err != nil {
		return nil, err
	}
	v, ok := bound[strings.ToLower(name)]
	if !ok {
		return nil, invalid(name, "The template uses %q, which is no %s where it stands.",
			clip(name), what)
	}
	return v, nil
}

// named looks up a parameter or a variable.
func (s scope) named(args []any, find func(scope, string) (any, bool, error),
	what string) (any, error) {
	name, err := arg[string](args, 0)
	if err != nil {
		return nil, err
	}
	if s.depth > maxDepth {
		return nil, invalid(name, "The %s %q refers to itself.", what, name)
	}
	s.depth++
	v, ok, err := find(s, name)
	if err == nil && !ok {
		err = invalid(name, "The template uses the %s %q, which it does not declare.", what, name)
	}
	return v, err
}

func copyIndex(s scope, args []any) (any, error) {
	loop, offset := "", int64(0)
	for i := range args {
		switch v := args[i].(type) {
		case string:
			loop = v
		case int64:
			offset = v
		default:
			return nil, &wrong{"takes a name and an offset"}
		}
	}
	index, ok := s.copies[strings.ToLower(loop)]
	if !ok {
		return nil, &wrong{fmt.Sprintf("stands in no copy %q", loop)}
	}
	return index + offset, nil
}

// idOf is base and the resource of a type ("Microsoft.App/sessionPools") and its names.
func idOf(base string, args []any) (any, error) {
	kind, err := arg[string](args, 0)
	if err != nil {
		return nil, err
	}
	types := strings.Split(kind, "/")
	if len(types)-1 != len(args)-1 {
		return nil, &wrong{fmt.Sprintf("has %d names for the type %q, which takes %d", len(args)-1,
			clip(kind), len(types)-1)}
	}
	var b strings.Builder
	b.WriteString(base + "/providers/" + types[0])
	for i, t := range types[1:] {
		name, err := arg[string](args, i+1)
		if err != nil {
			return nil, err
		}
		b.WriteString("/" + t + "/" + name)
	}
	return b.String(), nil
}

// resourceID may have a subscription and a resource group before the type.
func resourceID(s scope, args []any) (any, error) {
	subscription, group := s.d.in.Subscription, s.d.in.ResourceGroup
	var before []string
	for len(args) > 2 {
		v, err := arg[string](args, 0)
		if err != nil {
			return nil, err
		}
		if strings.Contains(v, "/") {
			break
		}
		before, args = append(before, v), args[1:]
	}
	switch len(before) {
	case 0:
	case 1:
		group = before[0]
	case 2:
		subscription, group = before[0], before[1]
	default:
		return nil, &wrong{"has no type, such as Microsoft.App/sessionPools"}
	}
	return idOf("/subscriptions/"+subscription+"/resourceGroups/"+group, args)
}

func subscriptionResourceID(s scope, args []any) (any, error) {
	subscription := s.d.in.Subscription
	if first, err := arg[string](args, 0); err == nil && !strings.Contains(first, "/") {
		subscription, args = first, args[1:]
	}
	return idOf("/subscriptions/"+subscription, args)
}

// reference returns the properties of a resource, or all of it if the last argument is Full.
func reference(s scope, args []any) (any, error) {
	name, err := arg[string](args, 0)
	if err != nil {
		return nil, err
	}
	version, full := "", false
	if len(args) > 1 {
		if version, err = arg[string](args, 1); err != nil {
			return nil, err
		}
	}
	if len(args) > 2 {
		mode, _ := args[2].(string)
		if full = strings.EqualFold(mode, "Full"); !full {
			return nil, &wrong{"takes 'Full' as its third argument"}
		}
	}
	if s.d.in.Get == nil {
		return nil, errUnknown
	}
	if i, ok := s.d.find(name); ok {
		return s.deployed(i, version, full)
	}
	if !strings.HasPrefix(name, "/") {
		return nil, &wrong{fmt.Sprintf("names the resource %q, which is not in the template; "+
			"give its resource id", clip(name))}
	}
	return s.resource(name, version, full)
}

// deployed is what the resource at a place of the template says of itself, if it is deployed.
func (s scope) deployed(i int, version string, full bool) (any, error) {
	r := s.d.Resources[i]
	if !r.Existing && r.Wanted && !r.Done {
		return nil, &Needs{Index: i}
	}
	return s.resource(r.ID, cmp.Or(version, r.APIVersion), full)
}

// resource asks for a resource, and returns its properties, or all of it.
func (s scope) resource(id, version string, full bool) (any, error) {
	resource, err := s.d.in.Get(id, version)
	if err != nil || full {
		return resource, err
	}
	properties, ok := get(resource, "properties")
	if !ok {
		return map[string]any{}, nil
	}
	return properties, nil
}

// references is reference of each resource that a copy with a symbolic name makes.
func references(s scope, args []any) (any, error) {
	name, err := arg[string](args, 0)
	if err != nil {
		return nil, err
	}
	full := false
	if len(args) > 1 {
		mode, _ := args[1].(string)
		if full = strings.EqualFold(mode, "Full"); !full && !strings.EqualFold(mode, "Properties") {
			return nil, &wrong{"takes 'Full' or 'Properties' as its second argument"}
		}
	}
	_, symbols := s.d.copies()
	places, ok := symbols[name]
	if !ok || name == "" {
		return nil, &wrong{fmt.Sprintf("names %q, which is not the symbolic name of a copy of "+
			"resources", clip(name))}
	}
	if s.d.in.Get == nil {
		return nil, errUnknown
	}
	out := []any{}
	for _, i := range places {
		if !s.d.Resources[i].Wanted {
			continue
		}
		if err := s.d.step(); err != nil {
			return nil, err
		}
		v, err := s.deployed(i, "", full)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}
