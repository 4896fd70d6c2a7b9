// Package custom_test runs pools of custom containers as their owners do: images in a registry of
// the test, pools made by the ARM API of a real server, sandboxes of the real engine, and requests
// by identifier. At the end nothing may be left on the host.
package custom_test

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/server"
)

func TestMain(m *testing.M) {
	server.HandOver()
	os.Exit(m.Run())
}

// TestCounter is the whole way: pull, boot, claim, forward, keep state, stop.
func TestCounter(t *testing.T) {
	k := newKit(t)
	k.makePool(t, "counter", container(k.push(t, "counter:1", app(t))))
	for _, want := range []string{"1", "2", "3"} {
		if got := k.get(t, "counter", "alice", "/count"); got != want {
			t.Errorf("alice's count is %q, want %q", got, want)
		}
	}
	if got := k.get(t, "counter", "bobby", "/count"); got != "1" {
		t.Errorf("bobby's first count is %q: two identifiers share a container", got)
	}
	if status, body := k.do(t, http.MethodPost, "counter", "alice", "/.management/stopSession",
		nil); status != http.StatusOK {
		t.Fatalf("stop alice's session: %d %s", status, body)
	}
	if got := k.get(t, "counter", "alice", "/count"); got != "1" {
		t.Errorf("the count goes on after the session was stopped: %q", got)
	}
}

// get is the body of an answer from the container of an identifier.
func (k *kit) get(t *testing.T, pool, identifier, path string) string {
	t.Helper()
	status, body := k.do(t, http.MethodGet, pool, identifier, path, nil)
	if status != http.StatusOK {
		t.Errorf("GET %s: %d %s", path, status, body)
	}
	return strings.TrimSpace(body)
}

func (k *kit) do(t *testing.T, method, pool, identifier, path string, body io.Reader) (int,
	string) {
	t.Helper()
	at, err := url.Parse(k.PoolEndpoint(pool) + path)
	if err != nil {
		t.Fatal(err)
	}
	q := at.Query()
	q.Set("identifier", identifier)
	at.RawQuery = q.Encode()
	r, err := http.NewRequestWithContext(t.Context(), method, at.String(), body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+k.token)
	resp, err := k.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// container is a pool's body for one container of the image.
func container(image string) api.SessionPool {
	most, ready, port := 10, 2, 8080
	return api.SessionPool{Location: "local", Properties: &api.SessionPoolProperties{
		ContainerType: "CustomContainer",
		ScaleConfiguration: &api.ScaleConfiguration{MaxConcurrentSessions: &most,
			ReadySessionInstances: &ready},
		CustomContainerTemplate: &api.CustomContainerTemplate{
			Containers: []api.Container{{Image: image}},
			Ingress:    &api.Ingress{TargetPort: &port},
		},
	}}
}
