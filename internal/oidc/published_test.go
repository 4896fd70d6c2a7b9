package oidc

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sandpool/sandpool"
)

// published serves a configuration as its issuer has published it, with the test's address in place
// of the issuer's host, and that issuer's kind of keys. It returns the claim iss.
func (c *clerk) published(file, host string, keys func() []any) (issuer string) {
	c.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		c.Fatal(err)
	}
	here := strings.ReplaceAll(string(text), host, c.URL)
	var says configuration
	if err := json.Unmarshal([]byte(here), &says); err != nil {
		c.Fatal(err)
	}
	path := func(address string) string { return strings.TrimPrefix(address, c.URL) }
	c.does(func(w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case path(says.Issuer) + "/.well-known/openid-configuration":
			_, _ = w.Write([]byte(here))
		case path(says.JWKSURI):
			_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys()})
		case path(says.Token):
			w.Header().Set("Content-Type", "application/json")
			c.answer(w, r)
		default:
			http.NotFound(w, r)
		}
		return true
	})
	return says.Issuer
}

// withCertificate is a public key in JSON with its certificate, as these issuers show it.
func withCertificate(t *testing.T, key *rsa.PrivateKey, id, use, algorithm string) map[string]any {
	t.Helper()
	now := time.Now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1),
		NotBefore: now, NotAfter: now.Add(time.Hour)}, &x509.Certificate{}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert := must(x509.ParseCertificate(der))
	text := must(json.Marshal(jose.JSONWebKey{Key: key.Public(), KeyID: id, Use: use,
		Algorithm: algorithm, Certificates: []*x509.Certificate{cert}}))
	out := map[string]any{}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestPublished: the configurations of Entra ID and of Keycloak are read as those publish them,
// with their keys: the one names no algorithm, the other has keys for something else under it.
func TestPublished(t *testing.T) {
	key := must(rsa.GenerateKey(rand.Reader, 2048))
	other := must(rsa.GenerateKey(rand.Reader, 2048))
	for _, try := range []struct {
		file, host, authorize string
		claims                map[string]any
		rule                  map[string]string
		name                  string
		keys                  func() []any
	}{
		{"entra.json", "https://login.microsoftonline.com", "/oauth2/v2.0/authorize",
			map[string]any{"tid": "8d3f0a3e", "roles": []string{"operators"}, "oid": "0a1b",
				"preferred_username": "ann@example.com", "ver": "2.0", "uti": "x", "rh": "1."},
			map[string]string{"roles": "operators", "tid": "8d3f0a3e"}, "ann@example.com",
			func() []any {
				k := withCertificate(t, key, "k1", "sig", "")
				k["issuer"], k["cloud_instance_name"] = "https://login.microsoftonline.com/"+
					"{tenantid}/v2.0", "microsoftonline.com"
				return []any{withCertificate(t, other, "k0", "sig", ""), k}
			}},
		{"keycloak.json", "https://keycloak.example.com", "/protocol/openid-connect/auth",
			map[string]any{"typ": "ID", "azp": "sandpool-ui", "sid": "s", "acr": "1",
				"groups": []string{"/developers"}, "preferred_username": "ann",
				"realm_access": map[string]any{"roles": []string{"operators"}}},
			map[string]string{"groups": "/developers", "realm_access.roles": "operators"}, "ann",
			func() []any {
				return []any{withCertificate(t, other, "k0", "enc", "RSA-OAEP"),
					withCertificate(t, key, "k1", "sig", "RS256")}
			}},
	} {
		t.Run(try.file, func(t *testing.T) {
			c := newClerk(t, nil)
			issuer := c.published(try.file, try.host, try.keys)
			s := Settings{Issuer: issuer, SignIn: &SignInSettings{Name: "main",
				ClientID: "sandpool-ui"}, Rules: []Rule{{Claims: try.rule, Role: "admin",
				Scope: "/"}}}
			ways, err := c.verifierOf(s).SignIns([]Settings{s}, redirect)
			if err != nil {
				t.Fatal(err)
			}
			c.signIn = ways[0]
			address, kept, err := c.signIn.Begin(t.Context(), "/ui/")
			if err != nil {
				t.Fatal(err)
			}
			u := must(url.Parse(address))
			if !strings.HasSuffix(u.Path, try.authorize) {
				t.Errorf("the browser is led to %s", address)
			}
			answer := []string{"state", u.Query().Get("state"), "code", "c0de"}
			if try.file == "keycloak.json" {
				if _, err := c.comes(kept, answer...); sandpool.ClassOf(err) !=
					sandpool.Unauthenticated {
					t.Errorf("an answer without iss: %v", err)
				}
				answer = append(answer, "iss", issuer)
			}
			all := map[string]any{"iss": issuer, "aud": "sandpool-ui", "groups": nil,
				"nonce": u.Query().Get("nonce")}
			for name, v := range try.claims {
				all[name] = v
			}
			signed := func(k *rsa.PrivateKey, id string) string {
				return sign(t, jose.SigningKey{Algorithm: jose.RS256,
					Key: jose.JSONWebKey{Key: k, KeyID: id}}, c.claims(all))
			}
			c.gives(signed(key, "k1"), "opaque")
			who, err := c.comes(kept, answer...)
			if err != nil || who.Token == "" || who.Name != try.name {
				t.Fatalf("it is %+v, %v", who, err)
			}
			if try.file == "keycloak.json" { // signed by the key that is for encryption
				c.gives(signed(other, "k0"), "opaque")
				if _, err := c.comes(kept, answer...); sandpool.ClassOf(err) !=
					sandpool.Unauthenticated {
					t.Errorf("a key for something else: %v", err)
				}
			}
		})
	}
}
