package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/openapi/openapitest"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/store"
)

// described holds the answers of all tests to the description.
var described = openapitest.New("Session pools", "Resource Manager", "Tokens", "Events")

func TestMain(m *testing.M) { os.Exit(described.End(m.Run())) }

// fakePools is a Pools whose pools become what the test says after a number of looks.
type fakePools struct {
	mu    sync.Mutex
	pools map[string]*fakePool
	// next is what new pools and revisions become; looks is how many reads
	// see them on the way, and how many see a pool that is being deleted.
	next   sandpool.ProvisioningState
	looks  int
	now    time.Time
	putErr error
	// secrets are those of the last Put that spoke of them.
	secrets sandpool.Secrets
	// boxes are the sandboxes of every pool.
	boxes []sandpool.Sandbox
	// rows are those that lists have read.
	rows int
}

type fakePool struct {
	pool  sandpool.Pool
	looks int
}

func (f *fakePools) tick() time.Time { f.now = f.now.Add(time.Second); return f.now }

func (f *fakePools) Put(_ context.Context, p sandpool.Pool,
	secrets sandpool.Secrets) (sandpool.Pool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.putErr != nil {
		return sandpool.Pool{}, f.putErr
	}
	if secrets != nil {
		p.Spec.Secrets = map[string]string{}
		for _, name := range secrets.Names() {
			p.Spec.Secrets[name] = "v1"
		}
		f.secrets = secrets
	}
	p.UpdatedAt = f.tick()
	p.State, p.Revision = sandpool.InProgress, 1
	if old := f.pools[p.ID.Key()]; old != nil {
		p.CreatedAt, p.Revision = old.pool.CreatedAt, old.pool.Revision+1
		p.CreatedBy = old.pool.CreatedBy
		if p.SameSettings(old.pool) {
			p.UpdatedAt, p.UpdatedBy = old.pool.UpdatedAt, old.pool.UpdatedBy
		}
	} else {
		p.CreatedAt, p.CreatedBy = p.UpdatedAt, p.UpdatedBy
	}
	f.pools[p.ID.Key()] = &fakePool{pool: p, looks: f.looks}
	if f.looks == 0 {
		p.State = f.next
		f.pools[p.ID.Key()].pool.State = f.next
	}
	return p, nil
}

func (f *fakePools) Pool(_ context.Context, id sandpool.PoolID) (sandpool.Pool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pools[id.Key()]
	missing := sandpool.Errorf(sandpool.NotFound, "ResourceNotFound", id.String(),
		"There is no session pool %q.", id.Name)
	if p == nil {
		return sandpool.Pool{}, missing
	}
	if p.looks > 0 {
		p.looks--
	} else if p.pool.State == sandpool.Deleting {
		delete(f.pools, id.Key())
		return sandpool.Pool{}, missing
	} else if p.pool.State == sandpool.InProgress {
		p.pool.State, p.pool.SettledAt = f.next, f.tick()
		if f.next == sandpool.Failed {
			p.pool.Problem = "The image is broken."
		}
	}
	return p.pool, nil
}

func (f *fakePools) PoolsBetween(_ context.Context, from, below string,
	limit int) ([]sandpool.Pool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []sandpool.Pool
	for _, key := range slices.Sorted(maps.Keys(f.pools)) {
		if key >= from && key < below && len(out) < limit {
			out = append(out, f.pools[key].pool)
			f.rows++
		}
	}
	return out, nil
}

// PoolsNamed counts the names that it looks at as rows.
func (f *fakePools) PoolsNamed(_ context.Context, from, below, part string,
	look, limit int) (out store.Found, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(f.pools)) {
		if key < from || key >= below || out.Looked == look {
			continue
		}
		out.Looked, out.Last = out.Looked+1, key
		p := f.pools[key].pool
		if strings.Contains(strings.ToLower(p.ID.Name), part) && len(out.Pools) < limit {
			out.Pools = append(out.Pools, p)
		}
		f.rows++
	}
	return out, nil
}

func (f *fakePools) Delete(_ context.Context, id sandpool.PoolID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pools[id.Key()]
	p.pool.State, p.looks, p.pool.UpdatedAt = sandpool.Deleting, f.looks, f.tick()
	return nil
}

func (f *fakePools) Status(context.Context, sandpool.PoolID) (pool.Status, error) {
	return pool.Status{Ready: 2, Claimed: 1, Wanted: 5, Because: "so",
		Claims: map[sandpool.ClaimOutcome]int64{sandpool.ClaimReady: 7}}, nil
}

func (f *fakePools) Sandboxes(context.Context, sandpool.PoolID) ([]sandpool.Sandbox, error) {
	return f.boxes, nil
}

func (f *fakePools) Secret(_ context.Context, id sandpool.PoolID, name string) (sandpool.Secret,
	error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pools[id.Key()] == nil {
		return sandpool.Secret{}, sandpool.Errorf(sandpool.NotFound, "", "", "no pool")
	}
	return f.secrets[name], nil
}

func (f *fakePools) Stats(_ context.Context, s sandpool.Sandbox) (sandbox.Stats, error) {
	if s.ID == "gone" {
		return sandbox.Stats{}, errors.New("it has just ended")
	}
	return sandbox.Stats{Memory: 42 << 20, CPUTime: 1500 * time.Millisecond}, nil
}

// tokenMemory is a TokenStore in memory.
type tokenMemory struct {
	mu   sync.Mutex
	rows []sandpool.Token
}

func (m *tokenMemory) Tokens(context.Context) ([]sandpool.Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]sandpool.Token(nil), m.rows...), nil
}

func (m *tokenMemory) Token(_ context.Context, id string) (sandpool.Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.rows {
		if t.ID == id {
			return t, nil
		}
	}
	return sandpool.Token{}, sandpool.Errorf(sandpool.NotFound, "TokenNotFound", "id",
		"There is no token with the id %q.", id)
}

func (m *tokenMemory) PutToken(_ context.Context, t sandpool.Token) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.rows {
		if m.rows[i].ID == t.ID {
			m.rows[i] = t
			return nil
		}
	}
	m.rows = append(m.rows, t)
	return nil
}

func (m *tokenMemory) DeleteToken(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, t := range m.rows {
		if t.ID == id {
			m.rows = append(m.rows[:i:i], m.rows[i+1:]...)
		}
	}
	return nil
}

// kit is a served control plane and a token for each role.
type kit struct {
	control *Control
	t       *testing.T
	pools   *fakePools
	tokens  *auth.Tokens
	srv     *httptest.Server
	admin   string
}

func newKit(t *testing.T, o Options) *kit {
	t.Helper()
	k := &kit{t: t, pools: &fakePools{pools: map[string]*fakePool{}, next: sandpool.Succeeded,
		now: time.Now().Add(-time.Hour)}}
	respond := &arm.Responder{Log: slog.New(slog.DiscardHandler)}
	var err error
	if k.tokens, err = auth.NewTokens(&tokenMemory{}, o.Now); err != nil {
		t.Fatal(err)
	}
	callers, err := auth.NewAuthenticator(auth.Options{Fail: respond.Error, Now: o.Now},
		k.tokens)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(respond, k.pools, k.tokens, o)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	c.Register(mux)
	mux.Handle("/", respond.NotFound())
	k.control = c
	k.srv = httptest.NewTLSServer(arm.Trace(respond.Normalise(
		callers.Middleware(described.Mux(mux)))))
	t.Cleanup(k.srv.Close)
	k.admin = k.token(auth.Admin, sandpool.PoolID{})
	return k
}

func (k *kit) token(role sandpool.Role, pool sandpool.PoolID) string {
	k.t.Helper()
	if pool != (sandpool.PoolID{}) {
		return k.tokenOf(role, pool.Scope())
	}
	return k.tokenOf(role, sandpool.Scope{})
}

// tokenOf is a token with a role in several scopes.
func (k *kit) tokenOf(role sandpool.Role, in ...sandpool.Scope) string {
	k.t.Helper()
	var grants []sandpool.Grant
	for _, scope := range in {
		grants = append(grants, sandpool.Grant{Role: role, Scope: scope})
	}
	_, text, err := k.tokens.Create(k.t.Context(), "test "+string(role), grants, time.Time{})
	if err != nil {
		k.t.Fatal(err)
	}
	return text
}

const (
	rg      = "/subscriptions/s1/resourceGroups/lab/providers/Microsoft.App/sessionPools"
	pypool  = rg + "/pypool"
	version = "?api-version=2025-07-01"
)

type reply struct {
	status int
	header http.Header
	body   []byte
	pool   api.SessionPool
	err    api.ErrorDetail
}

// as sends a request with the given token; target is a path or a whole address.
func (k *kit) as(token, method, target, body string) reply {
	k.t.Helper()
	if strings.HasPrefix(target, "/") {
		target = k.srv.URL + target
	}
	req, err := http.NewRequestWithContext(k.t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		k.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := k.srv.Client().Do(req)
	if err != nil {
		k.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	out := reply{status: resp.StatusCode, header: resp.Header}
	if out.body, err = io.ReadAll(resp.Body); err != nil {
		k.t.Fatal(err)
	}
	var e api.ErrorBody
	switch {
	case resp.StatusCode >= 400 && method != http.MethodHead:
		err = json.Unmarshal(out.body, &e)
		out.err = e.Error
	case len(bytes.TrimSpace(out.body)) > 0:
		err = json.Unmarshal(out.body, &out.pool)
	}
	if err != nil {
		k.t.Fatalf("%s %s: body %q: %v", method, target, out.body, err)
	}
	return out
}

func (k *kit) do(method, target, body string) reply {
	k.t.Helper()
	return k.as(k.admin, method, target, body)
}

// want fails the test unless r has the given status.
func (k *kit) want(status int, r reply) reply {
	k.t.Helper()
	if r.status != status {
		k.t.Fatalf("status %d, want %d: %s", r.status, status, r.body)
	}
	return r
}
