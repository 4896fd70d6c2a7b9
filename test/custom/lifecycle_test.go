package custom_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
)

// bothModes runs a test with a pool by boot and with one by snapshot.
func bothModes(t *testing.T, args []string, test func(t *testing.T, k *kit, pool string)) {
	t.Helper()
	k := newKit(t)
	image := k.push(t, "app:1", app(t))
	for _, mode := range []string{"boot", "snapshot"} {
		t.Run(mode, func(t *testing.T) {
			p := container(image)
			p.Properties.CustomContainerTemplate.Containers[0].Args = args
			p.Properties.Sandpool = &api.SandpoolSettings{WarmStart: mode}
			k.makePool(t, mode, p)
			test(t, k, mode)
		})
	}
}

// TestHosts: a container finds itself by its name from the first moment on.
func TestHosts(t *testing.T) {
	bothModes(t, nil, func(t *testing.T, k *kit, pool string) {
		for _, identifier := range []string{"alice", "bobby"} {
			if got := k.get(t, pool, identifier, "/hosts"); got != "true [127.0.0.1] <nil>" {
				t.Errorf("the container's own name: %q", got)
			}
		}
	})
}

// TestOrphans: processes whose parents have ended leave nothing behind when they end, whatever the
// container's first process does about it.
func TestOrphans(t *testing.T) {
	bothModes(t, nil, func(t *testing.T, k *kit, pool string) {
		first := k.get(t, pool, "alice", "/orphans?make=50")
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		end := time.After(time.Minute)
		for got := first; !strings.HasPrefix(got,
			"0 of 1"); got = k.get(t, pool, "alice", "/orphans") {
			select {
			case <-end:
				t.Fatalf("processes that nobody reaps: %s, at first %s", got, first)
			case <-tick.C:
			}
		}
	})
}

// TestStopSignal: a session's container is told to end, and has the time that it needs.
func TestStopSignal(t *testing.T) {
	bothModes(t, []string{"orderly"}, func(t *testing.T, k *kit, pool string) {
		k.get(t, pool, "alice", "/count")
		if err := k.DeleteSession(t.Context(), pool, "alice"); err != nil {
			t.Fatal(err)
		}
		if got := k.get(t, pool, "alice", "/count"); got != "1" {
			t.Errorf("the next session's first count is %q", got)
		}
		k.get(t, pool, "bobby", "/count")
		if err := k.DeleteSession(t.Context(), pool, "bobby"); err != nil {
			t.Fatal(err)
		}
		k.wantLines(t, pool, "bobby", client.Logs{Follow: true}, "asked to end", "in order")
	})
}

// TestCrashUnderSession: a container that ends under its session ends that, by itself or by its
// Liveness probe. Its caller learns of it once, and has a fresh one after: by the request that it
// ended under, or by the next one if that had its answer, or the beginning of it.
func TestCrashUnderSession(t *testing.T) {
	k := newKit(t)
	p, port, one, long := container(k.push(t, "app:1", app(t))), 8080, 1, 60
	p.Properties.CustomContainerTemplate.Containers[0].Probes =
		[]api.ContainerProbe{{Type: "Liveness", // which a busy machine does not fail
			HTTPGet: &api.HTTPGet{Path: "/healthz", Port: &port}, PeriodSeconds: &one,
			TimeoutSeconds: &long, FailureThreshold: &one}}
	k.makePool(t, "checked", p)
	p.Properties.CustomContainerTemplate.Containers[0].Probes = nil
	k.makePool(t, "pool", p)
	for path, event := range map[string]string{"/exit?code=7": "SandboxEnded",
		"/later": "SandboxEnded", "/sick": "SandboxSick"} {
		pool := "pool"
		if event == "SandboxSick" {
			pool = "checked"
		}
		identifier := "user" + strings.Trim(path[:5], "/")
		k.get(t, pool, identifier, "/count")
		watching := func() {}
		if path == "/later" {
			watching = k.begin(t, pool, identifier, "/lines")
		}
		status, body := k.do(t, http.MethodGet, pool, identifier, path, nil)
		want := http.StatusOK
		if event == "SandboxEnded" && path != "/later" {
			want = http.StatusGone
		}
		if status != want || want == http.StatusGone && !strings.Contains(body, "code 7") {
			t.Errorf("%s: %d %s, want %d", path, status, body, want)
		}
		watching()
		if want == http.StatusOK {
			k.wantEvents(t, pool, event)
			status, body = k.do(t, http.MethodGet, pool, identifier, "/count", nil)
			if status != http.StatusGone {
				t.Errorf("%s: the next request is answered %d %s, want %d", path, status, body,
					http.StatusGone)
			}
		}
		if got := k.get(t, pool, identifier, "/count"); got != "1" {
			t.Errorf("%s: the count goes on with %q", path, got)
		}
	}
}

// begin sends a request and returns when its answer has begun; end waits for the rest.
func (k *kit) begin(t *testing.T, pool, identifier, path string) (end func()) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
		k.PoolEndpoint(pool)+path+"?identifier="+identifier, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+k.token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	return func() {
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Error("an answer that was cut short has an end")
		}
	}
}

// TestCrashWhileReady: containers that end before anybody has claimed them are replaced, with
// growing pauses; the pool says why, with what they wrote.
func TestCrashWhileReady(t *testing.T) {
	k := newKit(t)
	p := container(k.push(t, "app:1", app(t)))
	one := 1
	p.Properties.ScaleConfiguration.ReadySessionInstances = &one
	p.Properties.CustomContainerTemplate.Containers[0].Args = []string{"short"}
	if _, err := k.PutPool(t.Context(), "pool", p); err != nil {
		t.Fatal(err)
	}
	var ends, starts []time.Time
	for after := uint64(0); len(ends) < 3 || len(starts) < 4; {
		page, err := k.Events(t.Context(),
			client.Events{Pool: "pool", After: after, Wait: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		after = page.Next
		for _, e := range page.Value {
			at, err := time.Parse(time.RFC3339Nano, e.Time)
			if err != nil {
				t.Fatal(err)
			}
			switch e.Name {
			case "SandboxEnded":
				ends = append(ends, at)
			case "SandboxStarted":
				starts = append(starts, at)
			}
		}
	}
	for i, pause := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
		if got := starts[i+1].Sub(ends[i]); got < pause-100*time.Millisecond {
			t.Errorf("after %d ends the next container stood ready %v later; want a pause of %v",
				i+1, got, pause)
		}
	}
	got, err := k.PoolStatus(t.Context(), "pool")
	if err != nil || got.Crashes < 3 || !strings.Contains(got.Problem, "code 4") ||
		!strings.Contains(got.Problem, "a short life") {
		t.Errorf("the status is %d crashes, problem %q, %v", got.Crashes, got.Problem, err)
	}
	if !slices.IsSortedFunc(starts, time.Time.Compare) {
		t.Errorf("the starts are %v", starts)
	}
}

// TestSickWhileReady: a container that does not pass its Liveness probe before anybody has claimed
// it is replaced, and no caller hears of it.
func TestSickWhileReady(t *testing.T) {
	k := newKit(t)
	p, port, one := container(k.push(t, "app:1", app(t))), 8080, 1
	p.Properties.ScaleConfiguration.ReadySessionInstances = &one
	c := &p.Properties.CustomContainerTemplate.Containers[0]
	c.Args = []string{"sickly"}
	c.Probes = []api.ContainerProbe{{Type: "Liveness",
		HTTPGet:       &api.HTTPGet{Path: "/healthz", Port: &port},
		PeriodSeconds: &one, FailureThreshold: &one}}
	k.makePool(t, "pool", p)
	k.wantEvents(t, "pool", "SandboxSick")
	if got := k.get(t, "pool", "alice", "/count"); got != "1" {
		t.Errorf("a session after it begins with %q", got)
	}
	status, err := k.PoolStatus(t.Context(), "pool")
	if err != nil || status.Crashes < 1 || status.RefillFailures < 1 {
		t.Errorf("the status counts %d crashes and %d failed refills, %v", status.Crashes,
			status.RefillFailures, err)
	}
}

// TestStartupProbe: a container is ready when its Startup probe passes, by HTTPS and with the
// fields of the header that it names, and not before.
func TestStartupProbe(t *testing.T) {
	bothModes(t, []string{"tls"}, func(t *testing.T, k *kit, pool string) {
		port, one, ten := 8443, 1, 10
		body, err := k.Pool(t.Context(), pool)
		if err != nil {
			t.Fatal(err)
		}
		body.Properties.CustomContainerTemplate.Containers[0].Probes = []api.ContainerProbe{{
			Type: "Startup", PeriodSeconds: &one, FailureThreshold: &ten,
			HTTPGet: &api.HTTPGet{Path: "/started?by=probe", Port: &port, Scheme: "HTTPS",
				HTTPHeaders: []api.HTTPHeader{{Name: "X-Check", Value: "yes"}}}}}
		k.makePool(t, pool, body)
		if got := k.get(t, pool, "alice", "/passed"); got != "third" {
			t.Errorf("the probe passed at the %s attempt", got)
		}
	})
}

// TestOnContainerExit: such a session lasts until its container exits, whose code is in the events,
// and the next request begins a new one.
func TestOnContainerExit(t *testing.T) {
	k := newKit(t)
	p, alive := container(k.push(t, "app:1", app(t))), 300
	p.Properties.DynamicPoolConfiguration = &api.DynamicPoolConfiguration{
		LifecycleConfiguration: &api.LifecycleConfiguration{LifecycleType: "OnContainerExit",
			MaxAlivePeriodInSeconds: &alive}}
	k.makePool(t, "pool", p)
	k.get(t, "pool", "alice", "/count")
	k.do(t, http.MethodGet, "pool", "alice", "/exit?code=0", nil)
	var told []string
	for _, e := range k.wantEvents(t, "pool", "SandboxEnded", "SessionEnded") {
		told = append(told, e.Message)
	}
	if !strings.Contains(strings.Join(told, "\n"), "exited with code 0") {
		t.Errorf("the events are %q", told)
	}
	if got := k.get(t, "pool", "alice", "/count"); got != "1" {
		t.Errorf("the next session begins with %q", got)
	}
}
