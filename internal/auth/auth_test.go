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
		return sandpool.Token{}, sandpool.Errorf(sandpool.NotFound, "TokenNotFound", "id",
			"There is no token %q.", id)
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
	every sandpool.Scope
	epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
)

// kit is an Authenticator of tokens in a memory store at a clock that the test moves.
type kit struct {
	*Authenticator
	*Tokens
	store *memory
	now   time.Time
}

func newKit(t *testing.T) *kit {
	t.Helper()
	k := &kit{store: newMemory(), now: epoch}
	tokens, err := NewTokens(k.store, func() time.Time { return k.now })
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAuthenticator(Options{
		Fail: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), map[sandpool.Class]int{sandpool.Unauthenticated: 401,
				sandpool.Unavailable: 503}[sandpool.ClassOf(err)])
		},
	}, tokens)
	if err != nil {
		t.Fatal(err)
	}
	k.Authenticator, k.Tokens = a, tokens
	return k
}

func (k *kit) token(t *testing.T, role sandpool.Role, scope sandpool.Scope,
	expires time.Time) (sandpool.Token, string) {
	t.Helper()
	row, text, err := k.Create(t.Context(), "test", []sandpool.Grant{{Role: role, Scope: scope}},
		expires)
	if err != nil {
		t.Fatal(err)
	}
	return row, text
}

// verify returns the error of a token's text.
func (k *kit) verify(t *testing.T, text string) error {
	_, err := k.Verify(t.Context(), Credential{Kind: Bearer, Text: text})
	return err
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
		w.Header().Set("Principal", p.Subject)
		if !ok {
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
		"unknown id": {"/x", []string{"Bearer " + tokenPrefix +
			strings.Repeat("a", idLen) + text[len(tokenPrefix)+idLen:]}},
		"id alone":         {"/x", []string{"Bearer " + tokenPrefix + other.ID + "_"}},
		"oversized":        {"/x", []string{"Bearer " + strings.Repeat("a", 1<<20)}},
		"in the query":     {"/x?access_token=" + text, nil},
		"in the query too": {"/x?access_token=" + text, []string{"Bearer " + text}},
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
		if rec := k.get("/x", scheme+text); rec.Code != 200 ||
			rec.Header().Get("Principal") != "token:"+row.ID {
			t.Errorf("%q: status %d", scheme, rec.Code)
		}
	}
}

func TestSecretIsNotStored(t *testing.T) {
	k := newKit(t)
	row, text := k.token(t, Admin, every, time.Time{})
	secret := text[strings.LastIndex(text, "_")+1:]
	if len(row.Hash) != 32 || strings.Contains(string(row.Hash), secret) ||
		strings.Contains(row.ID+row.Name, secret) {
		t.Errorf("row %+v holds the secret", row)
	}
}

func TestExpiry(t *testing.T) {
	k := newKit(t)
	_, text := k.token(t, Admin, every, epoch.Add(time.Minute))
	if err := k.verify(t, text); err != nil {
		t.Fatal(err)
	}
	// One nanosecond before the cached row ends and at the very end.
	k.now = epoch.Add(time.Minute - 1)
	if err := k.verify(t, text); err != nil {
		t.Errorf("before expiry: %v", err)
	}
	k.now = epoch.Add(time.Minute)
	if err := k.verify(t, text); sandpool.ClassOf(err) != sandpool.Unauthenticated {
		t.Errorf("at expiry: %v", err)
	}
	if _, _, err := NewToken("x", []sandpool.Grant{{Role: Admin}}, epoch, epoch); sandpool.ClassOf(
		err) != sandpool.Invalid {
		t.Errorf("a token that is expired at birth: %v", err)
	}
}

func TestRevocationIsAtOnce(t *testing.T) {
	k := newKit(t)
	row, text := k.token(t, Admin, every, time.Time{})
	for range 3 {
		if err := k.verify(t, text); err != nil {
			t.Fatal(err)
		}
	}
	if k.store.reads != 1 {
		t.Errorf("%d reads of the store for 3 requests", k.store.reads)
	}
	if err := k.Revoke(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	if err := k.verify(t, text); sandpool.ClassOf(err) != sandpool.Unauthenticated {
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
	_ = k.verify(t, text)
	if err := k.verify(t, text); sandpool.ClassOf(err) != sandpool.Unauthenticated {
		t.Errorf("after revocation: %v", err)
	}
}

func TestForeignChangeIsSeenSoon(t *testing.T) {
	k := newKit(t)
	row, text := k.token(t, Admin, every, time.Time{})
	if err := k.verify(t, text); err != nil {
		t.Fatal(err)
	}
	if err := k.store.DeleteToken(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	k.now = k.now.Add(cacheFor)
	if err := k.verify(t, text); sandpool.ClassOf(err) != sandpool.Unauthenticated {
		t.Errorf("after %v: %v", cacheFor, err)
	}
}

func TestGuessesNeitherFillNorUseTheCache(t *testing.T) {
	k := newKit(t)
	row, text := k.token(t, Admin, every, time.Time{})
	wrong := tokenPrefix + row.ID + "_" + strings.Repeat("a", secretLen)
	for range 2 {
		if err := k.verify(t, wrong); sandpool.ClassOf(err) != sandpool.Unauthenticated {
			t.Errorf("wrong secret: %v", err)
		}
	}
	if len(k.cache) != 0 {
		t.Errorf("guesses are in the cache")
	}
	for range cacheMax + 5 {
		_, other := k.token(t, Admin, every, time.Time{})
		if err := k.verify(t, other); err != nil {
			t.Fatal(err)
		}
	}
	if len(k.cache) > cacheMax {
		t.Errorf("the cache has grown to %d", len(k.cache))
	}
	if err := k.verify(t, text); err != nil {
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
		k.now = k.now.Add(cacheFor)
		if err := k.verify(t, text); sandpool.ClassOf(err) != sandpool.Unauthenticated {
			t.Errorf("hash of %d bytes: %v", len(h), err)
		}
	}
}

func TestRequireWithoutPrincipal(t *testing.T) {
	if err := Require(t.Context(), ListPools, sandpool.Scope{}); sandpool.ClassOf(
		err) != sandpool.Unauthenticated || err == nil {
		t.Errorf("got %v", err)
	}
}

func TestNewTokenRefuses(t *testing.T) {
	one := []sandpool.Grant{{Role: Admin}}
	for name, c := range map[string]struct {
		name   string
		grants []sandpool.Grant
	}{
		"no name":         {"", one},
		"a line":          {"a\nb", one},
		"space before":    {" a", one},
		"long":            {strings.Repeat("a", 101), one},
		"no such role":    {"x", []sandpool.Grant{{Role: "root"}}},
		"no role":         {"x", []sandpool.Grant{{}}},
		"one of them":     {"x", []sandpool.Grant{{Role: Admin}, {Role: "admin "}}},
		"no grant":        {"x", nil},
		"too many grants": {"x", slices.Repeat(one, maxGrants+1)},
	} {
		if _, _, err := NewToken(c.name, c.grants, time.Time{}, epoch); sandpool.ClassOf(
			err) != sandpool.Invalid || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNilPartsAreErrors(t *testing.T) {
	if _, err := NewTokens(nil, nil); err == nil {
		t.Error("no store is accepted")
	}
	fail := func(http.ResponseWriter, *http.Request, error) {}
	if _, err := NewAuthenticator(Options{}, &Tokens{}); err == nil {
		t.Error("no Fail is accepted")
	}
	for _, vs := range [][]Verifier{nil, {nil}, {&Tokens{}, nil}} {
		if _, err := NewAuthenticator(Options{Fail: fail}, vs...); err == nil {
			t.Errorf("the verifiers %v are accepted", vs)
		}
	}
}

// stub is a Verifier of the texts that begin with its own.
type stub string

func (s stub) Recognizes(c Credential) bool { return strings.HasPrefix(c.Text, string(s)) }

func (s stub) Verify(_ context.Context, c Credential) (Principal, error) {
	if c.Text != string(s)+"right" {
		return Principal{}, refused()
	}
	return Principal{Subject: string(s)}, nil
}

// TestOneVerifierDecides: a credential that its verifier refuses is shown to no other.
func TestOneVerifierDecides(t *testing.T) {
	a, err := NewAuthenticator(Options{Fail: func(http.ResponseWriter, *http.Request, error) {}},
		stub("one-"), stub("two-"), stub(""))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{"one-right": "one-", "two-right": "two-",
		"one-wrong": "", "two-one-right": "", "right": ""} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", "Bearer "+text)
		p, err := a.Authenticate(r)
		if p.Subject != want || (err == nil) != (want != "" || text == "right") {
			t.Errorf("%s: principal %q, %v", text, p.Subject, err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	_, text, err := NewToken("x", []sandpool.Grant{{Role: Admin}}, time.Time{}, epoch)
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

// TestEntraTokens checks that callers who bring the service's own kind of token learn which one
// they need.
func TestEntraTokens(t *testing.T) {
	rec := newKit(t).get("/x", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.")
	if rec.Code != 401 || !strings.Contains(rec.Body.String(), "sandpool token create") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

// TestRevokeWhileGranting: a change of a token's grants does not write a token again that is
// revoked meanwhile.
func TestRevokeWhileGranting(t *testing.T) {
	k := newKit(t)
	row, _, err := k.Create(t.Context(), "x", []sandpool.Grant{{Role: Admin}}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	reads := 0
	k.store.onRead = func() {
		if reads++; k.granting.TryLock() {
			k.granting.Unlock()
			t.Error("grants and the end of a token can be written at one time")
		}
	}
	if err := k.Grant(t.Context(), row.ID, sandpool.Grant{Role: SessionExecutor}); err != nil {
		t.Fatal(err)
	}
	if err := k.Revoke(t.Context(), row.ID); err != nil || reads != 2 {
		t.Errorf("%v, %d reads", err, reads)
	}
}
