package access_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// foreign is an OpenID Connect issuer of others.
type foreign struct {
	t      *testing.T
	url    string
	signer jose.Signer
}

func newForeign(t *testing.T) *foreign {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := &foreign{t: t}
	f.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256,
		Key: jose.JSONWebKey{Key: key, KeyID: "k1"}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var v any = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k1",
			Algorithm: "ES256", Use: "sig"}}}
		if r.URL.Path == "/.well-known/openid-configuration" {
			v = map[string]any{"issuer": f.url, "jwks_uri": f.url + "/keys"}
		}
		_ = json.NewEncoder(w).Encode(v) // a server that has gone asks no more
	}))
	t.Cleanup(srv.Close)
	f.url = srv.URL
	return f
}

// token is one for the holder of a case, with further claims: a name and a value each.
func (f *foreign) token(of string, more ...string) string {
	f.t.Helper()
	now := time.Now()
	claims := map[string]any{"iss": f.url, "sub": "ann",
		"aud": "https://dynamicsessions.io", "case": of, "iat": now.Unix(), "nbf": now.Unix(),
		"exp": now.Add(time.Hour).Unix()}
	for i := 0; i < len(more); i += 2 {
		claims[more[i]] = more[i+1]
	}
	text, err := jwt.Signed(f.signer).Claims(claims).Serialize()
	if err != nil {
		f.t.Fatal(err)
	}
	return text
}
