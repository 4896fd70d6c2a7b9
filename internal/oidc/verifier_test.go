package oidc

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
)

func TestVerify(t *testing.T) {
	p := newProvider(t)
	v := p.verifier()
	for range 3 {
		who, err := p.verify(v, p.token(map[string]any{"preferred_username": "ann@example.com"}))
		if err != nil {
			t.Fatal(err)
		}
		if who.Subject != "oidc:"+p.URL+"#ann" || who.Name != "ann@example.com" || len(who.Grants) != 1 {
			t.Fatalf("the principal is %+v", who)
		}
		own := sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "python"}.Scope()
		if err := auth.Allow(who, auth.Execute, own.Session("0a1b:chat")); err != nil {
			t.Error(err)
		}
		for _, other := range []sandpool.Identifier{"0a1b", "0a1bc:chat", "0A1B:chat", "beth:chat"} {
			if auth.Allow(who, auth.Execute, own.Session(other)) == nil {
				t.Errorf("it reaches the session %q", other)
			}
		}
	}
	if n := p.asked.Load(); n != 1 {
		t.Errorf("the issuer was asked %d times", n)
	}
	who, err := p.verify(v, p.token(map[string]any{"groups": "other", "name": "x",
		"preferred_username": "ann\nbeth"}))
	if err != nil || len(who.Grants) != 0 || who.Name != "ann" {
		t.Errorf("whom no rule knows is %+v, %v", who, err)
	}
	if len(v.good) != 3 {
		t.Errorf("%d tokens are remembered, and one that gives nothing pushes others out",
			len(v.good))
	}
}

// TestAttacks: no forged, borrowed or stretched token is good.
func TestAttacks(t *testing.T) {
	p, other := newProvider(t), newProvider(t)
	v := p.verifier()
	good := p.token(nil)
	if _, err := p.verify(v, good); err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(p.keys[0].Public().Key)
	if err != nil {
		t.Fatal(err)
	}
	encoded := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	parts := strings.Split(good, ".")
	twice := strings.Replace(string(must(json.Marshal(p.claims(nil)))), "{", `{"oid":"root",`, 1)
	stolen := other.keys[0]
	for name, token := range map[string]string{
		"no algorithm": encoded(map[string]string{"alg": "none"}) + "." + parts[1] + ".",
		"no signature": parts[0] + "." + parts[1] + ".",
		"other claims": parts[0] + "." + encoded(p.claims(map[string]any{"oid": "root"})) + "." +
			parts[2],
		"the key a secret": sign(t, jose.SigningKey{Algorithm: jose.HS256,
			Key: jose.JSONWebKey{Key: public, KeyID: "k1"}}, p.claims(nil)),
		"somebody's key under a known id": sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: stolen},
			p.claims(nil)),
		"a key in the header": sign(t, jose.SigningKey{Algorithm: jose.ES256,
			Key: jose.JSONWebKey{Key: stolen.Key, KeyID: "k9"}}, p.claims(nil)),
		"claims twice": signText(t, p.keys[0], twice),
		"an end twice": signText(t, p.keys[0], strings.Replace(string(must(json.Marshal(p.claims(
			map[string]any{"exp": 1})))), "{", `{"exp":99999999999,`, 1)),
		"an algorithm twice": base64.RawURLEncoding.EncodeToString([]byte(
			`{"alg":"none","alg":"ES256","kid":"k1"}`)) + "." + parts[1] + "." + parts[2],
		"an algorithm of another case": encoded(map[string]string{"alg": "es256", "kid": "k1"}) + "." +
			parts[1] + "." + parts[2],
		"no key's name": encoded(map[string]string{"alg": "ES256"}) + "." + parts[1] + "." + parts[2],
		"a key's name that is none": encoded(map[string]any{"alg": "ES256",
			"kid": []string{"k1"}}) + "." + parts[1] + "." + parts[2],
		"what must be understood": encoded(map[string]any{"alg": "ES256", "kid": "k1",
			"crit": []string{"exp"}}) + "." + parts[1] + "." + parts[2],
		"a key elsewhere": encoded(map[string]string{"alg": "ES256", "kid": "k1",
			"jku": other.URL + "/keys"}) + "." + parts[1] + "." + parts[2],
		"another tenant": p.token(map[string]any{"iss": p.URL + "/other-tenant"}),
		"a huge claim":   good + strings.Repeat("A", 1<<20),
		"a huge name":    p.token(map[string]any{"sub": strings.Repeat("a", 1<<20)}),
		"deep claims": encoded(map[string]string{"alg": "ES256", "kid": "k1"}) + "." +
			base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"`+p.URL+`","x":`+
				strings.Repeat("[", 100_000))) + "." + parts[2],
		"padding": parts[0] + "==." + parts[1] + "." + parts[2],
		"a space": parts[0] + ". " + parts[1] + "." + parts[2],
		"claims of a list": encoded(map[string]string{"alg": "ES256", "kid": "k1"}) + "." +
			encoded([]any{p.claims(nil)}) + "." + parts[2],
		"another issuer":      p.token(map[string]any{"iss": other.URL}),
		"the issuer's parent": p.token(map[string]any{"iss": p.URL + "/"}),
		"no issuer":           p.token(map[string]any{"iss": nil}),
		"another audience":    p.token(map[string]any{"aud": "https://graph.microsoft.com"}),
		"no audience":         p.token(map[string]any{"aud": nil}),
		"half an audience":    p.token(map[string]any{"aud": "https://dynamicsessions.io.example.com"}),
		"ended":               p.token(map[string]any{"exp": p.clock().Add(-2 * time.Minute).Unix()}),
		"without an end":      p.token(map[string]any{"exp": nil}),
		"not yet good":        p.token(map[string]any{"nbf": p.clock().Add(2 * time.Minute).Unix()}),
		"made tomorrow":       p.token(map[string]any{"iat": p.clock().Add(24 * time.Hour).Unix()}),
		"of nobody":           p.token(map[string]any{"sub": nil}),
		"an end of text":      p.token(map[string]any{"exp": "never"}),
		"a name in two lines": p.token(map[string]any{"sub": "ann\nbeth"}),
		"a name that draws":   p.token(map[string]any{"sub": "ann\x1b[2J"}),
		"four parts":          good + ".x",
		"another kind":        "sp_" + good,
	} {
		if who, err := p.verify(v, token); sandpool.ClassOf(err) != sandpool.Unauthenticated {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
	}
	if n := p.asked.Load(); n > 2 {
		t.Errorf("the issuer was asked %d times", n)
	}
	p.pass(2 * time.Hour)
	if _, err := p.verify(v, good); sandpool.ClassOf(err) != sandpool.Unauthenticated {
		t.Errorf("a token that was good and has ended: %v", err)
	}
}

// FuzzVerify: whatever is shown, nobody is somebody whose token it is not.
func FuzzVerify(f *testing.F) {
	p := newProvider(f)
	v := p.verifier()
	good := p.token(nil)
	f.Add(good)
	f.Add(p.token(map[string]any{"sub": "beth"}) + ".")
	for _, header := range []string{`{"alg":"none"}`, `{"alg":"HS256","kid":"k1"}`, `[]`, `{`} {
		f.Add(base64.RawURLEncoding.EncodeToString([]byte(header)) + good[strings.Index(good, "."):])
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := auth.Credential{Kind: auth.Bearer, Text: text}
		if !v.Recognizes(c) {
			return
		}
		who, err := v.Verify(t.Context(), c)
		if err != nil && who.Subject != "" || err == nil && who.Subject != "oidc:"+p.URL+"#ann" {
			t.Errorf("%q is of %q, %v", text, who.Subject, err)
		}
	})
}

// signText signs a text as the claims, whatever it is.
func signText(t *testing.T, key jose.JSONWebKey, text string) string {
	t.Helper()
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil))
	return must(must(signer.Sign([]byte(text))).CompactSerialize())
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestAssigned: role assignments of an object id and of its groups count within seconds, and so
// does their end; those of another issuer's ids do not.
func TestAssigned(t *testing.T) {
	p, other := newProvider(t), newProvider(t)
	roles := map[string][]sandpool.Grant{}
	settings := p.settings()
	settings.RoleAssignments, settings.Rules = true, nil
	v, err := New(slog.New(slog.DiscardHandler), []Settings{settings, other.settings()},
		func(_ context.Context, ids []string) (grants []sandpool.Grant, _ error) {
			for _, id := range ids {
				grants = append(grants, roles[id]...)
			}
			return grants, nil
		}, p.clock)
	if err != nil {
		t.Fatal(err)
	}
	token := p.token(map[string]any{"oid": "object-1", "groups": []string{"group-1"}})
	foreign := other.token(map[string]any{"oid": "object-1", "groups": []string{"group-1"}})
	may := func(token string) (roles []string) {
		t.Helper()
		who, err := p.verify(v, token)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range who.Grants {
			roles = append(roles, string(g.Role))
		}
		return roles
	}
	if got := may(token); len(got) != 0 {
		t.Fatalf("at first it has %q", got)
	}
	roles["object-1"] = []sandpool.Grant{{Role: auth.SessionExecutor}}
	roles["group-1"] = []sandpool.Grant{{Role: auth.MonitoringReader}}
	p.pass(assignedFor)
	for range 2 {
		if got := may(token); len(got) != 2 {
			t.Fatalf("then it has %q", got)
		}
	}
	if got := may(foreign); len(got) != 0 {
		t.Errorf("another issuer's token with the same ids has %q", got)
	}
	delete(roles, "object-1")
	p.pass(assignedFor)
	if got := may(token); len(got) != 1 || got[0] != string(auth.MonitoringReader) {
		t.Errorf("in the end it has %q", got)
	}
	twice := other.settings()
	twice.RoleAssignments = true
	if problems := Validate([]Settings{settings, twice}); len(problems) != 1 {
		t.Errorf("two issuers whose ids are those of assignments: %v", problems)
	}
}

// TestRulesEnd: what a rule gives ends with it, also while its token is known.
func TestRulesEnd(t *testing.T) {
	p := newProvider(t)
	rule := p.settings().Rules[0]
	ends := p.clock().Add(time.Minute)
	rule.Expires = ends.Format(time.RFC3339)
	v, token := p.verifier(rule), p.token(nil)
	for range 2 {
		who, err := p.verify(v, token)
		if err != nil || len(who.At(ends.Add(-time.Second)).Grants) != 1 ||
			len(who.At(ends).Grants) != 0 {
			t.Errorf("it has %+v, %v; the rule ends at %s", who.Grants, err, ends)
		}
	}
	rule.Expires = "2030-01-31"
	if problems := Validate([]Settings{p.settings(rule)}); len(problems) != 1 ||
		!strings.Contains(problems[0].Error(), "expires") {
		t.Errorf("a rule that ends at %q: %v", rule.Expires, problems)
	}
}

// TestReasons: what is wrong is said.
func TestReasons(t *testing.T) {
	p := newProvider(t)
	v := p.verifier()
	for want, change := range map[string]map[string]any{
		"ended at 2026-05-01T11:00:00Z":               {"exp": p.clock().Add(-time.Hour).Unix()},
		`it is for ["other"]; this server is ["https`: {"aud": "other"},
	} {
		_, err := p.verify(v, p.token(change))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in: %v", want, err)
		}
	}
}
