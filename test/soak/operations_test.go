package soak_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/test/leaks"
)

// operations is a server that is killed in the middle of long operations, at moments that its
// registry, its events and its answers tell.
type operations struct {
	*customWorld
	gate atomic.Pointer[gate]
}

// gate is where the registry stops those who ask for an image.
type gate struct {
	image   string
	reached chan struct{} // closed when one has come
	open    chan struct{} // closed by the test
	came    atomic.Bool
}

func newOperations(t *testing.T) *operations {
	t.Helper()
	o := &operations{customWorld: newCustomWorld(t)}
	o.hub.Before = func(rw http.ResponseWriter, r *http.Request) bool {
		g := o.gate.Load()
		if g == nil || !strings.Contains(r.URL.Path, "/"+g.image+"/manifests/") {
			return false
		}
		if g.came.CompareAndSwap(false, true) {
			close(g.reached)
		}
		select {
		case <-g.open:
			return false
		case <-r.Context().Done():
			return true
		}
	}
	if err := os.MkdirAll(o.srv.data, 0o700); err != nil {
		t.Fatal(err)
	}
	// Those of languages are there already; those that are pulled must be nobody else's.
	if out, err := exec.Command("cp", "-al", filepath.Join(need.Data(t), "images"),
		filepath.Join(o.srv.data, "images")).CombinedOutput(); err != nil {
		t.Fatalf("link the images: %v\n%s", err, out)
	}
	store, err := image.Open(filepath.Join(o.srv.data, "images"))
	if err != nil {
		t.Fatal(err)
	}
	// Earlier builds of a language's image may be there still: no pull has left them.
	if _, err := store.Prune(func(i image.Image) bool { return i.Name != "" }); err != nil {
		t.Fatal(err)
	}
	return o
}

// closeGate has the registry stop who asks for an image.
func (o *operations) closeGate(image string) *gate {
	g := &gate{image: image, reached: make(chan struct{}), open: make(chan struct{})}
	o.gate.Store(g)
	return g
}

func (o *operations) killAgain() {
	o.t.Helper()
	o.srv.kill(o.t)
	o.srv.start(o.t)
}

// ask sends a request to a path or a URL, and fails the test if there is no answer.
func (o *operations) ask(method, target string, body any) (int, http.Header, string) {
	o.t.Helper()
	text, err := json.Marshal(body)
	if s, ok := body.(string); ok {
		text = []byte(s)
	}
	if strings.HasPrefix(target, "/") {
		target = "http://" + o.srv.addr + target
	}
	token, err2 := os.ReadFile(filepath.Join(o.srv.data, "admin-token"))
	r, err3 := http.NewRequestWithContext(o.t.Context(), method, target,
		strings.NewReader(string(text)))
	if err := errors.Join(err, err2, err3); err != nil {
		o.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		o.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(answer)
}

// begun is a long operation: the headers by which its caller follows it.
type begun struct{ async, location string }

func (o *operations) begin(method, target string, body any) begun {
	o.t.Helper()
	status, header, text := o.ask(method, target, body)
	b := begun{header.Get("Azure-AsyncOperation"), header.Get("Location")}
	if status >= 300 || b == (begun{}) {
		o.t.Fatalf("%s %s begins no operation: %d %s", method, target, status, text)
	}
	return b
}

// remove deletes something, and waits until it is gone.
func (o *operations) remove(target string) {
	o.t.Helper()
	status, header, text := o.ask("DELETE", target, "")
	if status != http.StatusAccepted && status != http.StatusNoContent {
		o.t.Errorf("DELETE %s: %d %s", target, status, text)
	}
	o.ended("the deletion of "+target, begun{location: header.Get("Location")})
}

// status is the operation's state now.
func (o *operations) status(b begun) (got api.Operation) {
	o.t.Helper()
	status, _, text := o.ask("GET", b.async, "")
	if err := json.Unmarshal([]byte(text), &got); err != nil || status != http.StatusOK {
		o.t.Fatalf("the operation: %d %s", status, text)
	}
	return got
}

// watch looks until done says so.
func (o *operations) watch(what string, done func() bool) {
	o.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(2 * time.Minute)
	for !done() {
		select {
		case <-tick.C:
		case <-end:
			o.t.Fatalf("%s does not happen", what)
		}
	}
}

// ended follows an operation from before the kill to its end.
func (o *operations) ended(what string, b begun) (got api.Operation) {
	o.t.Helper()
	if b.async != "" {
		o.watch("the end of "+what, func() bool {
			got = o.status(b)
			return !slices.Contains([]string{"InProgress", "Accepted", "Running"}, got.Status)
		})
	}
	if b.location != "" {
		o.watch("the result of "+what, func() bool {
			status, _, text := o.ask("GET", b.location, "")
			if status >= 400 && got.Status != "Failed" {
				o.t.Fatalf("the result of %s: %d %s", what, status, text)
			}
			return status != http.StatusAccepted
		})
	}
	return got
}

func (o *operations) succeeds(what string, b begun) {
	o.t.Helper()
	if got := o.ended(what, b); b.async != "" && got.Status != "Succeeded" {
		o.t.Errorf("%s ended as %+v", what, got)
	}
}

// at waits until an event happens to a pool.
func (o *operations) at(pool, name, outcome string) {
	o.t.Helper()
	after := uint64(0)
	o.watch(name+" "+outcome+" of "+pool, func() bool {
		page, err := o.c.Events(o.t.Context(), client.Events{Pool: pool, After: after,
			Wait: 5 * time.Second})
		if err != nil {
			o.t.Fatal(err)
		}
		after = page.Next
		return slices.ContainsFunc(page.Value, func(e api.Event) bool {
			return e.Name == name && (outcome == "" || e.Outcome == outcome)
		})
	})
}

const ownGroup = "/subscriptions/" + sandpool.DefaultSubscription + "/resourceGroups/" +
	sandpool.DefaultResourceGroup

// version is what every request needs.
const version = "?api-version=2025-10-02-preview"

func poolAt(group, name string) string { return group + poolsBelow + name + version }

// settled waits until a pool has so many ready sandboxes, and no others but those claimed.
func (o *operations) settled(group, name string, ready, claimed int) {
	o.t.Helper()
	o.watch("the rest of "+name, func() bool {
		var s api.PoolStatus
		_, _, text := o.ask("GET", group+poolsBelow+name+"/status"+version+"&$expand=sandboxes", "")
		return json.Unmarshal([]byte(text), &s) == nil && s.ProvisioningState == "Succeeded" &&
			s.Ready == ready && len(s.Sandboxes) == ready+claimed
	})
}

// pools are the names of the pools in a group.
func (o *operations) pools(group string) (names []string) {
	o.t.Helper()
	var all api.SessionPools
	_, _, text := o.ask("GET", group+strings.TrimSuffix(poolsBelow, "/")+version, "")
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		o.t.Fatalf("%v: %s", err, text)
	}
	for _, p := range all.Value {
		names = append(names, p.Name)
	}
	return names
}

// poolOf is a custom pool with so many ready sandboxes.
func poolOf(image, start string, ready int) api.SessionPool {
	p := customPool(image, start)
	p.Properties.ScaleConfiguration.ReadySessionInstances = &ready
	return p
}

// TestKilledOperations: the server is killed in the middle of each kind of long operation. The
// operation ends by itself after the restart, those who follow it by the URL that they were given
// learn how, and it is done once.
func TestKilledOperations(t *testing.T) {
	need.Data(t)
	o := newOperations(t)
	before, err := leaks.Count(o.srv.data)
	if err != nil {
		t.Fatal(err)
	}
	o.srv.start(t)
	o.c = o.srv.client(t)
	for _, part := range []func(){o.pulls, o.snapshots, o.deletes, o.rolls, o.deploys} {
		began := time.Now()
		part()
		t.Logf("took %s", time.Since(began).Round(time.Millisecond))
	}
	want := []string{"code", "half", "manifest", "roll", "start"}
	if got := o.pools(ownGroup); !slices.Equal(got, want) {
		t.Errorf("there are the pools %v, want %v", got, want)
	}
	for _, name := range want {
		o.remove(poolAt(ownGroup, name))
	}
	o.remove(deployGroup + version)
	o.watch("the end of all snapshots", func() bool {
		left, err := filepath.Glob(filepath.Join(o.srv.data, "engine", "snapshots", "*"))
		return err == nil && len(left) == 0
	})
	o.srv.stop(t)
	after, err := leaks.Count(o.srv.data)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range after.Diff(before) {
		t.Errorf("left behind: %s", line)
	}
	o.wholeImages(t)
}

// pulls: killed before the first answer of a registry, and in the middle of a layer. One whose
// image is gone afterwards fails, and says so.
func (o *operations) pulls() {
	o.t.Helper()
	g := o.closeGate("manifest")
	first := o.begin("PUT", poolAt(ownGroup, "manifest"),
		poolOf(o.push("manifest", 1), "boot", 1))
	<-g.reached
	o.killAgain()
	if got := o.status(first); got.Status != "InProgress" {
		o.t.Errorf("a pull that goes on after a restart is %+v", got)
	}
	close(g.open)
	o.succeeds("the pull", first)
	o.settled(ownGroup, "manifest", 1, 0)

	image := o.push("half", 4<<20)
	o.stall.Store(true)
	half := o.begin("PUT", poolAt(ownGroup, "half"), poolOf(image, "boot", 1))
	<-o.half
	o.killAgain()
	o.succeeds("the pull of a layer", half)
	o.settled(ownGroup, "half", 1, 0)
	o.firstSession(o.t, "half")

	g = o.closeGate("gone")
	gone := o.begin("PUT", poolAt(ownGroup, "gone"),
		poolOf(o.hub.Host()+"/gone:1", "boot", 1))
	<-g.reached
	o.killAgain()
	close(g.open)
	if got := o.ended("the pull of nothing", gone); got.Status != "Failed" || got.Error == nil ||
		!strings.Contains(got.Error.Message, "gone:1") {
		o.t.Errorf("the pull of an image that there is not: %+v", got)
	}
	o.remove(poolAt(ownGroup, "gone"))
}

// snapshots: killed while what is snapshotted boots, and while the snapshot is written.
func (o *operations) snapshots() {
	o.t.Helper()
	code := api.SessionPool{Location: "local", Properties: &api.SessionPoolProperties{
		ContainerType: string(sandpool.PythonLTS), ScaleConfiguration: &api.ScaleConfiguration{
			MaxConcurrentSessions: new(3), ReadySessionInstances: new(1)}}}
	for name, p := range map[string]api.SessionPool{"code": code,
		"start": poolOf(o.push("start", 1), "snapshot", 1)} {
		b := o.begin("PUT", poolAt(ownGroup, name), p)
		o.at(name, "PoolPreparing", map[string]string{"code": "boot", "start": "snapshot"}[name])
		o.killAgain()
		o.succeeds("the snapshot of "+name, b)
		o.settled(ownGroup, name, 1, 0)
	}
	o.firstSession(o.t, "start")
}

// deletes: killed right after the answer, and when the first sandbox is gone.
func (o *operations) deletes() {
	o.t.Helper()
	for i := range 2 {
		const name = "short"
		o.succeeds("a pool", o.begin("PUT", poolAt(ownGroup, name),
			poolOf(o.push(name, 1), "boot", 3)))
		o.settled(ownGroup, name, 3, 0)
		b := o.begin("DELETE", poolAt(ownGroup, name), "")
		if i > 0 {
			o.watch("the first end", func() bool {
				status, _, text := o.ask("GET", ownGroup+poolsBelow+name+"/status"+version+
					"&$expand=sandboxes", "")
				var s api.PoolStatus
				return status != 200 || json.Unmarshal([]byte(text), &s) == nil &&
					len(s.Sandboxes) < 3
			})
		}
		o.killAgain()
		o.ended("the deletion", b)
		if status, _, text := o.ask("GET", poolAt(ownGroup, name), ""); status != 404 {
			o.t.Errorf("after its deletion: %d %s", status, text)
		}
	}
}

// rolls: killed when a change was just answered, and when the first of the new is ready. A session
// keeps what it has.
func (o *operations) rolls() {
	o.t.Helper()
	image := o.push("roll", 1)
	o.succeeds("a pool", o.begin("PUT", poolAt(ownGroup, "roll"), poolOf(image, "boot", 2)))
	o.settled(ownGroup, "roll", 2, 0)
	count := func(want string) {
		o.t.Helper()
		if status, got, err := o.get(o.t.Context(), "roll", "keeper", "/count"); got != want {
			o.t.Errorf("the session counts %d %q, %v; want %s", status, got, err, want)
		}
	}
	count("1")
	for i := range 2 {
		turn := fmt.Sprintf("TURN-%d", i)
		b := o.begin("PATCH", poolAt(ownGroup, "roll"), fmt.Sprintf(`{"properties":{
			"customContainerTemplate":{"containers":[{"name":"app","image":%q,
			"env":[{"name":"TURN","value":%q}]}]}}}`, image, turn))
		if i > 0 {
			o.watch("the first of the new", func() bool {
				p, err := o.c.Pool(o.t.Context(), "roll")
				return err == nil &&
					p.Properties.TemplateUpdateStatus.DesiredTemplate.Status.ReadyCount > 0
			})
		}
		o.killAgain()
		o.succeeds("a roll", b)
		o.settled(ownGroup, "roll", 2, 1)
		o.at("roll", "PoolRolled", "")
		count(fmt.Sprint(i + 2))
		_, got, err := o.get(o.t.Context(), "roll", "newer", "/env")
		if !strings.Contains(got, "TURN="+turn) {
			o.t.Errorf("a new session after the roll %d has %q, %v", i, got, err)
		}
		if err := o.c.DeleteSession(o.t.Context(), "roll", "newer"); err != nil {
			o.t.Error(err)
		}
	}
}
