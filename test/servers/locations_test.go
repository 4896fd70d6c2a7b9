package servers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
)

// token is an administrator's.
func (s *server) token() string {
	s.w.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "admin-token"))
	if err != nil {
		s.w.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// byHost runs code at a pool's endpoint, whose host name leads to s.
func (s *server) byHost(ctx context.Context, endpoint, code string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Endpoint()+u.Path+
		"/executions?identifier="+session, strings.NewReader(fmt.Sprintf(`{"code":%q}`, code)))
	if err != nil {
		return "", err
	}
	r.Host = u.Host
	r.Header.Set("Authorization", "Bearer "+s.token())
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var got api.Execution
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		return "", err
	}
	return strings.TrimSpace(got.Result.Stdout), nil
}

// TestLocations: two servers with a location each, whose engines give sandboxes unlike memory. A
// pool runs on the engine of its location, whichever server was asked for it, also by its host
// name; one of a location without a server says so, and runs as soon as there is one.
func TestLocations(t *testing.T) {
	w := newWorld(t)
	east := w.serve("one", "SANDPOOL_LOCATIONS=[East US]",
		"SANDPOOL_ENDPOINT_URL=https://{region}.dynamicsessions.io",
		"SANDPOOL_SANDBOX_MEMORY_MB=700")
	west := w.serve("two", "SANDPOOL_LOCATIONS=[west]",
		"SANDPOOL_ENDPOINT_URL=http://{region}.pools.example.com", "SANDPOOL_SANDBOX_MEMORY_MB=900")
	ctx, cancel := context.WithTimeout(t.Context(), 3*replaceTime)
	defer cancel()
	body := func(location string) api.SessionPool {
		most, ready := 3, 1
		return api.SessionPool{Location: location, Properties: &api.SessionPoolProperties{
			ContainerType: string(sandpool.PythonLTS), ScaleConfiguration: &api.ScaleConfiguration{
				MaxConcurrentSessions: &most, ReadySessionInstances: &ready}}}
	}
	w.eventually(ctx, "east knows of west", func() error {
		_, err := east.PutPool(ctx, "there", body("WEST"))
		return err
	})
	w.eventually(ctx, "west knows of east", func() error {
		_, err := west.PutPool(ctx, "here", body("eastus"))
		return err
	})
	if _, err := west.PutPool(ctx, "nowhere", body("mars")); err == nil ||
		!strings.Contains(err.Error(), "west, East US") {
		t.Errorf("an unknown location: %v", err)
	}
	const memory = "print(int(open('/proc/meminfo').readline().split()[1]) // 1024)"
	for name, want := range map[string]string{"here": "700", "there": "900"} {
		if _, err := west.WaitReady(ctx, name, nil); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*server{east, west} {
			got, err := s.Execute(ctx, name, session, client.Run{Code: memory})
			if err != nil || strings.TrimSpace(got.Result.Stdout) != want {
				t.Errorf("%s by %s: %+v, %v", name, s.name, got, err)
			}
			p, err := s.Pool(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			at := map[string]string{"here": "https://eastus.dynamicsessions.io/subscriptions/",
				"there": "http://west.pools.example.com/subscriptions/"}[name]
			found := p.Properties.PoolManagementEndpoint
			if !strings.HasPrefix(found, at) {
				t.Errorf("%s by %s is at %s, want %s", name, s.name, found, at)
			}
			if text, err := s.byHost(ctx, found, memory); err != nil || text != want {
				t.Errorf("%s by %s, at %s: %q, %v", name, s.name, found, text, err)
			}
		}
	}
	if err := west.DeleteSession(ctx, "there", session); err != nil {
		t.Fatal(err)
	}
	west.end(syscall.SIGKILL)
	w.eventually(ctx, "the pool does not say that nobody serves it", func() error {
		p, err := east.Pool(ctx, "there")
		if err == nil && !strings.Contains(p.Properties.Sandpool.Problem,
			`No server that runs serves the location "west"`) {
			err = &sandpool.Error{Message: "its problem is " + p.Properties.Sandpool.Problem}
		}
		return err
	})
	west.start("stop")
	w.eventually(ctx, "the pool does not run again", func() error {
		_, err := east.Execute(ctx, "there", session, client.Run{Code: "1"})
		return err
	})
}
