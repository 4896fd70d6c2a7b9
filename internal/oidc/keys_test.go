package oidc

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sandpool/sandpool"
)

// TestRotation: a new key is found while tokens come, and a key that is gone ends with the hour.
func TestRotation(t *testing.T) {
	p := newProvider(t)
	v := p.verifier()
	old := p.token(nil)
	if _, err := p.verify(v, old); err != nil {
		t.Fatal(err)
	}
	p.rotate("k2")
	p.pass(pause)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := p.verify(v, p.token(nil)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := p.asked.Load(); n != 2 {
		t.Errorf("the issuer was asked %d times, want 2", n)
	}
	lasting := p.token(map[string]any{"exp": p.clock().Add(48 * time.Hour).Unix()})
	if _, err := p.verify(v, lasting); err != nil {
		t.Fatal(err)
	}
	p.rotate("k3")
	p.pass(fresh)
	if _, err := p.verify(v, lasting); sandpool.ClassOf(err) != sandpool.Unauthenticated {
		t.Errorf("a token whose key is gone: %v", err)
	}
}

// TestUnknownKeys: whoever sends tokens that name unknown keys cannot have the issuer asked for
// each.
func TestUnknownKeys(t *testing.T) {
	p := newProvider(t)
	v := p.verifier()
	forged := func(id string) string {
		return sign(t, jose.SigningKey{Algorithm: jose.ES256,
			Key: jose.JSONWebKey{Key: p.keys[0].Key, KeyID: id}}, p.claims(nil))
	}
	for i := range 100 {
		_, err := p.verify(v, forged("x"+strings.Repeat("y", i)))
		if sandpool.ClassOf(err) != sandpool.Unauthenticated {
			t.Fatal(err)
		}
	}
	if n := p.asked.Load(); n > 1 {
		t.Errorf("the issuer was asked %d times", n)
	}
	if _, err := p.verify(v, p.token(nil)); err != nil {
		t.Errorf("a good token among them: %v", err)
	}
}

// TestOutage: while an issuer is down its known keys are good, for a day.
func TestOutage(t *testing.T) {
	p := newProvider(t)
	v := p.verifier()
	lasting := p.token(map[string]any{"exp": p.clock().Add(48 * time.Hour).Unix()})
	if _, err := p.verify(v, lasting); err != nil {
		t.Fatal(err)
	}
	p.does(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusBadGateway)
		return true
	})
	for range 5 {
		p.pass(4 * time.Hour)
		if _, err := p.verify(v, lasting); err != nil {
			t.Fatalf("during an outage: %v", err)
		}
	}
	p.pass(5 * time.Hour)
	if _, err := p.verify(v, lasting); sandpool.ClassOf(err) != sandpool.Unavailable {
		t.Errorf("after a day: %v", err)
	}
	p.does(nil)
	p.pass(pause)
	if _, err := p.verify(v, lasting); err != nil {
		t.Errorf("after the outage: %v", err)
	}
}

// TestBadIssuers: an issuer that lies, or answers with something else, gives no keys, and its
// tokens are refused as not to be checked now.
func TestBadIssuers(t *testing.T) {
	huge := strings.Repeat(" ", 4<<20)
	configuration := func(text string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "openid-configuration") {
				return false
			}
			_, _ = w.Write([]byte(strings.ReplaceAll(text, "SELF", "http://"+r.Host)))
			return true
		}
	}
	keys := func(text string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/keys" {
				return false
			}
			_, _ = w.Write([]byte(text))
			return true
		}
	}
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"another's name":    configuration(`{"issuer":"https://other","jwks_uri":"SELF/keys"}`),
		"keys by HTTP":      configuration(`{"issuer":"SELF","jwks_uri":"http://192.0.2.1/keys"}`),
		"keys in a file":    configuration(`{"issuer":"SELF","jwks_uri":"file:///etc/passwd"}`),
		"no keys":           configuration(`{"issuer":"SELF"}`),
		"no JSON":           configuration(`<html>`),
		"megabytes":         configuration(huge + `{"issuer":"SELF","jwks_uri":"SELF/keys"}`),
		"an empty set":      keys(`{"keys":[]}`),
		"a shared secret":   keys(`{"keys":[{"kty":"oct","kid":"k1","k":"c2VjcmV0"}]}`),
		"megabytes of keys": keys(`{"keys":[` + huge + `]}`),
		"an answer elsewhere": func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/keys" {
				http.Redirect(w, r, "/.well-known/keys", http.StatusFound)
			}
			return r.URL.Path == "/keys"
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			p.does(answer)
			_, err := p.verify(p.verifier(), p.token(nil))
			if sandpool.ClassOf(err) != sandpool.Unavailable {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// TestSlowIssuer: a caller that leaves takes nobody's answer away.
func TestSlowIssuer(t *testing.T) {
	p := newProvider(t)
	v := p.verifier()
	arrived, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	p.does(func(http.ResponseWriter, *http.Request) bool {
		once.Do(func() { close(arrived); <-goOn })
		return false
	})
	// the lock of the provider is held while it waits, so tokens are made before
	first, second := p.token(nil), p.token(map[string]any{"sub": "beth"})
	leaves, leave := context.WithCancel(t.Context())
	defer leave()
	var wg sync.WaitGroup
	for _, ctx := range []context.Context{leaves, t.Context()} {
		wg.Go(func() {
			_, _, err := v.issuers[p.URL].keys.key(ctx, "k1")
			if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
	<-arrived
	leave()
	close(goOn)
	wg.Wait()
	for _, token := range []string{first, second} {
		if _, err := p.verify(v, token); err != nil {
			t.Error(err)
		}
	}
	if n := p.asked.Load(); n != 1 {
		t.Errorf("the issuer was asked %d times", n)
	}
}

// TestNobodyWaits: an issuer that hangs delays nobody whose key is known, neither when it is first
// asked again nor after it has failed.
func TestNobodyWaits(t *testing.T) {
	p := newProvider(t)
	v := p.verifier()
	set := v.issuers[p.URL].keys
	lasting := p.token(map[string]any{"exp": p.clock().Add(48 * time.Hour).Unix()})
	if _, err := p.verify(v, lasting); err != nil {
		t.Fatal(err)
	}
	for _, pass := range []time.Duration{aging, fresh} {
		goOn := make(chan struct{})
		p.does(func(w http.ResponseWriter, r *http.Request) bool {
			p.mu.Unlock() // others look at the clock meanwhile
			<-goOn
			p.mu.Lock()
			w.WriteHeader(http.StatusBadGateway)
			return true
		})
		p.pass(pass)
		for range 3 {
			if _, err := p.verify(v, lasting); err != nil {
				t.Fatal(err)
			}
		}
		if len(set.asking) != 1 {
			t.Errorf("after %s the issuer is not asked, or somebody has waited for it", pass)
		}
		close(goOn)
		set.asking <- struct{}{} // until the question has its answer
		<-set.asking
		if !set.down() {
			t.Error("it is not noticed that the issuer is down")
		}
	}
}

// TestSlowFailure: an issuer that takes as long to fail as the pause lasts is not asked by each of
// those that wait, one after the other.
func TestSlowFailure(t *testing.T) {
	p := newProvider(t)
	v := p.verifier()
	token, asked := p.token(nil), 0
	p.does(func(w http.ResponseWriter, _ *http.Request) bool {
		asked++
		p.now = p.now.Add(pause)
		w.WriteHeader(http.StatusBadGateway)
		return true
	})
	for range 5 {
		if _, err := p.verify(v, token); sandpool.ClassOf(err) != sandpool.Unavailable {
			t.Fatal(err)
		}
	}
	if asked != 1 {
		t.Errorf("the issuer was asked %d times", asked)
	}
}
