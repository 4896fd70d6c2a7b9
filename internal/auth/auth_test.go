package auth

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
)

// memory is a TokenStore whose faults can be ordered.
type memory struct {
	mu     sync.Mutex
	rows   map[string]sandpool.Token
	reads  int
	broken error
	// onRead is called by Token after it has read its row.
	onRead func()
}

func newMemory() *memory { return &memory{rows: map[string]sandpool.Token{}} }

func (m *memory) Tokens(context.Context) ([]sandpool.Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []sandpool.Token
	for _, t := range m.rows {
		out = append(out, t)
	}
	return out, m.broken
}

func (m *memory) Token(_ context.Context, id string) (sandpool.Token, error) {
	m.mu.Lock()
	t, ok := m.rows[id]
	m.reads++
	broken, onRead := m.broken, m.onRead
	m.mu.Unlock()
	if onRead != nil {
		onRead()
	}
	switch {
	case broken != nil:
		return sandpool.Token{}, broken
	case !ok:
		return sandpool.Token{}, sandpool.Errorf(sandpool.NotFound, "TokenNotFound", "id", "There is no token %q.", id)
	}
	return t, nil
}

func (m *memory) PutToken(_ context.Context, t sandpool.Token) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows[t.ID] = t
	return m.broken
}

func (m *memory) DeleteToken(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.rows, id)
	return m.broken
}

var (
	poolA = sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "alpha"}
	poolB = sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "beta"}
	every sandpool.PoolID
	epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
)

// kit is an Authenticator over a memory store at a clock that the test moves.
type kit struct {
	*Authenticator
	store *memory
	now   time.Time
}

func newKit(t *testing.T) *kit {
	t.Helper()
	k := &kit{store: newMemory(), now: epoch}
	a, err := NewAuthenticator(k.store, Options{
		Open: []string{"/healthz"},
		Now:  func() time.Time { return k.now },
		Fail: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), map[sandpool.Class]int{sandpool.Unauthenticated: 401, sandpool.Unavailable: 503}[sandpool.ClassOf(err)])
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	k.Authenticator = a
	return k
}

func (k *kit) token(t *testing.T, role Role, scope sandpool.PoolID, expires time.Time) (sandpool.Token, string) {
	t.Helper()
	row, text, err := k.Create(t.Context(), "test", role, scope, expires)
	if err != nil {
		t.Fatal(err)
	}
	return row, text
}

// get sends a request through Middleware and returns its status.
func (k *kit) get(target string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", target, nil)
	for _, h := range headers {
		r.Header.Add("Authorization", h)
	}
	rec := httptest.NewRecorder()
	k.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := FromContext(r.Context())
		w.Header().Set("Principal", p.TokenID)
		if !ok && r.URL.Path != "/healthz" {
			w.WriteHeader(http.StatusTeapot)
		}
	})).ServeHTTP(rec, r)
	return rec
}

func TestMiddlewareDeniesByDefault(t *testing.T) {
	k := newKit(t)
	row, text := k.token(t, Admin, every, time.Time{})
	other, otherText := k.token(t, Admin, every, time.Time{})
	mixed := tokenPrefix + row.ID + otherText[strings.LastIndex(otherText, "_"):]
	flip := []byte(text)
	if flip[len(flip)-1]++; flip[len(flip)-1] > 'z' || flip[len(flip)-1] == '8' {
		flip[len(flip)-1] = 'a'
	}
	for name, c := range map[string]struct {
		target  string
		headers []string
	}{
		"no header":               {"/x", nil},
		"empty header":            {"/x", []string{""}},
		"scheme alone":            {"/x", []string{"Bearer"}},
		"scheme and space":        {"/x", []string{"Bearer "}},
		"no scheme":               {"/x", []string{text}},
		"other scheme":            {"/x", []string{"Basic " + text}},
		"two headers":             {"/x", []string{"Bearer " + text, "Bearer " + text}},
		"two in one":              {"/x", []string{"Bearer " + text + ", Bearer " + text}},
		"tab between":             {"/x", []string{"Bearer\t" + text}},
		"last character differs":  {"/x", []string{"Bearer " + string(flip)}},
		"cut":                     {"/x", []string{"Bearer " + text[:len(text)-1]}},
		"longer":                  {"/x", []string{"Bearer " + text + "a"}},
		"upper case":              {"/x", []string{"Bearer " + strings.ToUpper(text)}},
		"id and another's secret": {"/x", []string{"Bearer " + mixed}},
		"unknown id":              {"/x", []string{"Bearer " + tokenPrefix + strings.Repeat("a", idLen) + text[len(tokenPrefix)+idLen:]}},
		"id alone":                {"/x", []string{"Bearer " + tokenPrefix + other.ID + "_"}},
		"oversized":               {"/x", []string{"Bearer " + strings.Repeat("a", 1<<20)}},
		"in the query":            {"/x?access_token=" + text, nil},
		"in the query too":        {"/x?access_token=" + text, []string{"Bearer " + text}},
		"open path with more":     {"/healthz/x", nil},
		"open path escaped":       {"/health%7a", nil},
		"open path as prefix":     {"/healthz%2fx", nil},
		"open path's case":        {"/HEALTHZ", nil},
	} {
		rec := k.get(c.target, c.headers...)
		if rec.Code != 401 || !strings.HasPrefix(rec.Header().Get("Www-Authenticate"), "Bearer") {
			t.Errorf("%s: status %d", name, rec.Code)
		}
		if strings.Contains(rec.Body.String(), text) {
			t.Errorf("%s: the answer repeats the token", name)
		}
	}
	for _, scheme := range []string{"Bearer ", "bearer ", "BEARER  "} {
		if rec := k.get("/x", scheme+text); rec.Code != 200 || rec.Header().Get("Principal") != row.ID {
			t.Errorf("%q: status %d", scheme, rec.Code)
		}
	}
	if rec := k.get("/healthz"); rec.Code != 200 {
		t.Errorf("open path: status %d", rec.Code)
	}
}

func TestSecretIsNotStored(t *testing.T) {
	k := newKit(t)
	row, text := k.token(t, Admin, every, time.Time{})
	secret := text[strings.LastIndex(text, "_")+1:]
	if len(row.Hash) != 32 || strings.Contains(string(row.Hash), secret) || strings.Contains(row.ID+row.Name, secret) {
		t.Errorf("row %+v holds the secret", row)
	}
}

func TestExpiry(t *testing.T) {
	k := newKit(t)
	_, text := k.token(t, Admin, every, epoch.Add(time.Minute))
	if _, err := k.Verify(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	// One nanosecond before the cached row ends and at the very end.
	k.now = epoch.Add(time.Minute - 1)
	if _, err := k.Verify(t.Context(), text); err != nil {
		t.Errorf("before expiry: %v", err)
	}
	k.now = epoch.Add(time.Minute)
	if _, err := k.Verify(t.Context(), text); sandpool.ClassOf(err) != sandpool.Unauthenticated {
		t.Errorf("at expiry: %v", err)
	}
	if _, _, err := NewToken("x", Admin, every, epoch, epoch); sandpool.ClassOf(err) != sandpool.Invalid {
		t.Errorf("a token that is expired at birth: %v", err)
	}
}

func TestRevocationIsAtOnce(t *testing.T) {
	k := newKit(t)
	row, text := k.token(t, Admin, every, time.Time{})
	for range 3 {
		if _, err := k.Verify(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	if k.store.reads != 1 {
		t.Errorf("%d reads of the store for 3 requests", k.store.reads)
	}
	if err := k.Revoke(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Verify(t.Context(), text); sandpool.ClassOf(err) != sandpool.Unauthenticated {
		t.Errorf("after revocation: %v", err)
	}
	if err := k.Revoke(t.Context(), row.ID); sandpool.ClassOf(err) != sandpool.NotFound {
		t.Errorf("second revocation: %v", err)
	}
}

// A request reads the token, then the token is revoked, then the request goes
// on: it may pass, but must not put the token into the cache.
func TestRevocationDuringALook(t *testing.T) {
	k := newKit(t)
	row, text := k.token(t, Admin, every, time.Time{})
	k.store.onRead = func() {
		k.store.onRead = nil // Revoke reads too
		if err := k.Revoke(t.Context(), row.ID); err != nil {
			t.Error(err)
		}
	}
	_, _ = k.Verify(t.Context(), text)
	if _, err := k.Verify(t.Context(), text); sandpool.ClassOf(err) != sandpool.Unauthenticated {
		t.Errorf("after revocation: %v", err)
	}
}

func TestForeignChangeIsSeenSoon(t *testing.T) {
	k := newKit(t)
	row, text := k.token(t, Admin, every, time.Time{})
	if _, err := k.Verify(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	if err := k.store.DeleteToken(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	k.now = k.now.Add(cacheFor)
	if _, err := k.Verify(t.Context(), text); sandpool.ClassOf(err) != sandpool.Unauthenticated {
		t.Errorf("after %v: %v", cacheFor, err)
	}
}

func TestGuessesNeitherFillNorUseTheCache(t *testing.T) {
	k := newKit(t)
	row, text := k.token(t, Admin, every, time.Time{})
	wrong := tokenPrefix + row.ID + "_" + strings.Repeat("a", secretLen)
	for range 2 {
		if _, err := k.Verify(t.Context(), wrong); sandpool.ClassOf(err) != sandpool.Unauthenticated {
			t.Errorf("wrong secret: %v", err)
		}
	}
	if len(k.cache) != 0 {
		t.Errorf("guesses are in the cache")
	}
	for range cacheMax + 5 {
		_, other := k.token(t, Admin, every, time.Time{})
		if _, err := k.Verify(t.Context(), other); err != nil {
			t.Fatal(err)
		}
	}
	if len(k.cache) > cacheMax {
		t.Errorf("the cache has grown to %d", len(k.cache))
	}
	if _, err := k.Verify(t.Context(), text); err != nil {
		t.Errorf("token pushed out of the cache: %v", err)
	}
}

func TestBrokenStoreIsNot401(t *testing.T) {
	k := newKit(t)
	_, text := k.token(t, Admin, every, time.Time{})
	k.store.broken = errors.New("disk on fire")
	if rec := k.get("/x", "Bearer "+text); rec.Code != 503 {
		t.Errorf("status %d", rec.Code)
	}
}

// A row that lost its hash must not be opened by any secret.
func TestRowWithoutHashOpensToNobody(t *testing.T) {
	k := newKit(t)
	row, text := k.token(t, Admin, every, time.Time{})
	for _, h := range [][]byte{nil, {}, row.Hash[:31], make([]byte, 32)} {
		row.Hash = h
		if err := k.store.PutToken(t.Context(), row); err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(t.Context(), k.store, text, epoch); sandpool.ClassOf(err) != sandpool.Unauthenticated {
			t.Errorf("hash of %d bytes: %v", len(h), err)
		}
	}
}

func TestAllow(t *testing.T) {
	all := []Action{ListPools, ReadPool, WritePool, DeletePool, ReadStatus, Execute, ReadSessions, ManageTokens}
	may := map[Role][]Action{
		Admin:           all,
		PoolContributor: {ListPools, ReadPool, WritePool, DeletePool, ReadStatus},
		SessionExecutor: {ListPools, ReadPool, ReadStatus, Execute, ReadSessions},
		"":              nil,
		"Admin":         nil, // roles are compared exactly
	}
	for role, actions := range may {
		for _, a := range append(slices.Clone(all), "unheard of", "") {
			p := Principal{TokenID: "id1", Name: "ci", Role: role}
			err := Allow(p, a, poolA)
			if (err == nil) != slices.Contains(actions, a) {
				t.Errorf("role %q, action %q: %v", role, a, err)
			}
			if err != nil && (sandpool.ClassOf(err) != sandpool.Denied || !strings.Contains(err.Error(), string(a)) || !strings.Contains(err.Error(), "id1")) {
				t.Errorf("role %q, action %q: the error does not name both: %v", role, a, err)
			}
			p.Pool = poolA
			other := Allow(p, a, poolB)
			if other == nil && a != ListPools {
				t.Errorf("role %q limited to %s may %s in %s", role, poolA.Name, a, poolB.Name)
			}
		}
	}
}

func TestScope(t *testing.T) {
	p := Principal{Role: Admin, Pool: poolA}
	same := sandpool.PoolID{Subscription: "S", ResourceGroup: "G", Name: "ALPHA"}
	if err := Allow(p, Execute, same); err != nil {
		t.Errorf("case matters: %v", err)
	}
	if err := Allow(p, ManageTokens, every); err == nil {
		t.Error("an administrator of one pool may make tokens for all")
	}
	if err := Allow(Principal{Role: Admin}, Execute, every); err == nil {
		t.Error("an action on a pool is allowed without a pool")
	}
	for _, id := range []sandpool.PoolID{{Subscription: "s", ResourceGroup: "g", Name: "alph"}, {Subscription: "s", ResourceGroup: "g2", Name: "alpha"}, {Subscription: "s2", ResourceGroup: "g", Name: "alpha"}} {
		if p.Sees(id) {
			t.Errorf("scope %s includes %s", p.Pool, id)
		}
	}
}

func TestRequireWithoutPrincipal(t *testing.T) {
	if err := Require(t.Context(), ListPools, every); sandpool.ClassOf(err) != sandpool.Unauthenticated || err == nil {
		t.Errorf("got %v", err)
	}
}

func TestNewTokenRefuses(t *testing.T) {
	for _, c := range []struct{ name, role string }{{"", Admin}, {"a\nb", Admin}, {" a", Admin}, {strings.Repeat("a", 101), Admin}, {"x", "root"}, {"x", ""}} {
		if _, _, err := NewToken(c.name, c.role, every, time.Time{}, epoch); sandpool.ClassOf(err) != sandpool.Invalid || err == nil {
			t.Errorf("name %q, role %q: %v", c.name, c.role, err)
		}
	}
}

func TestNilPartsAreErrors(t *testing.T) {
	if _, err := NewAuthenticator(nil, Options{Fail: func(http.ResponseWriter, *http.Request, error) {}}); err == nil {
		t.Error("no store is accepted")
	}
	if _, err := NewAuthenticator(newMemory(), Options{}); err == nil {
		t.Error("no Fail is accepted")
	}
}

func FuzzParseToken(f *testing.F) {
	_, text, err := NewToken("x", Admin, every, time.Time{}, epoch)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("sp__")
	f.Add("sp_aaaaaaaaaaaaaaaa_")
	f.Fuzz(func(t *testing.T, s string) {
		id, secret, ok := parseToken(s)
		if ok && (tokenPrefix+id+"_"+secret != s || len(id) != idLen || len(secret) != secretLen) {
			t.Fatalf("%q is read as %q and %q", s, id, secret)
		}
	})
}

// TestEntraTokens checks that callers who bring the service's own kind of token learn which one they need.
func TestEntraTokens(t *testing.T) {
	_, err := Verify(t.Context(), nil, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.", time.Unix(0, 0))
	if sandpool.ClassOf(err) != sandpool.Unauthenticated || !strings.Contains(err.Error(), "sandpool token create") {
		t.Errorf("error %v", err)
	}
}
