package tree

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/store"
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
	add := func(is api.Resource, s *api.SystemData) {
		if wanted.takes(resource{name: is.Name, kind: is.Type, group: groupOf(is.ID),
			location: is.Location, tags: is.Tags}) {
			out = append(out, expand(r, is, s))
		}
	}
	for _, p := range pools {
		add(api.Resource{ID: p.ID.String(), Name: p.ID.Name, Type: api.SessionPoolType,
			Location: p.Location, Tags: p.Tags, ProvisioningState: string(p.State)},
			&api.SystemData{CreatedAt: p.CreatedAt.UTC().Format(time.RFC3339Nano),
				LastModifiedAt: p.UpdatedAt.UTC().Format(time.RFC3339Nano)})
	}
	environments, err := t.environmentsIn(r.Context(), scope)
	if err != nil {
		return err
	}
	for _, e := range environments {
		add(api.Resource{ID: e.ID, Name: e.Name, Type: e.Type, Location: e.Location, Tags: e.Tags,
			ProvisioningState: "Succeeded"}, e.SystemData)
	}
	identities, err := t.identitiesIn(r.Context(), scope)
	if err != nil {
		return err
	}
	for _, one := range identities {
		add(api.Resource{ID: one.ID, Name: one.Name, Type: one.Type, Location: one.Location,
			Tags: one.Tags, ProvisioningState: "Succeeded"}, one.SystemData)
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

// documents returns what is kept of a kind and whose key begins with a prefix, in any case.
func documents[T any](ctx context.Context, kept store.Documents, kind, prefix string) ([]T, error) {
	found, err := kept.Documents(ctx, kind, strings.ToLower(prefix))
	if err != nil {
		return nil, err
	}
	out := make([]T, len(found))
	for i, d := range found {
		if err := decodeKept(d.Kind, d.Key, d.Text, &out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// readableIn returns the resources of a kind that are kept in a scope, in groups that the caller
// may read. id returns the resource id of one.
func readableIn[T any](ctx context.Context, kept store.Documents, kind string, in sandpool.Scope,
	id func(T) string) ([]T, error) {
	prefix := "/subscriptions/" + in.Subscription + "/"
	if in.ResourceGroup != "" {
		prefix = groupID(in.Subscription, in.ResourceGroup) + "/"
	}
	all, err := documents[T](ctx, kept, kind, prefix)
	if err != nil {
		return nil, err
	}
	who, _ := auth.FromContext(ctx)
	var out []T
	for _, one := range all {
		scope := sandpool.Scope{Subscription: in.Subscription, ResourceGroup: groupOf(id(one))}
		if auth.AllowSome(who, auth.ReadGroup, scope) == nil {
			out = append(out, one)
		}
	}
	return out, nil
}

// samePlace checks that a request leaves something where it is.
func samePlace(what, name, location, asked string) error {
	if asked == "" || sandpool.PlainLocation(asked) == sandpool.PlainLocation(location) {
		return nil
	}
	return sandpool.Errorf(sandpool.Conflict, "InvalidResourceLocation", "location",
		"The %s %q is in %q, which cannot change to %.60q. Send %q.", what, name, location, asked,
		location)
}

// made says that the caller of r makes something now.
func (t *Tree) made(r *http.Request) *api.SystemData {
	now, author := t.o.Now().UTC().Format(time.RFC3339Nano), auth.Author(r.Context())
	return &api.SystemData{CreatedAt: now, CreatedBy: author.Name,
		CreatedByType: string(author.Kind), LastModifiedAt: now, LastModifiedBy: author.Name,
		LastModifiedByType: string(author.Kind)}
}

// changed says that the caller of r changes now what s is of.
func (t *Tree) changed(r *http.Request, s api.SystemData) *api.SystemData {
	now := t.made(r)
	s.LastModifiedAt, s.LastModifiedBy, s.LastModifiedByType = now.LastModifiedAt,
		now.LastModifiedBy, now.LastModifiedByType
	return &s
}

// decodeKept reads a document's text.
func decodeKept(kind, key, text string, into any) error {
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return fmt.Errorf("%s %q: %w", kind, key, err)
	}
	return nil
}
