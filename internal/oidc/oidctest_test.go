package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
)

// provider is an issuer that does as a test says.
type provider struct {
	testing.TB
	*httptest.Server
	asked atomic.Int32

	mu   sync.Mutex
	keys []jose.JSONWebKey // the newest last, with their private parts
	// answer replaces an answer, if it returns true.
	answer func(w http.ResponseWriter, r *http.Request) bool
	now    time.Time
}

func newProvider(t testing.TB) *provider {
	p := &provider{TB: t, now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
	p.rotate("k1")
	p.Server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answer != nil && p.answer(w, r) {
		return
	}
	if r.URL.Path == "/.well-known/openid-configuration" {
		p.asked.Add(1)
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": p.URL, "jwks_uri": p.URL + "/keys"})
		return
	}
	var set jose.JSONWebKeySet
	for _, k := range p.keys {
		set.Keys = append(set.Keys, k.Public())
	}
	_ = json.NewEncoder(w).Encode(set)
}

// does has the provider answer otherwise.
func (p *provider) does(answer func(w http.ResponseWriter, r *http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

// rotate gives the provider one new key in place of all others.
func (p *provider) rotate(id string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = []jose.JSONWebKey{{Key: key, KeyID: id, Algorithm: "ES256", Use: "sig"}}
}

// clock is the provider's time, which passes as a test says.
func (p *provider) clock() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func (p *provider) pass(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(d)
}

// claims are those of a good token, changed by change; a nil value takes one out.
func (p *provider) claims(change map[string]any) map[string]any {
	c := map[string]any{"iss": p.URL, "aud": "https://dynamicsessions.io", "sub": "ann",
		"exp": p.clock().Add(time.Hour).Unix(), "nbf": p.clock().Unix(), "iat": p.clock().Unix(),
		"tid": "t-1", "oid": "0a1b", "groups": []string{"dev", "ops"}}
	maps.Copy(c, change)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

// token signs the claims with the newest key.
func (p *provider) token(change map[string]any) string {
	c := p.claims(change)
	p.mu.Lock()
	key := p.keys[len(p.keys)-1]
	p.mu.Unlock()
	return sign(p.TB, jose.SigningKey{Algorithm: jose.ES256, Key: key}, c)
}

func sign(t testing.TB, key jose.SigningKey, claims any) string {
	t.Helper()
	signer, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

const pools = "/subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools/"

// settings are those of the provider: developers execute in sessions of their own.
func (p *provider) settings(rules ...Rule) Settings {
	if len(rules) == 0 {
		rules = []Rule{{Claims: map[string]string{"tid": "t-1", "groups": "dev"},
			Role: string(auth.SessionExecutor), Scope: pools + "python/identifiers/{oid}:*"}}
	}
	return Settings{Issuer: p.URL, Audiences: []string{"https://dynamicsessions.io"}, Rules: rules}
}

func (p *provider) verifier(rules ...Rule) *Verifier {
	p.Helper()
	return p.verifierOf(p.settings(rules...))
}

// verifierOf is that of settings, whose role assignments give nothing.
func (p *provider) verifierOf(s Settings) *Verifier {
	p.Helper()
	v, err := New(slog.New(slog.DiscardHandler), []Settings{s},
		func(context.Context, []string) ([]sandpool.Grant, error) { return nil, nil }, p.clock)
	if err != nil {
		p.Fatal(err)
	}
	return v
}

// verify is what a server does with a token.
func (p *provider) verify(v *Verifier, token string) (auth.Principal, error) {
	c := auth.Credential{Kind: auth.Bearer, Text: token}
	if !v.Recognizes(c) {
		return auth.Principal{}, sandpool.Errorf(sandpool.Unauthenticated, "", "", "not recognized")
	}
	return v.Verify(p.Context(), c)
}
