package oidc

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
)

const redirect = "https://pools.example.com/ui/sign-in"

// clerk is a provider with which people sign in, and a browser.
type clerk struct {
	*provider
	signIn *SignIn
	// says changes what the issuer says of itself, and answer what its token endpoint answers.
	says   map[string]any
	answer func(w http.ResponseWriter, r *http.Request)
	// form is what the token endpoint was asked last, by the client that it took it for.
	form         url.Values
	user, secret string
	asked        atomic.Int32
}

// newClerk makes a provider and the way in with it; change changes the settings.
func newClerk(t *testing.T, change func(*Settings)) *clerk {
	t.Helper()
	c := &clerk{provider: newProvider(t), says: map[string]any{}}
	c.does(func(w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			all := map[string]any{"issuer": c.URL, "jwks_uri": c.URL + "/keys",
				"authorization_endpoint": c.URL + "/authorize?policy=one",
				"token_endpoint":         c.URL + "/token"}
			maps.Copy(all, c.says)
			_ = json.NewEncoder(w).Encode(all)
		case "/token":
			c.asked.Add(1)
			c.user, c.secret, _ = r.BasicAuth()
			if err := r.ParseForm(); err != nil {
				t.Error(err)
			}
			c.form = r.PostForm
			w.Header().Set("Content-Type", "application/json")
			c.answer(w, r)
		default:
			return false
		}
		return true
	})
	s := c.settings()
	s.SignIn = &SignInSettings{Name: "main", Title: "The company", ClientID: "sandpool-ui"}
	if change != nil {
		change(&s)
	}
	if problems := Validate([]Settings{s}); len(problems) > 0 {
		t.Fatal(problems)
	}
	v := c.verifierOf(s)
	all, err := v.SignIns([]Settings{s}, redirect)
	if err != nil {
		t.Fatal(err)
	}
	c.signIn = all[0]
	return c
}

// goes begins a sign-in and returns the issuer's address with what the browser keeps.
func (c *clerk) goes() (asked url.Values, kept string) {
	c.Helper()
	address, kept, err := c.signIn.Begin(c.Context(), "/ui/pools/x")
	if err != nil {
		c.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil || !strings.HasPrefix(address, c.URL+"/authorize?policy=one&") {
		c.Fatalf("the browser is led to %s, %v", address, err)
	}
	return u.Query(), kept
}

// idToken is the claims of an ID token for what was asked, changed by change.
func (c *clerk) idToken(asked url.Values, change map[string]any) string {
	all := map[string]any{"aud": "sandpool-ui", "nonce": asked.Get("nonce")}
	maps.Copy(all, change)
	return c.token(all)
}

// gives has the token endpoint answer with these tokens.
func (c *clerk) gives(idToken, access string) {
	c.answer = func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": access, "id_token": idToken,
			"token_type": "Bearer", "expires_in": 300})
	}
}

func (c *clerk) comes(kept string, pairs ...string) (Visitor, error) {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		q.Add(pairs[i], pairs[i+1])
	}
	return c.signIn.Finish(c.Context(), kept, q)
}

// TestSignIn: somebody signs in, and what they then show is theirs by the rules of the issuer.
func TestSignIn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, methods := range map[string]any{"basic": nil, "post": []string{"client_secret_post"}} {
		t.Run(name, func(t *testing.T) {
			c := newClerk(t, func(s *Settings) { s.SignIn.ClientSecretFile = file })
			if methods != nil {
				c.says["token_endpoint_auth_methods_supported"] = methods
			}
			asked, kept := c.goes()
			for key, want := range map[string]string{"client_id": "sandpool-ui",
				"redirect_uri": redirect + "/main", "response_type": "code", "policy": "one",
				"scope": "openid profile email", "code_challenge_method": "S256"} {
				if asked.Get(key) != want {
					t.Errorf("it asks for %s %q, want %q", key, asked.Get(key), want)
				}
			}
			c.gives(c.idToken(asked, nil), "opaque")
			who, err := c.comes(kept, "state", asked.Get("state"), "code", "c0de", "iss", c.URL)
			if err != nil {
				t.Fatal(err)
			}
			if who.To != "/ui/pools/x" || who.Subject != "oidc:"+c.URL+"#ann" ||
				!who.Ends.Equal(c.clock().Add(time.Hour)) {
				t.Errorf("it is %+v", who)
			}
			p, err := c.verify(c.signIn.v, who.Token)
			own := sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "python"}.Scope()
			if err != nil || auth.Allow(p, auth.Execute, own.Session("0a1b:x")) != nil ||
				auth.Allow(p, auth.Execute, own.Session("beth:x")) == nil {
				t.Errorf("the token is %+v, %v", p, err)
			}
			sum := sha256.Sum256([]byte(c.form.Get("code_verifier")))
			if asked.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) ||
				c.form.Get("code") != "c0de" || c.form.Get("redirect_uri") != redirect+"/main" {
				t.Errorf("the code is shown with %v, asked for with %v", c.form, asked)
			}
			if basic := c.user == "sandpool-ui" && c.secret == "s3cret"; basic != (name == "basic") ||
				!basic && c.form.Get("client_secret") != "s3cret" {
				t.Errorf("the client is %q with %q, %v", c.user, c.secret, c.form)
			}
			if strings.Contains(kept, asked.Get("state")) || strings.Contains(kept, "nonce") {
				t.Errorf("the browser can read what it keeps: %s", kept)
			}
		})
	}
}

// TestForgedAnswers: what a browser is sent back with counts in the browser that has begun, for the
// issuer that was asked, once, in time. No other answer makes the server ask the issuer.
func TestForgedAnswers(t *testing.T) {
	c, other := newClerk(t, nil), newClerk(t, nil)
	c.says["authorization_response_iss_parameter_supported"] = true
	asked, kept := c.goes()
	asked2, kept2 := c.goes()
	_, elsewhere := other.goes()
	c.gives(c.idToken(asked, nil), "opaque")
	state := asked.Get("state")
	if asked2.Get("state") == state || asked2.Get("nonce") == asked.Get("nonce") ||
		asked2.Get("code_challenge") == asked.Get("code_challenge") {
		t.Error("two sign-ins have something in common")
	}
	good := []string{"state", state, "code", "c0de", "iss", c.URL}
	for name, try := range map[string]struct {
		kept string
		with []string
	}{
		"no browser's":                {"", good},
		"another browser's":           {kept2, good},
		"another server's":            {elsewhere, good},
		"a changed cookie":            {"A" + kept[1:], good},
		"no state":                    {kept, []string{"code", "c0de", "iss", c.URL}},
		"an empty state":              {kept, []string{"state", "", "code", "c0de", "iss", c.URL}},
		"another's state":             {kept, []string{"state", asked2.Get("state"), "code", "c0de", "iss", c.URL}},
		"another issuer's answer":     {kept, []string{"state", state, "code", "c0de", "iss", other.URL}},
		"an answer that names nobody": {kept, []string{"state", state, "code", "c0de"}},
		"two codes":                   {kept, append([]string{"code", "mine"}, good...)},
		"two issuers":                 {kept, append([]string{"iss", other.URL}, good...)},
		"two states":                  {kept, append([]string{"state", "mine"}, good...)},
		"no code":                     {kept, []string{"state", state, "iss", c.URL}},
		"an endless code": {kept, []string{"state", state, "iss", c.URL, "code",
			strings.Repeat("a", maxCode+1)}},
		"a refusal": {kept, append([]string{"error", "access_denied"}, good...)},
	} {
		if who, err := c.comes(try.kept, try.with...); sandpool.ClassOf(err) !=
			sandpool.Unauthenticated || who.Token != "" {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
	}
	c.pass(signInTime)
	if _, err := c.comes(kept, good...); sandpool.ClassOf(err) != sandpool.Unauthenticated {
		t.Errorf("too late: %v", err)
	}
	if n := c.asked.Load(); n != 0 {
		t.Errorf("the issuer was asked %d times", n)
	}
	// What only says that there was an error is text of whoever has made the link.
	if _, err := c.comes("", "state", state, "error", "x", "error_description",
		"call us"); err == nil || strings.Contains(err.Error(), "call us") {
		t.Errorf("a stranger's text is shown: %v", err)
	}
	asked, kept = c.goes()
	if _, err := c.comes(kept, "state", asked.Get("state"), "iss", c.URL, "error", "x\x1b",
		"error_description", strings.Repeat("long ", 1000)); err == nil || len(err.Error()) > 500 ||
		strings.Contains(err.Error(), "\x1b") {
		t.Errorf("the issuer's text is shown as it is: %v", err)
	}
	asked, kept = c.goes()
	c.gives(c.idToken(asked, nil), "opaque")
	if _, err := c.comes(kept, "state", asked.Get("state"), "code", "c0de", "iss",
		c.URL); err != nil {
		t.Errorf("after all of that: %v", err)
	}
}

// TestForgedIDTokens: an ID token signs in once, in the sign-in that it was made for, by this
// client.
func TestForgedIDTokens(t *testing.T) {
	c, other := newClerk(t, nil), newClerk(t, nil)
	other.pass(0)
	asked, kept := c.goes()
	finish := func() (Visitor, error) {
		return c.comes(kept, "state", asked.Get("state"), "code", "c0de")
	}
	parts := strings.Split(c.idToken(asked, nil), ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	for name, token := range map[string]string{
		"none":                   "",
		"of another sign-in":     c.idToken(asked, map[string]any{"nonce": "other"}),
		"without a nonce":        c.idToken(asked, map[string]any{"nonce": nil}),
		"with several nonces":    c.idToken(asked, map[string]any{"nonce": []string{asked.Get("nonce")}}),
		"for another client":     c.idToken(asked, map[string]any{"aud": "other-ui"}),
		"for the API":            c.idToken(asked, map[string]any{"aud": "https://dynamicsessions.io"}),
		"given to another":       c.idToken(asked, map[string]any{"azp": "other-ui"}),
		"for two, given to none": c.idToken(asked, map[string]any{"aud": []string{"sandpool-ui", "b"}}),
		"ended":                  c.idToken(asked, map[string]any{"exp": c.clock().Add(-time.Hour).Unix()}),
		"without an end":         c.idToken(asked, map[string]any{"exp": nil}),
		"not signed":             none + "." + parts[1] + ".",
		"of another issuer":      other.idToken(asked, nil),
		"of another's key":       other.idToken(asked, map[string]any{"iss": c.URL}),
		"huge":                   c.idToken(asked, map[string]any{"x": strings.Repeat("x", maxToken)}),
		"text":                   "token",
	} {
		c.gives(token, "opaque")
		who, err := finish()
		if class := sandpool.ClassOf(err); who.Token != "" || class != sandpool.Unauthenticated &&
			(class != sandpool.Unavailable || name != "none") {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
	}
	// And one that another client was given opens no API.
	for _, token := range []string{c.idToken(asked, map[string]any{"azp": "other-ui"}),
		c.idToken(asked, map[string]any{"aud": []string{"sandpool-ui", "b"}})} {
		if _, err := c.verify(c.signIn.v, token); sandpool.ClassOf(err) !=
			sandpool.Unauthenticated {
			t.Errorf("a token of another client: %v", err)
		}
	}
	c.gives(c.idToken(asked, map[string]any{"aud": []string{"sandpool-ui", "b"},
		"azp": "sandpool-ui"}), "opaque")
	if who, err := finish(); err != nil || who.Name != "ann" {
		t.Errorf("a good one: %+v, %v", who, err)
	}
}

// TestFaultyIssuer: an issuer that is down, lies, or answers with something else signs nobody in,
// and whoever waits learns so.
func TestFaultyIssuer(t *testing.T) {
	status := func(status int, text string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, text)
		}
	}
	for name, try := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		want   sandpool.Class
		says   string
	}{
		"down":       {status(502, "<html>"), sandpool.Unavailable, "cannot be reached"},
		"no JSON":    {status(200, "<html>"), sandpool.Unavailable, "cannot be reached"},
		"no tokens":  {status(200, "{}"), sandpool.Unavailable, "cannot be reached"},
		"megabytes":  {status(200, strings.Repeat(" ", 4<<20)+"{}"), sandpool.Unavailable, "cannot be"},
		"a used one": {status(400, `{"error":"invalid_grant"}`), sandpool.Unauthenticated, "refuses the code"},
		"a client that it does not know": {status(401, `{"error":"invalid_client"}`),
			sandpool.Unauthenticated, "client_id or its secret is wrong"},
		"elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/keys", http.StatusTemporaryRedirect)
		}, sandpool.Unavailable, "cannot be reached"},
		"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			sandpool.Unavailable, "cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClerk(t, nil)
			asked, kept := c.goes()
			c.answer = try.answer
			_, err := c.comes(kept, "state", asked.Get("state"), "code", "c0de")
			if sandpool.ClassOf(err) != try.want || !strings.Contains(err.Error(), try.says) ||
				strings.Contains(err.Error(), "c0de") {
				t.Errorf("the error is %v", err)
			}
			if n := c.asked.Load(); n != 1 {
				t.Errorf("the issuer was asked %d times with one code", n)
			}
		})
	}
	for name, says := range map[string]map[string]any{
		"pages that are a script": {"authorization_endpoint": "javascript:alert(1)"},
		"pages in clear":          {"authorization_endpoint": "http://192.0.2.1/authorize"},
		"no pages":                {"authorization_endpoint": nil},
		"tokens in clear":         {"token_endpoint": "http://192.0.2.1/token"},
		"no tokens":               {"token_endpoint": ""},
		"another's name":          {"issuer": "https://other.example.com"},
	} {
		c := newClerk(t, nil)
		c.says = says
		if to, _, err := c.signIn.Begin(t.Context(), "/ui/"); sandpool.ClassOf(err) !=
			sandpool.Unavailable || to != "" {
			t.Errorf("%s: the browser is led to %q, %v", name, to, err)
		}
	}
}

// TestManyExchanges: an issuer that hangs holds as many as may ask it at a time, and others learn
// at once that they are too many.
func TestManyExchanges(t *testing.T) {
	c := newClerk(t, nil)
	asked, kept := c.goes()
	c.gives(c.idToken(asked, nil), "opaque")
	for range maxExchanges {
		c.signIn.exchanges <- struct{}{}
	}
	finish := func() error {
		_, err := c.comes(kept, "state", asked.Get("state"), "code", "c0de")
		return err
	}
	if err := finish(); sandpool.ClassOf(err) != sandpool.Unavailable || c.asked.Load() != 0 {
		t.Errorf("one too many: %v", err)
	}
	<-c.signIn.exchanges
	if err := finish(); err != nil || len(c.signIn.exchanges) != maxExchanges-1 {
		t.Errorf("afterwards: %v", err)
	}
}

// TestNobody: somebody whom no rule knows has no token here, and learns what would change that.
func TestNobody(t *testing.T) {
	c := newClerk(t, nil)
	asked, kept := c.goes()
	c.gives(c.idToken(asked, map[string]any{"sub": `o"brien`, "tid": "t-2"}), "opaque")
	who, err := c.comes(kept, "state", asked.Get("state"), "code", "c0de")
	if err != nil || who.Token != "" || who.Subject != "oidc:"+c.URL+`#o"brien` ||
		!strings.HasPrefix(who.Remedy.Rule, `- claims: {sub: "o\"brien"}`) ||
		who.Remedy.Command != "" {
		t.Errorf("it is %+v, %v", who, err)
	}
	assigned := newClerk(t, func(s *Settings) { s.RoleAssignments, s.Rules = true, nil })
	asked, kept = assigned.goes()
	assigned.gives(assigned.idToken(asked, nil), "opaque")
	who, err = assigned.comes(kept, "state", asked.Get("state"), "code", "c0de")
	if want := "sandpool role assign 0a1b session-executor --pool POOL"; err != nil ||
		who.Token != "" || who.Remedy.Command != want {
		t.Errorf("by assignments it is %+v, %v", who, err)
	}
}

// TestAccessTokens: where an access token says what its holder may do, it has to be of the same
// person, and for this server.
func TestAccessTokens(t *testing.T) {
	c := newClerk(t, func(s *Settings) { s.SignIn.Token = "access" })
	asked, kept := c.goes()
	finish := func(access string) (Visitor, error) {
		c.gives(c.idToken(asked, nil), access)
		return c.comes(kept, "state", asked.Get("state"), "code", "c0de")
	}
	good := c.token(map[string]any{"exp": c.clock().Add(5 * time.Minute).Unix()})
	who, err := finish(good)
	if err != nil || who.Token != good || !who.Ends.Equal(c.clock().Add(5*time.Minute)) {
		t.Errorf("a good one: %+v, %v", who, err)
	}
	for name, access := range map[string]string{"of another person": c.token(map[string]any{
		"sub": "beth"}), "for another server": c.token(map[string]any{"aud": "other"}),
		"opaque": "opaque", "the ID token": c.idToken(asked, nil)} {
		if who, err := finish(access); sandpool.ClassOf(err) != sandpool.Unauthenticated {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
	}
	if _, err := c.verify(c.signIn.v, c.idToken(asked, nil)); err == nil {
		t.Error("an ID token opens the API")
	}
}

// TestSignInSettings: what cannot be is reported with its field.
func TestSignInSettings(t *testing.T) {
	p := newProvider(t)
	for want, s := range map[string]SignInSettings{
		"issuers[0].sign_in.name":      {ClientID: "x", Name: "../x"},
		"issuers[0].sign_in.client_id": {Name: "x"},
		"issuers[0].sign_in.token":     {Name: "x", ClientID: "x", Token: "both"},
		"issuers[0].sign_in.scopes":    {Name: "x", ClientID: "x", Scopes: []string{"a b"}},
		"issuers[0].sign_in.title":     {Name: "x", ClientID: "x", Title: "a\nb"},
	} {
		settings := p.settings()
		settings.SignIn = &s
		if problems := Validate([]Settings{settings}); len(problems) != 1 ||
			!strings.Contains(problems[0].Error(), want) {
			t.Errorf("want %s: %v", want, problems)
		}
	}
	one, two := p.settings(), newProvider(t).settings()
	one.SignIn = &SignInSettings{Name: "x", ClientID: "x"}
	two.SignIn, one.Audiences = one.SignIn, nil
	if problems := Validate([]Settings{one, two}); len(problems) != 1 || !strings.Contains(
		problems[0].Error(), "issuers[1].sign_in.name") {
		t.Errorf("two of one name: %v", problems)
	}
}
