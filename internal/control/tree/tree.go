package tree

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/store"
)

// Granter gives tokens grants and takes them away.
type Granter interface {
	// Grant adds g to the token with the given id, and Ungrant removes one equal to it. An
	// unknown token is an error of class NotFound.
	Grant(ctx context.Context, id string, g sandpool.Grant) error
	Ungrant(ctx context.Context, id string, g sandpool.Grant) error
}

// Options are what the server chooses.
type Options struct {
	// Locations returns those that pools may have, the first one that of pools which name none, and
	// whether every other one will do too.
	Locations func() (known []string, every bool)
	// MaxPools is the limit that reads of the usage show.
	MaxPools int
	// BaseURL is how the caller of r reaches this server, without a trailing slash.
	BaseURL func(r *http.Request) string
	// Now is the clock.
	Now func() time.Time
	// Foreign means that roles can be given to principals of foreign issuers too, which are not
	// known here before they come.
	Foreign bool
	// Ended is told of role assignments that end by themselves; nil means that nobody is.
	Ended func(api.RoleAssignment)
}

// Tree serves the tree.
type Tree struct {
	pools   Pools
	kept    store.Documents
	agree   store.Agreeing // the same store
	granter Granter
	o       Options

	// assigning is held while assignments are read and changed: one that has ended is forgotten,
	// and another of its name is made, one after the other.
	assigning sync.Mutex
	// identifying is held while identities are changed.
	identifying sync.Mutex
}

// New returns a Tree. What is kept goes to kept.
func New(pools Pools, kept store.Documents, granter Granter, o Options) (*Tree, error) {
	if pools == nil || kept == nil || granter == nil || o.Locations == nil ||
		o.BaseURL == nil || o.Now == nil {
		return nil,
			errors.New("tree: pools, documents, grants, locations, a base URL and a clock " +
				"are required")
	}
	agree, ok := kept.(store.Agreeing)
	if !ok {
		return nil, errors.New("tree: the store of documents must be one that agrees")
	}
	return &Tree{pools: pools, kept: kept, agree: agree, granter: granter, o: o}, nil
}

// handler answers a request or returns why not.
type handler = func(http.ResponseWriter, *http.Request) error

const (
	subscriptionPath = "/subscriptions/{subscription}"
	groupPath        = subscriptionPath + "/resourceGroups/{resourceGroup}"
)

// Register adds the routes.
func (t *Tree) Register(handle func(pattern string, fn handler)) {
	for pattern, fn := range map[string]handler{
		"GET /subscriptions": t.subscriptions,
		"GET /tenants":       t.tenants,
		"GET /providers":     t.providers,

		"GET /providers/{provider}":                                    t.provider,
		"GET " + subscriptionPath:                                      t.subscription,
		"GET " + subscriptionPath + "/locations":                       t.locations,
		"GET " + subscriptionPath + "/providers":                       t.providers,
		"GET " + subscriptionPath + "/providers/{provider}":            t.provider,
		"POST " + subscriptionPath + "/providers/{provider}/register":  t.provider,
		"GET " + arm.SubscriptionPath + "/locations/{location}/usages": t.usages,

		"GET " + subscriptionPath + "/resources":      t.resources,
		"GET " + groupPath + "/resources":             t.resources,
		"GET " + subscriptionPath + "/resourceGroups": t.groups,
		"GET " + groupPath:                            t.group,
		"HEAD " + groupPath:                           t.headGroup,
	} {
		handle(pattern, t.reading(fn))
	}
	handle("PUT "+groupPath, t.writing(t.putGroup))
	handle("PATCH "+groupPath, t.writing(t.patchGroup))
	handle("DELETE "+groupPath, t.writing(t.deleteGroup))
	handle("GET "+subscriptionPath+"/operationresults/{operation}", t.reading(t.groupDeleted))
	t.registerEnvironments(handle)
	t.registerIdentities(handle)
	t.registerRoles(handle)
}

// reading lets those in who may list pools: what they see is what they may read.
func (t *Tree) reading(fn handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := auth.Require(r.Context(), auth.ListPools, sandpool.Scope{}); err != nil {
			return err
		}
		if s := r.PathValue("subscription"); s != "" {
			if err := arm.CheckScope(s, r.PathValue("resourceGroup")); err != nil {
				return err
			}
		}
		return fn(w, r)
	}
}

// writing lets those in who may change the resource group of the path.
func (t *Tree) writing(fn handler) handler {
	return t.reading(func(w http.ResponseWriter, r *http.Request) error {
		if err := auth.Require(r.Context(), auth.WriteGroup, scopeOf(r)); err != nil {
			return err
		}
		return fn(w, r)
	})
}

// scopeOf is the subscription or the resource group that the path of r names.
func scopeOf(r *http.Request) sandpool.Scope {
	return sandpool.Scope{Subscription: r.PathValue("subscription"),
		ResourceGroup: r.PathValue("resourceGroup")}
}

func list[T any](w http.ResponseWriter, values []T) error {
	if values == nil {
		values = []T{}
	}
	return arm.WriteJSON(w, http.StatusOK, api.List[T]{Value: values})
}

// subscriptions lists the subscriptions that hold a pool which the caller may read, and the
// server's own.
func (t *Tree) subscriptions(w http.ResponseWriter, r *http.Request) error {
	found, err := t.holders(r.Context(), sandpool.Scope{}, func(id sandpool.PoolID) sandpool.Scope {
		return sandpool.Scope{Subscription: id.Subscription}
	})
	if err != nil {
		return err
	}
	names := newSet(sandpool.DefaultSubscription)
	for _, in := range found {
		names.add(in.Subscription)
	}
	out := make([]api.Subscription, 0, len(names.names))
	for _, name := range names.names {
		out = append(out, subscriptionOf(name))
	}
	return list(w, out)
}

// set holds names, each in the spelling in which it came first.
type set struct {
	names []string
	seen  map[string]bool
}

func newSet(first string) *set {
	return &set{names: []string{first}, seen: map[string]bool{strings.ToLower(first): true}}
}

func (s *set) add(name string) {
	if key := strings.ToLower(name); !s.seen[key] {
		s.seen[key] = true
		s.names = append(s.names, name)
	}
}

func subscriptionOf(name string) api.Subscription {
	return api.Subscription{ID: "/subscriptions/" + name, SubscriptionID: name,
		DisplayName: "sandpool", State: "Enabled", TenantID: sandpool.DefaultSubscription}
}

func (t *Tree) subscription(w http.ResponseWriter, r *http.Request) error {
	return arm.WriteJSON(w, http.StatusOK, subscriptionOf(r.PathValue("subscription")))
}

func (t *Tree) tenants(w http.ResponseWriter, _ *http.Request) error {
	const id = sandpool.DefaultSubscription
	return list(w, []api.Tenant{{ID: "/tenants/" + id, TenantID: id, DisplayName: "sandpool"}})
}

func (t *Tree) locations(w http.ResponseWriter, r *http.Request) error {
	var out []api.Location
	known, _ := t.o.Locations()
	for _, name := range known {
		plain := strings.ToLower(strings.ReplaceAll(name, " ", ""))
		out = append(out, api.Location{ID: "/subscriptions/" + r.PathValue("subscription") +
			"/locations/" + plain, Name: plain, DisplayName: name})
	}
	return list(w, out)
}
