package clients_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/need"
)

// issuer is a provider of OpenID Connect that others have written.
type issuer struct {
	t    *testing.T
	m    modules
	port string
	stop func()
}

func (i *issuer) url() string { return "http://127.0.0.1:" + i.port }

// start starts the issuer, with new keys.
func (i *issuer) start() {
	i.t.Helper()
	cmd := exec.Command(i.m.node(), filepath.Join(i.m.dir, "issuer.mjs"), i.port)
	out, err := cmd.StdoutPipe()
	if err != nil {
		i.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		i.t.Fatal(err)
	}
	i.stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		i.stop = func() {}
	}
	for lines := bufio.NewScanner(out); ; {
		if !lines.Scan() {
			i.t.Fatal("the issuer does not start")
		}
		if lines.Text() == "ready" {
			return
		}
	}
}

// token has the issuer give a token to a client of its own, for an audience.
func (i *issuer) token(id, audience string) string {
	i.t.Helper()
	resp, err := http.PostForm(i.url()+"/token", url.Values{"grant_type": {"client_credentials"},
		"client_id": {id}, "client_secret": {"secret of " + id}, "resource": {audience}})
	if err != nil {
		i.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Token string `json:"access_token"`
		Error string `json:"error_description"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Token == "" {
		i.t.Fatalf("no token for %s: %s, %v", id, answer.Error, err)
	}
	return answer.Token
}

// TestIssuer: tokens of a foreign issuer, which others have written, give everybody sessions of
// their own, also while the issuer is down and after its keys have changed.
func TestIssuer(t *testing.T) {
	data := need.Data(t)
	npm, err := exec.LookPath("npm")
	if err != nil {
		need.Lack(t, "the issuer is installed by npm, which is not here")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	i := &issuer{t: t, m: newModules(t, npm, filepath.Join(data, "clients-node")), port: port,
		stop: func() {}}
	t.Cleanup(func() { i.stop() })
	i.start()
	const audience = "https://dynamicsessions.io"
	pool := sandpool.PoolID{Subscription: sandpool.DefaultSubscription,
		ResourceGroup: sandpool.DefaultResourceGroup, Name: "python"}
	s := startServer(t, filepath.Join(data, "images"), fmt.Sprintf(`SANDPOOL_ISSUERS=[{issuer: %q, `+
		`audiences: [%q], rules: [{claims: {client_id: "*"}, role: session-executor, scope: `+
		`"%s/identifiers/{client_id}:*"}]}]`, i.url(), audience, pool.Scope()))
	s.makePool(t, pool.Name, 2, 10)
	at, err := client.LoadConfig(s.config)
	if err != nil {
		t.Fatal(err)
	}
	run := func(token, identifier string) error {
		as := client.Config{Endpoint: at.Endpoint, Token: token, HTTPClient: s.plain(t)}
		c, err := client.New(as)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Execute(t.Context(), pool.Name, identifier, client.Run{Code: "print(6*7)"})
		if err == nil && (got.Failed() || !strings.Contains(fmt.Sprint(got), "42")) {
			t.Errorf("the answer is %+v", got)
		}
		return err
	}
	ann, beth := i.token("ann", audience), i.token("beth", audience)
	for _, row := range []struct {
		token, identifier string
		want              sandpool.Class
	}{
		{ann, "ann:1", 0}, {beth, "beth:1", 0},
		{ann, "beth:1", sandpool.Denied}, {ann, "anna:1", sandpool.Denied},
		{i.token("ann", "https://elsewhere.example"), "ann:1", sandpool.Unauthenticated},
		{ann + "x", "ann:1", sandpool.Unauthenticated},
	} {
		err := run(row.token, row.identifier)
		if (err == nil) != (row.want == 0) || err != nil && sandpool.ClassOf(err) != row.want {
			t.Errorf("%s: %v", row.identifier, err)
		}
	}
	i.stop()
	if err := run(ann, "ann:1"); err != nil {
		t.Errorf("while the issuer is down: %v", err)
	}
	i.start()
	fresh := i.token("ann", audience)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for run(fresh, "ann:1") != nil { // an issuer is asked at most every ten seconds
		select {
		case <-ctx.Done():
			t.Fatalf("a token by the new key: %v", run(fresh, "ann:1"))
		case <-time.After(time.Second):
		}
	}
}
