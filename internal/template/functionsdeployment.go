package template

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool/internal/pattern"
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
		"datetimeadd": {2, 3, dateTimeAdd},
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
		"reference": {1, 3, reference},
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

// formatTime writes a time in one of the formats of .NET that templates have.
func formatTime(t time.Time, form any) (any, error) {
	text, _ := form.(string)
	layout, ok := map[string]string{"d": "01/02/2006", "yyyy-MM-dd": "2006-01-02",
		"u": "2006-01-02 15:04:05Z", "yyyyMMddHHmmss": "20060102150405", "yyyyMMdd": "20060102",
		"yyyy-MM-ddTHH:mm:ssZ": "2006-01-02T15:04:05Z", "yyyy-MM-ddTHH:mm:ss": "2006-01-02T15:04:05",
		"o": "2006-01-02T15:04:05.0000000Z", "s": "2006-01-02T15:04:05"}[text]
	if !ok {
		return nil, &wrong{"knows no such format of a time"}
	}
	return t.UTC().Format(layout), nil
}

// duration is a length of time in ISO 8601.
var duration = pattern.Lazy(`^(-?)P(?:(\d{1,4})Y)?(?:(\d{1,5})M)?(?:(\d{1,5})W)?(?:(\d{1,6})D)?` +
	`(?:T(?:(\d{1,7})H)?(?:(\d{1,8})M)?(?:(\d{1,9})S)?)?$`)

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
	var at time.Time
	for _, layout := range []string{time.RFC3339Nano, "20060102T150405Z", "2006-01-02 15:04:05Z",
		"2006-01-02T15:04:05", "2006-01-02"} {
		if at, err = time.Parse(layout, base); err == nil {
			break
		}
	}
	m := duration().FindStringSubmatch(length)
	if err != nil || m == nil || strings.TrimRight(length, "PT") != length {
		return nil, &wrong{"takes a time, and a duration such as PT8H or -P1D"}
	}
	n := func(i int) int {
		v, _ := strconv.Atoi(m[i]) // what is absent is 0
		if m[1] != "" {
			return -v
		}
		return v
	}
	at = at.AddDate(n(2), n(3), 7*n(4)+n(5)).Add(time.Duration(n(6))*time.Hour +
		time.Duration(n(7))*time.Minute + time.Duration(n(8))*time.Second)
	if len(a) == 3 {
		return formatTime(at, a[2])
	}
	return at.UTC().Format(time.RFC3339), nil
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
	id := name
	if i, ok := s.d.find(name); ok {
		r := s.d.Resources[i]
		id, version = r.ID, cmp.Or(version, r.APIVersion)
		if !r.Existing && r.Wanted && !r.Done {
			return nil, &Needs{Index: i}
		}
	}
	if !strings.HasPrefix(id, "/") {
		return nil, &wrong{fmt.Sprintf("names the resource %q, which is not in the template; "+
			"give its resource id", clip(name))}
	}
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
