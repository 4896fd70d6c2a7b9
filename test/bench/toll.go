package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/bench"
)

const (
	tollPool = "toll"
	tollID   = "live"
	audience = "https://dynamicsessions.io"
)

// payer is one way to ask for 1+1 in a live session.
type payer struct {
	name, how string
	client    *client.Client
	took      []float64 // ms
}

// toll measures what callers pay for who they are and for what is counted of them: 1+1 with an own
// token and one of a foreign issuer with RSA keys, at two servers, of which one holds callers to
// limits and records what sessions use. The ways take turns, each turn with another one first. It
// returns the rows of the ways, and those of how much longer one took than another in a turn.
func toll(ctx context.Context, bin, dir, images string, n int,
	progress func(step, detail string)) (_ []bench.Measure, err error) {
	issuer, token, err := newForeigner()
	if err != nil {
		return nil, err
	}
	defer issuer.Close()
	rules, err := json.Marshal([]any{map[string]any{"issuer": issuer.URL,
		"audiences": []string{audience}, "rules": []any{map[string]any{
			"claims": map[string]string{"tid": "t-1"}, "role": "session-executor",
			"scope": "/"}}}})
	if err != nil {
		return nil, err
	}
	rulesAre := "SANDPOOL_ISSUERS=" + string(rules)
	var ways []*payer
	for _, s := range []struct {
		name string
		env  []string
	}{
		{"on", []string{rulesAre, "SANDPOOL_LIMITS_CALLER_REQUESTS_PER_SECOND=100000",
			"SANDPOOL_LIMITS_CALLER_BURST=100000", "SANDPOOL_LIMITS_CALLER_CONCURRENT=1000",
			"SANDPOOL_LIMITS_POOL_REQUESTS_PER_SECOND=100000",
			"SANDPOOL_LIMITS_POOL_BURST=100000", "SANDPOOL_LIMITS_POOL_CONCURRENT=1000"}},
		{"off", []string{rulesAre, "SANDPOOL_USAGE_DAYS=0"}},
	} {
		at := filepath.Join(dir, "toll-"+s.name)
		if err := os.Mkdir(at, 0o755); err != nil {
			return nil, err
		}
		p, err := startServer(ctx, bin, at, images, s.env...)
		if err != nil {
			return nil, err
		}
		defer func() { err = first(err, p.stop()) }()
		if err := openToll(ctx, p.client); err != nil {
			return nil, err
		}
		foreign, err := client.New(client.Config{Endpoint: p.client.Endpoint(), Token: token})
		if err != nil {
			return nil, err
		}
		how := "limits and usage " + s.name
		ways = append(ways, &payer{name: "own token", how: how, client: p.client},
			&payer{name: "foreign token", how: how, client: foreign})
	}
	const warm = 50
	for i := range warm + n {
		progress("what callers pay", fmt.Sprintf("%d/%d", i+1, warm+n))
		for j := range ways {
			w := ways[(i+j)%len(ways)]
			begin := time.Now()
			_, err := w.client.Execute(ctx, tollPool, tollID, client.Run{Code: "1+1",
				Timeout: time.Minute})
			if err != nil {
				return nil, fmt.Errorf("1+1 by %s: %w", w.name, err)
			}
			if i >= warm {
				w.took = append(w.took, float64(time.Since(begin))/float64(time.Millisecond))
			}
		}
	}
	var rows []bench.Measure
	for _, w := range ways {
		rows = append(rows, bench.Summarise("round trip, "+w.name+", "+w.how, "ms",
			"POST executions with 1+1 in a live session", w.took))
	}
	own := ways[0].took
	for _, d := range []struct {
		name    string
		of, out []float64
	}{{"foreign token less own token", ways[1].took, own},
		{"limits and usage, on less off", own, ways[2].took}} {
		more := slices.Clone(d.of)
		for i := range more {
			more[i] -= d.out[i]
		}
		rows = append(rows, bench.Summarise(d.name, "ms", "differences within a turn", more))
	}
	return rows, nil
}

// openToll makes a pool, and the session in it that is asked.
func openToll(ctx context.Context, c *client.Client) error {
	ready, most := 1, 5
	if _, err := c.PutPool(ctx, tollPool, api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{ContainerType: "PythonLTS",
			ScaleConfiguration: &api.ScaleConfiguration{ReadySessionInstances: &ready,
				MaxConcurrentSessions: &most}}}); err != nil {
		return err
	}
	if _, err := c.WaitReady(ctx, tollPool, nil); err != nil {
		return err
	}
	_, err := c.Execute(ctx, tollPool, tollID, client.Run{Code: "1+1", Timeout: time.Minute})
	return err
}

// newForeigner starts an issuer, and returns a token of it that looks as one of Entra ID does.
func newForeigner() (*httptest.Server, string, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, "", err
	}
	known := jose.JSONWebKey{Key: key, KeyID: "k1", Algorithm: string(jose.RS256), Use: "sig"}
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	answer := func(path string, v any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(v) // a reader that has gone does not matter
		})
	}
	answer("/.well-known/openid-configuration", map[string]string{"issuer": srv.URL,
		"jwks_uri": srv.URL + "/keys"})
	answer("/keys", jose.JSONWebKeySet{Keys: []jose.JSONWebKey{known.Public()}})
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: known}, nil)
	if err != nil {
		srv.Close()
		return nil, "", err
	}
	groups := make([]string, 40)
	for i := range groups {
		groups[i] = fmt.Sprintf("5b1c2d3e-0000-0000-0000-%012d", i)
	}
	now := time.Now()
	token, err := jwt.Signed(signer).Claims(map[string]any{"iss": srv.URL, "aud": audience,
		"sub": "ann", "tid": "t-1", "groups": groups, "iat": now.Unix(), "nbf": now.Unix(),
		"exp": now.Add(12 * time.Hour).Unix()}).Serialize()
	if err != nil {
		srv.Close()
	}
	return srv, token, err
}
