package tree

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
)

// resource is what a filter looks at.
type resource struct {
	name, kind, group, location string
	tags                        map[string]string
}

// resources lists the pools, environments and identities of a subscription or a group that the
// caller may read and that the filter takes.
func (t *Tree) resources(w http.ResponseWriter, r *http.Request) error {
	wanted, err := parseFilter(r.URL.Query().Get("$filter"), "resourceGroup", "resourceType",
		"name", "location", "tagName", "tagValue")
	if err != nil {
		return err
	}
	scope := scopeOf(r)
	pools, err := t.readable(r.Context(), scope)
	if err != nil {
		return err
	}
	var out []api.Resource
	for _, p := range pools {
		if wanted.takes(resource{name: p.ID.Name, kind: api.SessionPoolType,
			group: p.ID.ResourceGroup, location: p.Location, tags: p.Tags}) {
			out = append(out, expand(r, api.Resource{ID: p.ID.String(), Name: p.ID.Name,
				Type: api.SessionPoolType, Location: p.Location, Tags: p.Tags,
				ProvisioningState: string(p.State)},
				&api.SystemData{CreatedAt: p.CreatedAt.UTC().Format(time.RFC3339Nano),
					LastModifiedAt: p.UpdatedAt.UTC().Format(time.RFC3339Nano)}))
		}
	}
	environments, err := t.environmentsIn(r.Context(), scope)
	if err != nil {
		return err
	}
	for _, e := range environments {
		if wanted.takes(resource{name: e.Name, kind: e.Type, group: groupOf(e.ID),
			location: e.Location, tags: e.Tags}) {
			out = append(out, expand(r, api.Resource{ID: e.ID, Name: e.Name, Type: e.Type,
				Location: e.Location, Tags: e.Tags, ProvisioningState: "Succeeded"},
				e.SystemData))
		}
	}
	identities, err := t.identitiesIn(r.Context(), scope)
	if err != nil {
		return err
	}
	for _, one := range identities {
		if wanted.takes(resource{name: one.Name, kind: one.Type, group: groupOf(one.ID),
			location: one.Location, tags: one.Tags}) {
			out = append(out, expand(r, api.Resource{ID: one.ID, Name: one.Name, Type: one.Type,
				Location: one.Location, Tags: one.Tags, ProvisioningState: "Succeeded"},
				one.SystemData))
		}
	}
	return list(w, out)
}

// expand is a resource of a list with what the query's $expand asks for besides.
func expand(r *http.Request, out api.Resource, s *api.SystemData) api.Resource {
	for name := range strings.SplitSeq(r.URL.Query().Get("$expand"), ",") {
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "createdtime":
			out.CreatedTime = s.CreatedAt
		case "changedtime":
			out.ChangedTime = s.LastModifiedAt
		}
	}
	return out
}

// groupOf is the resource group in a resource id.
func groupOf(id string) string {
	parts := strings.Split(id, "/")
	if len(parts) < 5 {
		return ""
	}
	return parts[4]
}

// filter holds what each name must equal; all of it must.
type filter map[string]string

// takes reports whether r passes.
func (f filter) takes(r resource) bool {
	for name, want := range f {
		ok := true
		switch name {
		case "resourcegroup":
			ok = strings.EqualFold(r.group, want)
		case "resourcetype":
			ok = strings.EqualFold(r.kind, want)
		case "name":
			ok = strings.EqualFold(r.name, want)
		case "location":
			ok = sandpool.PlainLocation(r.location) == sandpool.PlainLocation(want)
		case "tagname":
			_, ok = r.tags[want]
		case "tagvalue":
			ok = r.tags[f["tagname"]] == want
		}
		if !ok {
			return false
		}
	}
	return true
}

// parseFilter reads "NAME eq 'VALUE' and NAME eq 'VALUE' …"; a quote within a value is doubled.
// What it does not understand is an error: a filter that is ignored shows too much.
func parseFilter(text string, names ...string) (filter, error) {
	out := filter{}
	rest := strings.TrimSpace(text)
	bad := func() error {
		return sandpool.Errorf(sandpool.Invalid, "InvalidFilterInQueryString", "$filter",
			"The $filter %.200q cannot be read. Write it as NAME eq 'VALUE', several joined by "+
				"and, with the names %s.", text, strings.Join(names, ", "))
	}
	for first := true; rest != ""; first = false {
		if !first {
			after, ok := cutFold(rest, "and ")
			if !ok {
				return nil, bad()
			}
			rest = strings.TrimSpace(after)
		}
		word, after, _ := strings.Cut(rest, " ")
		known := false
		for _, n := range names {
			known = known || strings.EqualFold(n, word)
		}
		after, ok := cutFold(strings.TrimSpace(after), "eq ")
		if !ok || !known {
			return nil, bad()
		}
		value, after, ok := cutQuoted(strings.TrimSpace(after))
		if _, twice := out[strings.ToLower(word)]; !ok || twice {
			return nil, bad()
		}
		out[strings.ToLower(word)] = value
		rest = strings.TrimSpace(after)
	}
	return out, nil
}

func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// cutQuoted cuts 'VALUE' off the beginning of s.
func cutQuoted(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, "'") {
		return "", s, false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] != '\'':
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == '\'':
			b.WriteByte('\'')
			i++
		default:
			return b.String(), s[i+1:], true
		}
	}
	return "", s, false
}

// mayRead reports whether the caller of r may read a document that lies in a group.
func mayRead(r *http.Request, scope sandpool.Scope) bool {
	return auth.RequireSome(r.Context(), auth.ReadGroup, scope) == nil
}

// decodeKept reads a document's text.
func decodeKept(kind, key, text string, into any) error {
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return fmt.Errorf("%s %q: %w", kind, key, err)
	}
	return nil
}
