package issuer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/openapi/openapitest"
	"github.com/sandpool/sandpool/internal/store"
)

const base = "https://pools.example.com"

// fakeTokens knows one token, unless it is revoked or the store is broken.
type fakeTokens struct {
	revoked bool
	broken  bool
}

const (
	clientID = "aaaabbbbccccdddd"
	secret   = "sp_aaaabbbbccccdddd_secret"
)

func (f *fakeTokens) Verify(ctx context.Context, c auth.Credential) (auth.Principal, error) {
	if c.Text != secret {
		return auth.Principal{}, sandpool.Errorf(sandpool.Unauthenticated, "", "", "wrong")
	}
	return f.Holder(ctx, clientID)
}

func (f *fakeTokens) Holder(_ context.Context, id string) (auth.Principal, error) {
	switch {
	case f.broken:
		return auth.Principal{}, &sandpool.Error{Class: sandpool.Unavailable,
			Err: errors.New("disk")}
	case f.revoked || id != clientID:
		return auth.Principal{}, sandpool.Errorf(sandpool.Unauthenticated, "", "", "revoked")
	}
	return auth.Principal{Subject: "token:" + id, Name: "ci"}, nil
}

type kit struct {
	*Issuer
	t      *testing.T
	tokens *fakeTokens
	now    time.Time
	store  *documents
}

// described holds the answers of all tests to the description, keysDescribed those about keys.
var (
	described     = openapitest.New("Issuer")
	keysDescribed = openapitest.New("Issuer keys")
)

func TestMain(m *testing.M) { os.Exit(keysDescribed.End(described.End(m.Run()))) }

// operation returns the described operation that r is for.
func (k *kit) operation(r *http.Request) string {
	found, _ := k.route(r)
	return found.pattern
}

// TestRoutes: what is routed is described, and what is described is routed.
func TestRoutes(t *testing.T) {
	var patterns []string
	for _, r := range newKit(t).routes() {
		patterns = append(patterns, r.pattern)
	}
	for _, fault := range described.Differ(patterns) {
		t.Error(fault)
	}
}

func newKit(t *testing.T) *kit {
	t.Helper()
	k := &kit{t: t, tokens: &fakeTokens{}, now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
		store: &documents{all: map[string]store.Document{}}}
	k.open()
	return k
}

func (k *kit) open() {
	k.t.Helper()
	clock := func() time.Time { return k.now }
	keys, err := OpenKeys(k.t.Context(), KeyOptions{Store: k.store, Now: clock})
	if err != nil {
		k.t.Fatal(err)
	}
	if k.Issuer, err = New(k.tokens, keys, func(*http.Request) string {
		return base
	}, clock); err != nil {
		k.t.Fatal(err)
	}
}

// own is the private key that signs, and its id.
func (k *kit) own() (*ecdsa.PrivateKey, string) {
	own := k.keys.signing()
	return own.private, own.id
}

// ask sends a request and returns the status and the answer; 418 means that it was not the
// issuer's.
func (k *kit) ask(method, target string, form url.Values, headers ...string) (int, map[string]any) {
	k.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	front := k.Front(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
	}))
	described.Handler(k.operation, front).ServeHTTP(rec, r)
	var out map[string]any
	if rec.Code != http.StatusTeapot {
		if err := json.Unmarshal(rec.Body.Bytes(), &out); err != nil {
			k.t.Fatalf("%s %s: %v: %s", method, target, err, rec.Body)
		}
		if rec.Header().Get("Cache-Control") != "no-store" {
			k.t.Errorf("%s %s may be cached", method, target)
		}
	}
	return rec.Code, out
}

func credentials(scope string) url.Values {
	return url.Values{"grant_type": {"client_credentials"}, "client_id": {clientID},
		"client_secret": {secret}, "scope": {scope}}
}

func (k *kit) verify(text string) error {
	if !k.Recognizes(auth.Credential{Kind: auth.Bearer, Text: text}) {
		return sandpool.Errorf(sandpool.Unauthenticated, "", "", "not recognized")
	}
	_, err := k.Verify(k.t.Context(), auth.Credential{Kind: auth.Bearer, Text: text})
	return err
}

// TestClientCredentials: every path and spelling of a scope that was seen gives a token that
// the server takes, and that says what clients read in it.
func TestClientCredentials(t *testing.T) {
	k := newKit(t)
	for _, path := range []string{"/adfs/oauth2/token", "/adfs/oauth2/v2.0/token", "/" + Tenant +
		"/oauth2/v2.0/token", "/adfs/adfs/oauth2/token", "/organizations/oauth2/v2.0/token"} {
		for scope, audience := range map[string]string{
			"https://management.azure.com//.default":        "https://management.azure.com",
			"https://management.azure.com/.default":         "https://management.azure.com",
			"https://dynamicsessions.io/.default":           "https://dynamicsessions.io",
			"https://acasessions.io/.default openid":        "https://acasessions.io",
			base + "/.default":                              "https://management.azure.com",
			"https://management.core.windows.net//.default": "https://management.core.windows.net",
		} {
			status, got := k.ask("POST", path+"?client-request-id=x", credentials(scope))
			if status != 200 || got["token_type"] != "Bearer" ||
				got["expires_in"] != float64(3600) {
				t.Fatalf("%s for %s: %d %v", path, scope, status, got)
			}
			text := got["access_token"].(string)
			if err := k.verify(text); err != nil {
				t.Errorf("%s for %s: %v", path, scope, err)
			}
			raw, err := base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[1])
			if err != nil {
				t.Fatal(err)
			}
			var c map[string]any
			if err := json.Unmarshal(raw, &c); err != nil {
				t.Fatal(err)
			}
			if c["tid"] != Tenant || c["sub"] != "token:"+clientID || c["appid"] != clientID ||
				c["aud"] != audience {
				t.Errorf("%s for %s: %s", path, scope, raw)
			}
		}
	}
	wrong := func(change func(url.Values), status int, code string) {
		t.Helper()
		form := credentials("https://management.azure.com/.default")
		change(form)
		if got, body := k.ask("POST", "/adfs/oauth2/token", form); got != status ||
			body["error"] != code || body["error_description"] == "" ||
			strings.Contains(body["error_description"].(string), secret) {
			t.Errorf("%d %v, want %d %s", got, body, status, code)
		}
	}
	var told []string
	k.Failed = func(_ *http.Request, _ int, e *sandpool.Error) {
		told = append(told, e.Message)
	}
	wrong(func(f url.Values) { f.Set("client_secret", "x") }, 401, "invalid_client")
	mixedUp := "sp_" + clientID + "_" + strings.Repeat("s", 52)
	wrong(func(f url.Values) { f.Set("client_id", mixedUp) }, 401, "invalid_client")
	if len(told) != 2 || !strings.Contains(told[0], clientID) ||
		strings.Contains(told[1], "_s") {
		t.Errorf("who listens learns %q", told)
	}
	wrong(func(f url.Values) { f.Del("client_secret") }, 401, "invalid_client")
	wrong(func(f url.Values) { f.Set("client_id", "eeeebbbbccccdddd") }, 401, "invalid_client")
	wrong(func(f url.Values) { f.Del("client_id") }, 401, "invalid_client")
	wrong(func(f url.Values) { f.Set("grant_type", "password") }, 400, "unsupported_grant_type")
	wrong(func(f url.Values) { f.Set("scope", "https://graph.microsoft.com/.default") }, 400,
		"invalid_scope")
	wrong(func(f url.Values) { f.Del("scope") }, 400, "invalid_scope")
	wrong(func(f url.Values) { f.Set("x", strings.Repeat("x", 1<<20)) }, 400, "invalid_request")
	k.tokens.broken = true
	wrong(func(url.Values) {}, 503, "temporarily_unavailable")
	k.tokens.broken, k.tokens.revoked = false, true
	wrong(func(url.Values) {}, 401, "invalid_client")
}

func TestIdentityEndpoint(t *testing.T) {
	k := newKit(t)
	for name, c := range map[string]struct {
		query   string
		headers []string
		status  int
	}{
		"App Service": {"resource=https://dynamicsessions.io", []string{"X-IDENTITY-HEADER",
			secret, "Metadata", "true"}, 200},
		"by client": {"resource=https://management.azure.com/&client_id=" + clientID,
			[]string{"X-IDENTITY-HEADER", secret}, 200},
		"MSI_SECRET": {"resource=https://dynamicsessions.io", []string{"secret", secret}, 200},
		"another client": {"resource=https://dynamicsessions.io&client_id=x",
			[]string{"X-IDENTITY-HEADER", secret}, 401},
		"wrong": {"resource=https://dynamicsessions.io", []string{"X-IDENTITY-HEADER",
			"x"}, 401},
		"no header": {"resource=https://dynamicsessions.io", []string{"Metadata", "true"},
			401},
		"another service": {"resource=https://vault.azure.net", []string{"X-IDENTITY-HEADER",
			secret}, 400},
	} {
		status, got := k.ask("GET", identityPath+"?api-version=2019-08-01&"+c.query, nil,
			c.headers...)
		if status != c.status {
			t.Errorf("%s: %d %v", name, status, got)
		}
		if status == 200 {
			if err := k.verify(got["access_token"].(string)); err != nil ||
				got["expires_on"] != "1893459600" {
				t.Errorf("%s: %v, %v", name, err, got)
			}
		}
	}
}

// TestDiscovery: the documents that clients ask for first name this server and nothing else,
// and the key in them is the one that signs.
func TestDiscovery(t *testing.T) {
	k := newKit(t)
	for path, issuer := range map[string]string{"/adfs/.well-known/openid-configuration": base +
		"/adfs",
		"/" + Tenant + "/v2.0/.well-known/openid-configuration": base + "/" + Tenant + "/v2.0",
		"/adfs/adfs/v2.0/.well-known/openid-configuration":      base + "/adfs/v2.0",
		"/organizations/v2.0/.well-known/openid-configuration":  base + "/organizations/v2.0"} {
		status, got := k.ask("GET", path, nil)
		if status != 200 || got["issuer"] != issuer {
			t.Errorf("%s: %d %v", path, status, got)
		}
		for _, key := range []string{"token_endpoint", "authorization_endpoint", "jwks_uri"} {
			if at, _ := got[key].(string); !strings.HasPrefix(at, base+"/") {
				t.Errorf("%s: %s is %q", path, key, at)
			}
		}
		if status, _ := k.ask("POST", strings.TrimPrefix(got["token_endpoint"].(string), base),
			credentials("https://dynamicsessions.io/.default")); status != 200 {
			t.Errorf("the token endpoint of %s: %d", path, status)
		}
	}
	if status, got := k.ask("GET", "//metadata/endpoints/?api-version=2022-09-01",
		nil); status != 200 || got["resourceManager"] != base+"/" || got["suffixes"] == nil {
		t.Errorf("%d %v", status, got)
	}
	_, got := k.ask("GET", "/adfs/discovery/keys", nil)
	raw, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(raw, &set); err != nil || len(set.Keys) != 1 ||
		!set.Keys[0].IsPublic() || strings.Contains(string(raw), `"d"`) {
		t.Errorf("the keys are %s, %v", raw, err)
	}
	for _, target := range []string{"/other/oauth2/token", "/adfs/oauth2/token/x", "/adfs", "/",
		"/subscriptions"} {
		if status, _ := k.ask("GET", target, nil); status != http.StatusTeapot {
			t.Errorf("%s is the issuer's", target)
		}
	}
}

// TestAttacks: a token that the issuer has not made as it is opens nothing.
func TestAttacks(t *testing.T) {
	k := newKit(t)
	key, keyID := k.own()
	_, got := k.ask("POST", "/adfs/oauth2/token",
		credentials("https://dynamicsessions.io/.default"))
	good := got["access_token"].(string)
	parts := strings.Split(good, ".")
	encode := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	sign := func(alg jose.SignatureAlgorithm, key any, kid string, change func(*claims)) string {
		c := claims{Claims: jwt.Claims{Issuer: base + "/adfs", Subject: "token:" + clientID,
			Audience:  jwt.Audience{"https://dynamicsessions.io"},
			NotBefore: jwt.NewNumericDate(k.now), Expiry: jwt.NewNumericDate(k.now.Add(time.Hour))},
			Tenant: Tenant}
		change(&c)
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key},
			(&jose.SignerOptions{}).WithHeader("kid", kid))
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.Signed(signer).Claims(c).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	same := func(*claims) {}
	if err := k.verify(sign(jose.ES256, key, keyID, same)); err != nil {
		t.Fatalf("the kit's own token: %v", err)
	}
	foreign, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := json.Marshal(jose.JSONWebKey{Key: &key.PublicKey})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"none": encode(map[string]string{"alg": "none", "kid": keyID}) + "." +
			parts[1] + ".",
		"no signature": parts[0] + "." + parts[1] + ".",
		"another signature": parts[0] + "." + parts[1] + "." +
			base64.RawURLEncoding.EncodeToString(make([]byte, 64)),
		"other claims": parts[0] + "." + encode(map[string]any{"sub": "token:" + clientID,
			"exp": 1 << 40}) + "." + parts[2],
		"key confusion":  sign(jose.HS256, public, keyID, same),
		"a foreign key":  sign(jose.ES256, foreign, keyID, same),
		"an unknown key": sign(jose.ES256, foreign, "other", same),
		"another audience": sign(jose.ES256, key, keyID, func(c *claims) {
			c.Audience = jwt.Audience{"https://vault.azure.net"}
		}),
		"two audiences": sign(jose.ES256, key, keyID, func(c *claims) {
			c.Audience = append(c.Audience, "https://vault.azure.net")
		}),
		"no audience": sign(jose.ES256, key, keyID, func(c *claims) {
			c.Audience = nil
		}),
		"another tenant": sign(jose.ES256, key, keyID, func(c *claims) {
			c.Tenant = "x"
		}),
		"expired": sign(jose.ES256, key, keyID, func(c *claims) {
			c.Expiry = jwt.NewNumericDate(k.now.Add(-2 * skew))
		}),
		"no end": sign(jose.ES256, key, keyID, func(c *claims) {
			c.Expiry = nil
		}),
		"not yet": sign(jose.ES256, key, keyID, func(c *claims) {
			c.NotBefore = jwt.NewNumericDate(k.now.Add(2 * skew))
		}),
		"another client": sign(jose.ES256, key, keyID, func(c *claims) {
			c.Subject = "token:x"
		}),
		"another kind": sign(jose.ES256, key, keyID, func(c *claims) {
			c.Subject = clientID
		}),
		"claims twice": signText(t, key, keyID, `{"sub":"token:other","sub":"token:`+clientID+
			`","aud":"https://dynamicsessions.io","tid":"`+Tenant+`","nbf":`+
			fmt.Sprint(k.now.Unix())+`,"exp":`+fmt.Sprint(k.now.Add(time.Hour).Unix())+`}`),
		"an end twice": signText(t, key, keyID, `{"sub":"token:`+clientID+
			`","aud":"https://dynamicsessions.io","tid":"`+Tenant+`","nbf":1,"exp":1,"exp":`+
			fmt.Sprint(k.now.Add(time.Hour).Unix())+`}`),
		"an algorithm twice": base64.RawURLEncoding.EncodeToString([]byte(
			`{"alg":"none","alg":"ES256","kid":"`+keyID+`"}`)) + "." + parts[1] + "." + parts[2],
		"a key in the header": encode(map[string]any{"alg": "ES256", "kid": keyID,
			"jwk": jose.JSONWebKey{Key: &foreign.PublicKey}}) + "." + parts[1] + "." + parts[2],
		"what must be understood": encode(map[string]any{"alg": "ES256", "kid": keyID,
			"crit": []string{"exp"}}) + "." + parts[1] + "." + parts[2],
		"a huge end":           good + strings.Repeat("A", 1<<20),
		"long":                 strings.Repeat("a", 1<<20) + ".b.c",
		"too many parts":       good + ".x",
		"nothing in the parts": "..",
	} {
		if err := k.verify(text); sandpool.ClassOf(err) != sandpool.Unauthenticated || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	k.now = k.now.Add(lifetime + 2*skew)
	if err := k.verify(good); err == nil {
		t.Error("a token lives longer than it says")
	}
}

// signText signs a text as the claims, whatever it is.
func signText(t *testing.T, key any, kid, text string) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key},
		(&jose.SignerOptions{}).WithHeader("kid", kid))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	out, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// FuzzVerify: whatever is shown, nobody is somebody whose token it is not.
func FuzzVerify(f *testing.F) {
	kept := &documents{all: map[string]store.Document{}}
	keys, err := OpenKeys(f.Context(), KeyOptions{Store: kept})
	if err != nil {
		f.Fatal(err)
	}
	i, err := New(&fakeTokens{}, keys, func(*http.Request) string { return base }, nil)
	if err != nil {
		f.Fatal(err)
	}
	keyID := keys.signing().id
	good, err := i.issue(auth.Principal{Subject: "token:" + clientID}, base+"/adfs", Audiences()[2],
		lifetime, "")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(strings.Replace(good, ".", "..", 1))
	for _, header := range []string{`{"alg":"none","kid":"` + keyID + `"}`,
		`{"alg":"HS256","kid":"` + keyID + `"}`, `{"alg":"ES256","kid":"` + keyID + `","b64":false}`} {
		f.Add(base64.RawURLEncoding.EncodeToString([]byte(header)) + good[strings.Index(good, "."):])
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := auth.Credential{Kind: auth.Bearer, Text: text}
		if !i.Recognizes(c) {
			return
		}
		who, err := i.Verify(t.Context(), c)
		if err != nil && who.Subject != "" || err == nil && who.Subject != "token:"+clientID {
			t.Errorf("%q is of %q, %v", text, who.Subject, err)
		}
	})
}

// TestRevocation: a client that is revoked loses the tokens that it has.
func TestRevocation(t *testing.T) {
	k := newKit(t)
	_, got := k.ask("POST", "/adfs/oauth2/token",
		credentials("https://dynamicsessions.io/.default"))
	k.tokens.revoked = true
	if err := k.verify(got["access_token"].(string)); sandpool.ClassOf(
		err) != sandpool.Unauthenticated {
		t.Errorf("after revocation: %v", err)
	}
}
