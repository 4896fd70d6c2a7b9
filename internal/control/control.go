package control

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/control/network"
	"github.com/sandpool/sandpool/internal/control/tree"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/store"
)

// Pools is what the control plane needs of package pool. Unknown pools are
// errors of class NotFound.
type Pools interface {
	// Put creates or changes the pool of p's id and returns what it then is. secrets become its
	// only ones; nil keeps all that it has, and one without a value keeps that of its name.
	Put(ctx context.Context, p sandpool.Pool, secrets sandpool.Secrets) (sandpool.Pool, error)
	Pool(ctx context.Context, id sandpool.PoolID) (sandpool.Pool, error)
	Lists
	// Delete begins or ends the deletion of a pool and its sessions.
	Delete(ctx context.Context, id sandpool.PoolID) error
	Status(ctx context.Context, id sandpool.PoolID) (pool.Status, error)
	Sandboxes(ctx context.Context, id sandpool.PoolID) ([]sandpool.Sandbox, error)
	Stats(ctx context.Context, s sandpool.Sandbox) (sandbox.Stats, error)
	// Secret returns a secret of a pool, without a value if there is none of this name.
	Secret(ctx context.Context, id sandpool.PoolID, name string) (sandpool.Secret, error)
}

// Lists is what lists of pools need.
type Lists interface {
	// PoolsBetween returns those pools whose keys are at least from and less than below, at most
	// limit of them, ordered by key.
	PoolsBetween(ctx context.Context, from, below string, limit int) ([]sandpool.Pool, error)
	tree.Searcher
}

// Tokens is what the operator's calls need of package auth.
type Tokens interface {
	Create(ctx context.Context, name string, grants []sandpool.Grant,
		expires time.Time) (sandpool.Token, string, error)
	List(ctx context.Context) ([]sandpool.Token, error)
	Revoke(ctx context.Context, id string) error
	tree.Granter
}

var (
	_ Pools  = (*pool.Manager)(nil)
	_ Tokens = (*auth.Tokens)(nil)
)

// Ranges are the ranges of a pool's settings. A zero field means the default.
type Ranges struct {
	// MinCooldown and MaxCooldown default to 300 s and 3600 s.
	MinCooldown time.Duration
	MaxCooldown time.Duration
	// MaxSessions bounds maxConcurrentSessions; the default is 600.
	MaxSessions int
	// Resources is the most that a pool may give one sandbox; a zero field
	// there means no bound.
	Resources sandpool.Resources
}

// AnyLocation is that of pools which name none, on servers without locations of their own.
const AnyLocation = "local"

// Options are the parts of the control plane that the server chooses.
type Options struct {
	Limits Ranges
	// BaseURL is how the caller of r reaches this server, without a trailing
	// slash; nil means the scheme and host of the request.
	BaseURL func(r *http.Request) string
	// Endpoint is the data-plane endpoint of a pool; nil means its path below BaseURL.
	Endpoint func(p sandpool.Pool, r *http.Request) string
	// Pulling says how far the pull of a pool's image is, nil if none is under way; nil means that
	// nobody knows.
	Pulling func(id sandpool.PoolID) *api.Pull
	// Kinds are the container types that the server builds; nil means PythonLTS alone.
	Kinds []sandpool.ContainerType
	// Locations returns those that pools may have, the first one that of pools whose request names
	// none; without any, or if it is nil, that is "local", and pools may have every location.
	Locations func() []string
	// Documents keeps what is no pool; nil means memory.
	Documents store.Documents
	// PageSize bounds a page of a list; zero means 100.
	PageSize int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Network knows the networks of sandboxes; nil means that pools can have none.
	Network network.Host
	// NoHistory says that the server keeps for no pool what its sessions run.
	NoHistory bool
	// History is how a pool did lately; nil means that nobody knows.
	History func(id sandpool.PoolID, window string) (api.History, error)
	// Foreign means that roles can be given to principals of foreign issuers.
	Foreign bool
	// Identities means that code in sandboxes can be given tokens of its pool's identity.
	Identities bool
	// Ended is told of role assignments that end by themselves; nil means that nobody is.
	Ended func(api.RoleAssignment)
	// Events hears what happens to pools and answers questions for it; nil means one of the
	// control plane's own.
	Events *event.Bus
}

// Control serves the control plane.
type Control struct {
	respond *arm.Responder
	pools   Pools
	tokens  Tokens
	tree    *tree.Tree
	o       Options

	// writing holds one token: reading a pool, deciding on a change and
	// writing it are one step. A channel, because waiting for it ends with the request.
	writing chan struct{}
}

// New returns a Control that changes pools and tokens and answers errors by respond.
func New(respond *arm.Responder, pools Pools, tokens Tokens, o Options) (*Control, error) {
	if respond == nil || pools == nil || tokens == nil {
		return nil, errors.New("control: a responder, pools and tokens are required")
	}
	c := &Control{respond: respond, pools: pools, tokens: tokens, o: o,
		writing: make(chan struct{}, 1)}
	c.defaults()
	var err error
	c.tree, err = tree.New(whole{c}, c.o.Documents,
		tokens, tree.Options{Locations: c.locations,
			MaxPools: maxPools, BaseURL: c.o.BaseURL, Now: c.o.Now, Foreign: c.o.Foreign,
			Ended: c.o.Ended})
	return c, err
}

// ForgetEnded deletes the role assignments that have ended, and returns how many.
func (c *Control) ForgetEnded(ctx context.Context) (int, error) { return c.tree.ForgetEnded(ctx) }

// Assigned returns the grants of a foreign principal by role assignments that name its ids.
func (c *Control) Assigned(ctx context.Context, ids []string) ([]sandpool.Grant, error) {
	return c.tree.Assigned(ctx, ids)
}

// UserAssigned returns the principal of the user-assigned identity with a resource id; empty if
// there is none.
func (c *Control) UserAssigned(ctx context.Context, id string) (string, error) {
	return c.tree.UserAssigned(ctx, id)
}

// OfPool returns the grants of a managed identity's principal by role assignments.
func (c *Control) OfPool(ctx context.Context, principal string) ([]sandpool.Grant, error) {
	return c.tree.OfPool(ctx, principal)
}

func (c *Control) defaults() {
	l := &c.o.Limits
	if l.MinCooldown == 0 {
		l.MinCooldown = 300 * time.Second
	}
	if l.MaxCooldown == 0 {
		l.MaxCooldown = 3600 * time.Second
	}
	if l.MaxSessions == 0 {
		l.MaxSessions = 600
	}
	if c.o.Kinds == nil {
		c.o.Kinds = []sandpool.ContainerType{sandpool.PythonLTS}
	}
	if c.o.BaseURL == nil {
		c.o.BaseURL = arm.BaseURL
	}
	if c.o.Endpoint == nil {
		c.o.Endpoint = func(p sandpool.Pool, r *http.Request) string {
			return c.o.BaseURL(r) + arm.EndpointOf(p.ID)
		}
	}
	if c.o.Pulling == nil {
		c.o.Pulling = func(sandpool.PoolID) *api.Pull { return nil }
	}
	if c.o.Locations == nil {
		c.o.Locations = func() []string { return nil }
	}
	if c.o.Documents == nil {
		c.o.Documents = &tree.Memory{}
	}
	if c.o.PageSize == 0 {
		c.o.PageSize = 100
	}
	if c.o.Now == nil {
		c.o.Now = time.Now
	}
	if c.o.History == nil {
		c.o.History = func(_ sandpool.PoolID, window string) (api.History, error) {
			return api.History{Window: window, Points: []api.HistoryPoint{}}, nil
		}
	}
	if c.o.Events == nil {
		c.o.Events = event.New()
	}
}

// Mux takes routes; http.ServeMux does.
type Mux interface {
	Handle(pattern string, h http.Handler)
}

// Register puts the routes on mux, whose paths must have been normalised and whose
// requests carry a principal (auth.Authenticator.Middleware).
func (c *Control) Register(mux Mux) {
	handle := func(pattern string, fn func(http.ResponseWriter, *http.Request) error) {
		mux.Handle(pattern, c.respond.Handle(fn))
	}
	handle("GET "+arm.SubscriptionPath+"/sessionPools", c.list)
	handle("GET "+arm.ResourceGroupPath+"/sessionPools", c.list)
	handle("GET "+arm.SubscriptionPath+
		"/locations/{location}/containerappOperationStatuses/{operation}", c.operationStatus)
	handle("GET "+arm.SubscriptionPath+
		"/locations/{location}/containerappOperationResults/{operation}", c.operationResult)

	handle("PUT "+arm.PoolPath, c.onPool(auth.WritePool, c.put))
	handle("GET "+arm.PoolPath, c.onPool(auth.ReadPool, c.get))
	handle("HEAD "+arm.PoolPath, c.onPool(auth.ReadPool, c.head))
	handle("PATCH "+arm.PoolPath, c.onPool(auth.WritePool, c.patch))
	handle("DELETE "+arm.PoolPath, c.onPool(auth.DeletePool, c.delete))
	handle(arm.PoolPath, c.onPool(auth.ReadPool, methodNotAllowed))
	handle("GET "+arm.PoolPath+"/status", c.onPool(auth.ReadStatus, c.status))
	handle("GET "+arm.PoolPath+"/egress", c.onPool(auth.ReadStatus, c.egress))
	handle("GET "+arm.PoolPath+"/history", c.onPool(auth.ReadStatus, c.history))
	handle("GET "+arm.PoolPath+"/events", c.onPool(auth.ReadStatus, c.poolEvents))
	handle("GET /sandpool/events", c.serverEvents)
	handle("POST "+arm.PoolPath+"/fetchMCPServerCredentials", c.onPool(auth.WritePool, c.fetchKey))
	handle("POST "+arm.PoolPath+"/rotateMCPServerCredentials",
		c.onPool(auth.WritePool, c.rotateKey))
	handle("POST "+arm.PoolPath+"/regenerateCredentials", c.onPool(auth.WritePool, c.rotateKey))
	c.tree.Register(handle)

	handle("GET /sandpool/tokens", c.onTokens(c.listTokens))
	handle("POST /sandpool/tokens", c.onTokens(c.createToken))
	handle("GET /sandpool/tokens/{id}", c.onTokens(c.getToken))
	handle("DELETE /sandpool/tokens/{id}", c.onTokens(c.deleteToken))
}

// onPool reads the pool's id, checks the permission, and only then calls fn.
func (c *Control) onPool(a auth.Action, fn func(http.ResponseWriter, *http.Request,
	sandpool.PoolID) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		id, err := arm.ParsePoolID(r)
		if err != nil {
			return err
		}
		if err := auth.Require(r.Context(), a, id.Scope()); err != nil {
			return err
		}
		return fn(w, r, id)
	}
}

// lock waits for the right to change pools. The caller calls unlock.
func (c *Control) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case c.writing <- struct{}{}:
		return func() { <-c.writing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// maxPools is the limit that reads of the usage show: more were not tried.
const maxPools = 10_000

// whole is the control plane as the tree around its pools sees it.
type whole struct{ c *Control }

// Between implements tree.Pools.
func (w whole) Between(ctx context.Context, from, below string,
	limit int) ([]sandpool.Pool, error) {
	return w.c.pools.PoolsBetween(ctx, from, below, limit)
}

// Delete implements tree.Pools.
func (w whole) Delete(ctx context.Context, id sandpool.PoolID) error {
	unlock, err := w.c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	err = w.c.pools.Delete(ctx, id)
	if err != nil && sandpool.ClassOf(err) == sandpool.NotFound {
		return nil
	}
	return err
}

func methodNotAllowed(w http.ResponseWriter, r *http.Request, _ sandpool.PoolID) error {
	w.Header().Set("Allow", "GET, HEAD, PUT, PATCH, DELETE")
	return sandpool.Errorf(sandpool.Invalid, "MethodNotAllowed", "",
		"A session pool does not know the method %s. Use GET, PUT, PATCH or DELETE.", r.Method)
}

// locations returns those that there are, and whether every other one will do too.
func (c *Control) locations() (known []string, every bool) {
	if known = c.o.Locations(); len(known) == 0 {
		return []string{AnyLocation}, true
	}
	return known, false
}

// location is a location as pools in it have it, and false if the server has it not.
func (c *Control) location(name string) (string, bool) {
	known, every := c.locations()
	for _, k := range known {
		if sandpool.PlainLocation(k) == sandpool.PlainLocation(name) && !every {
			return k, true
		}
	}
	return name, every
}
