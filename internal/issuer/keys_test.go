package issuer

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/store"
)

// token is one of the client's, as it is given out now.
func (k *kit) token() string {
	k.t.Helper()
	_, got := k.ask("POST", "/adfs/oauth2/token",
		credentials("https://dynamicsessions.io/.default"))
	text, _ := got["access_token"].(string)
	if text == "" {
		k.t.Fatalf("no token: %v", got)
	}
	return text
}

// published are the ids of the keys that others find.
func (k *kit) published() (ids []string) {
	k.t.Helper()
	_, got := k.ask("GET", "/adfs/discovery/keys", nil)
	raw, err := json.Marshal(got)
	if err != nil {
		k.t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(raw, &set); err != nil {
		k.t.Fatal(err)
	}
	for _, each := range set.Keys {
		if !each.IsPublic() {
			k.t.Fatal("a private key is published")
		}
		ids = append(ids, each.KeyID)
	}
	return ids
}

func kidOf(t *testing.T, text string) string {
	t.Helper()
	parsed, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Headers[0].KeyID
}

// TestRotation: a new key is published before it signs, the old one until its last token has ended.
func TestRotation(t *testing.T) {
	k := newKit(t)
	_, first := k.own()
	before := k.token()
	if err := k.keys.rotate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	list := k.published()
	if len(list) != 2 || list[1] != first || kidOf(t, k.token()) != first {
		t.Fatalf("just then: %v, a token by %s", list, kidOf(t, k.token()))
	}
	next := list[0]
	k.now = k.now.Add(notice)
	after := k.token()
	if kidOf(t, after) != next {
		t.Errorf("after the notice the old key signs")
	}
	k.open() // a restart
	for name, text := range map[string]string{"before": before, "after": after} {
		if err := k.verify(text); err != nil {
			t.Errorf("a token from %s: %v", name, err)
		}
	}
	k.now = k.now.Add(keptFor - time.Second)
	if list := k.published(); len(list) != 2 {
		t.Errorf("at the end of the last token %v are published", list)
	}
	k.now = k.now.Add(time.Second)
	if list := k.published(); len(list) != 1 || list[0] != next {
		t.Errorf("after it %v are published", list)
	}
	if err := k.keys.tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rest, _ := k.store.Documents(t.Context(), store.ServerSecret, ""); len(rest) != 1 {
		t.Errorf("%d keys are kept", len(rest))
	}
	if err := k.keys.rotate(t.Context(), false); err != nil || k.keys.ring.Load().newest != 3 {
		t.Errorf("the next key is number %d, %v", k.keys.ring.Load().newest, err)
	}
}

// TestRotationDrops: a key that somebody else may have ends with all that it has signed when the
// next one begins, and so do device codes that it has sealed.
func TestRotationDrops(t *testing.T) {
	k := newDeviceKit(t)
	before := k.token()
	_, codes := k.begin(nil)
	if err := k.keys.rotate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := k.verify(before); err != nil {
		t.Errorf("before the new key signs: %v", err)
	}
	k.now = k.now.Add(notice)
	if err := k.verify(before); sandpool.ClassOf(err) != sandpool.Unauthenticated {
		t.Errorf("a token of the key that was given up: %v", err)
	}
	if got, body := k.poll(codes["device_code"].(string), "app"); got != 400 ||
		body["error"] != "invalid_grant" {
		t.Errorf("its device code: %d %v", got, body)
	}
	if list := k.published(); len(list) != 1 {
		t.Errorf("%v are published", list)
	}
	if err := k.verify(k.token()); err != nil {
		t.Errorf("a token of the new key: %v", err)
	}
}

// TestDeviceOutlivesRotation: a code that was asked for before is good after.
func TestDeviceOutlivesRotation(t *testing.T) {
	k := newDeviceKit(t)
	_, codes := k.begin(nil)
	if err := k.keys.rotate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	k.now = k.now.Add(notice)
	if err := k.approveAs("token:"+clientID, codes["user_code"].(string)); err != nil {
		t.Fatal(err)
	}
	if got, body := k.poll(codes["device_code"].(string), "app"); got != 200 {
		t.Errorf("%d %v", got, body)
	}
}

// TestRotationByAge: the next key is there a day before it signs, once, whoever of several servers
// is first, and one that no server made in time signs soon.
func TestRotationByAge(t *testing.T) {
	k := newKit(t)
	made := 0
	o := KeyOptions{Store: k.store, Now: func() time.Time { return k.now }, Every: 90 * advance,
		Made: func(string) { made++ }}
	var servers []*Keys
	for range 3 {
		keys, err := OpenKeys(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, keys)
	}
	tend := func() {
		t.Helper()
		for range 2 {
			for _, each := range servers {
				if err := each.tend(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	first := k.now
	k.now = first.Add(89*advance - time.Second)
	if tend(); made != 0 {
		t.Error("a key was made early")
	}
	k.now = first.Add(89 * advance)
	tend()
	for _, each := range servers {
		keys := each.ring.Load().keys
		if len(keys) != 2 || !keys[0].from.Equal(first.Add(90*advance)) ||
			each.signing() != keys[1] || each.signing().id != servers[0].signing().id {
			t.Errorf("%d keys, the next signs from %s", len(keys), keys[0].from)
		}
	}
	if made != 1 {
		t.Errorf("%d keys were made", made)
	}
	k.now = first.Add(500 * advance)
	tend()
	if keys := servers[1].ring.Load().keys; made != 2 || !keys[0].from.Equal(k.now.Add(notice)) {
		t.Errorf("after a long pause: %d made, the next signs from %s", made, keys[0].from)
	}
}

// TestRotationUnderLoad: while tokens are given out and shown to any of several servers of a store,
// keys are changed again and again, and no good token is refused anywhere.
func TestRotationUnderLoad(t *testing.T) {
	k := newKit(t)
	var offset atomic.Int64 // of the clock, which runs faster than any other
	begin := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return begin.Add(time.Duration(offset.Load())) }
	var servers []*Issuer
	for range 3 {
		keys, err := OpenKeys(t.Context(), KeyOptions{Store: k.store, Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		i, err := New(k.tokens, keys, func(*http.Request) string { return base }, clock)
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, i)
	}
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var shown atomic.Int64
	used := sync.Map{}
	for n := range 6 {
		load.Go(func() {
			for turn := n; ctx.Err() == nil; turn++ {
				p := auth.Principal{Subject: subjectPrefix + clientID}
				text, err := servers[turn%3].issue(p, base+"/adfs", Audiences()[2], maxLifetime, "")
				if err != nil {
					t.Error(err)
					return
				}
				c := auth.Credential{Kind: auth.Bearer, Text: text}
				for _, each := range servers {
					if !each.Recognizes(c) {
						t.Errorf("a token is not known a moment after it was given out")
						return
					}
					if _, err := each.Verify(ctx, c); err != nil {
						t.Errorf("a token is refused a moment after it was given out: %v", err)
						return
					}
				}
				used.Store(kidOf(t, text), true)
				shown.Add(1)
			}
		})
	}
	for round := range 30 {
		if err := servers[round%3].keys.rotate(t.Context(), false); err != nil {
			t.Error(err)
			break
		}
		for step := range 4 { // each reads the store within the notice, at a moment of its own
			offset.Add(int64(notice / 4))
			if step < 3 {
				if err := servers[step].keys.tend(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}
		for had := shown.Load(); shown.Load() < had+10 && !t.Failed(); {
			<-time.After(time.Millisecond)
		}
		offset.Add(int64(time.Hour)) // so that old keys go
	}
	stop()
	load.Wait()
	kinds := 0
	used.Range(func(any, any) bool { kinds++; return true })
	if kinds < 25 {
		t.Errorf("only %d keys signed", kinds)
	}
}

// TestFirstKey: the key of an earlier version goes on, and what is no key is an error.
func TestFirstKey(t *testing.T) {
	text := NewKey()
	open := func(first string) (*Keys, error) {
		return OpenKeys(t.Context(), KeyOptions{Store: &documents{
			all: map[string]store.Document{}}, First: first})
	}
	one, err := open(text)
	if err != nil {
		t.Fatal(err)
	}
	two, err := open(text)
	if err != nil || one.signing().id != two.signing().id {
		t.Errorf("the same key has the ids %s and %s, %v", one.signing().id, two.signing().id, err)
	}
	if _, err := open("x"); err == nil {
		t.Error("what is no key is taken")
	}
}

// TestKeysGone: a server whose store has lost its keys goes on with those that it knows, and one
// that begins makes another.
func TestKeysGone(t *testing.T) {
	k := newKit(t)
	text := k.token()
	name := keyName(1)
	d, err := k.store.Document(t.Context(), store.ServerSecret, name)
	if err != nil {
		t.Fatal(err)
	}
	d.Text = "" // as after "sandpool store rekey --discard"
	if err := k.store.PutDocument(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := k.keys.tend(t.Context()); err == nil || k.verify(text) != nil {
		t.Errorf("%v, %v", err, k.verify(text))
	}
	k.open()
	if err := k.verify(text); err == nil {
		t.Error("a token counts without its key")
	}
	if err := k.verify(k.token()); err != nil {
		t.Error(err)
	}
}

// TestKeysByHTTP: administrators list and change keys, and nobody else.
func TestKeysByHTTP(t *testing.T) {
	k := newKit(t)
	mux := http.NewServeMux()
	respond := &arm.Responder{}
	k.Register(func(pattern string, fn func(http.ResponseWriter, *http.Request) error) {
		mux.Handle(pattern, respond.Handle(fn))
	})
	ask := func(role sandpool.Role, method, body string) (int, api.IssuerKeys) {
		t.Helper()
		r := httptest.NewRequest(method, "/sandpool/issuer/keys", strings.NewReader(body))
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		r = r.WithContext(auth.WithPrincipal(r.Context(), auth.Principal{Subject: "token:t",
			Grants: []sandpool.Grant{{Role: role}}}))
		w := httptest.NewRecorder()
		keysDescribed.Mux(mux).ServeHTTP(w, r)
		var out api.IssuerKeys
		if w.Code < 300 {
			if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Contains(w.Body.String(), "PRIVATE") {
			t.Fatal("a private key is told")
		}
		return w.Code, out
	}
	for _, role := range []sandpool.Role{auth.PoolContributor, auth.SessionExecutor, auth.Reader} {
		if status, _ := ask(role, "GET", ""); status != 403 {
			t.Errorf("%s lists: %d", role, status)
		}
		if status, _ := ask(role, "POST", "{}"); status != 403 {
			t.Errorf("%s rotates: %d", role, status)
		}
	}
	if status, list := ask(auth.Admin, "GET", ""); status != 200 || len(list.Value) != 1 ||
		list.Value[0].State != api.IssuerKeySigns || list.Value[0].EndsAt != "" {
		t.Errorf("%d %+v", status, list)
	}
	status, list := ask(auth.Admin, "POST", `{"drop": false}`)
	if status != 201 || len(list.Value) != 2 || list.Value[0].State != api.IssuerKeyNext ||
		list.Value[1].EndsAt == "" {
		t.Errorf("%d %+v", status, list)
	}
	k.now = k.now.Add(time.Minute)
	if _, list := ask(auth.Admin, "GET", ""); list.Value[0].State != api.IssuerKeySigns ||
		list.Value[1].State != api.IssuerKeyVerifies {
		t.Errorf("%+v", list)
	}
	if status, list := ask(auth.Admin, "POST", `{"drop": true}`); status != 201 ||
		list.Value[1].EndsAt != list.Value[0].SignsFrom {
		t.Errorf("dropping all others: %d %+v", status, list)
	}
	for status == 201 {
		status, list = ask(auth.Admin, "POST", `{}`)
	}
	if _, list := ask(auth.Admin, "GET", ""); status != 409 || len(list.Value) != maxKeys {
		t.Errorf("at %d keys: %d", len(list.Value), status)
	}
	if status, _ := ask(auth.Admin, "POST", `{"drop": "yes"}`); status != 400 {
		t.Errorf("a body of another kind: %d", status)
	}
}
