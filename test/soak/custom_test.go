package soak_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/test/leaks"
)

const (
	shortContainers = 60
	// One session of the long form in so many is one of a custom container.
	containerShare = 20
	// fewestKills is how often the server is killed at least: in the middle of a download, at any
	// moment of making a pool, and with nothing but sessions under way.
	fewestKills = 3
)

// TestSoakCustom is the same for custom containers: sessions in a row while containers exit,
// sandboxes are killed, and the server, too, most of all while it pulls images.
func TestSoakCustom(t *testing.T) {
	need.Data(t)
	n := shortContainers
	if long := longSessions(t); long > 0 {
		n = max(n, long/containerShare)
	}
	w := newCustomWorld(t)
	before, err := leaks.Count(w.srv.data)
	if err != nil {
		t.Fatal(err)
	}
	w.srv.start(t)
	w.c = w.srv.client(t)
	for _, start := range []string{"boot", "snapshot"} {
		w.makePool(t, start, w.push("app", 0), start)
	}

	ctx, stop := context.WithCancel(t.Context())
	var killer, users sync.WaitGroup
	killer.Go(func() { w.killSandboxes(ctx, t) })
	next := make(chan int)
	for range workers {
		users.Go(func() {
			for i := range next {
				w.oneSession(t, i)
			}
		})
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for i := range n {
			next <- i
		}
		close(next)
		users.Wait()
	}()
	for i := 0; i < fewestKills || !closed(served); i++ {
		w.killServer(t, i)
	}
	<-served
	stop()
	killer.Wait()

	w.srv.stop(t)
	t.Logf("%d sessions: %v", n, w.got.counts)
	// On a slow machine a session meets many kills.
	if reached := n - w.got.counts[serverDown]; w.got.counts["right"] < reached/5 {
		t.Errorf("only %d of the %d sessions that met a server were served", w.got.counts["right"],
			reached)
	}
	after, err := leaks.Count(w.srv.data)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range after.Diff(before) {
		t.Errorf("left behind: %s", line)
	}
	w.wholeImages(t)
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// customWorld is a server that is killed again and again, and a registry that is not.
type customWorld struct {
	t     *testing.T
	srv   *program
	c     *client.Client
	hub   *ocitest.Hub
	app   string // the layer with the application
	got   tally
	kills atomic.Int64 // of the server
	// stall has the registry stop in the middle of a large layer, and say so on half.
	stall atomic.Bool
	half  chan struct{}
}

func newCustomWorld(t *testing.T) *customWorld {
	t.Helper()
	w := &customWorld{t: t, srv: newProgram(t), hub: ocitest.NewHub(t), half: make(chan struct{},
		1),
		got: tally{counts: map[string]int{}}}
	w.srv.images = ""
	program := filepath.Join(t.TempDir(), "app")
	compile(t, program, "../custom/testdata/app")
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	w.app = ocitest.Layer(t, ocitest.File("app", 0o755, string(text)))
	w.hub.Wrap = func(rw http.ResponseWriter, r *http.Request) http.ResponseWriter {
		return &stalling{ResponseWriter: rw, r: r, w: w}
	}
	return w
}

// stalling is an answer that stops after its first megabyte, if it is to.
type stalling struct {
	http.ResponseWriter
	r *http.Request
	w *customWorld
	n int
}

func (s *stalling) Write(p []byte) (int, error) {
	n, err := s.ResponseWriter.Write(p)
	if s.n += n; s.n > 1<<20 && s.w.stall.CompareAndSwap(true, false) {
		s.w.half <- struct{}{}
		<-s.r.Context().Done()
	}
	return n, err
}

// push makes an image of the application, with size random bytes beside it.
func (w *customWorld) push(name string, size int) string {
	ballast := make([]byte, size)
	_, _ = rand.Read(ballast)
	w.hub.Push(name+":1", ocitest.Image{
		Layers: []string{w.app, ocitest.Layer(w.t, ocitest.File("ballast", 0o644,
			string(ballast)))},
		Config: v1.Config{Entrypoint: []string{"/app"}, User: "1000:1000"},
	})
	return w.hub.Host() + "/" + name + ":1"
}

func customPool(image, start string) api.SessionPool {
	return api.SessionPool{Location: "local", Properties: &api.SessionPoolProperties{
		ContainerType: string(sandpool.CustomContainer),
		ScaleConfiguration: &api.ScaleConfiguration{MaxConcurrentSessions: new(4 * workers),
			ReadySessionInstances: new(workers)},
		CustomContainerTemplate: &api.CustomContainerTemplate{
			Containers: []api.Container{{Image: image}}, Ingress: &api.Ingress{
				TargetPort: new(8080)}},
		Sandpool: &api.SandpoolSettings{WarmStart: start},
	}}
}

func (w *customWorld) makePool(t *testing.T, name, image, start string) {
	t.Helper()
	if _, err := w.c.PutPool(t.Context(), name, customPool(image, start)); err != nil {
		t.Fatalf("put pool %s: %v", name, err)
	}
}

// killServer kills the server and starts it again: while it downloads an image, at any moment of
// making a pool, or with nothing but sessions under way. A pool that it was making is there
// afterwards, and can be used.
func (w *customWorld) killServer(t *testing.T, i int) {
	t.Helper()
	pool := fmt.Sprintf("pull-%d", i)
	how := []string{"download", "any moment", "no pull"}[i%3]
	if how != "no pull" {
		w.stall.Store(how == "download")
		ref := w.push(pool, 4<<20)
		if _, err := w.c.BeginPutPool(t.Context(), pool, customPool(ref, "snapshot")); err != nil {
			t.Errorf("put pool %s: %v", pool, err)
			return
		}
	}
	switch how {
	case "download":
		<-w.half
	default:
		wait(t.Context(), mathrand.N(600*time.Millisecond))
	}
	w.got.add("server kills: " + how)
	w.kills.Add(1)
	w.srv.kill(t)
	w.srv.start(t)
	if how == "no pull" {
		wait(t.Context(), time.Second)
		return
	}
	if _, err := w.c.WaitReady(t.Context(), pool, nil); err != nil {
		t.Errorf("a pool that was being made when the server was killed (%s): %v", how, err)
		return
	}
	w.firstSession(t, pool)
	if _, err := w.c.DeletePool(t.Context(), pool); err != nil {
		t.Errorf("delete pool %s: %v", pool, err)
	}
}

// firstSession begins a session of a new pool. Its sandbox may be killed, which is told.
func (w *customWorld) firstSession(t *testing.T, pool string) {
	t.Helper()
	const tries = 5
	for i := range tries {
		status, body, err := w.get(t.Context(), pool, "first", "/count")
		switch {
		case status == http.StatusOK && body == "1":
			return
		case err != nil || status <= http.StatusOK || i == tries-1:
			t.Errorf("the first session of %s: %d %q, %v", pool, status, body, err)
			return
		}
		wait(t.Context(), time.Second)
	}
}

// killSandboxes kills a sandbox every other second.
func (w *customWorld) killSandboxes(ctx context.Context, t *testing.T) {
	for wait(ctx, 2*time.Second) {
		found, err := leaks.Count(w.srv.data)
		if err != nil {
			t.Error(err)
			return
		}
		if pids := found.Sandboxes; len(pids) > 0 {
			w.got.add("sandbox kills")
			_ = syscall.Kill(pids[mathrand.IntN(len(pids))], syscall.SIGKILL)
		}
	}
}

// oneSession is one user of a container: requests that depend on each other, sometimes a container
// that exits, and the session deleted at the end.
func (w *customWorld) oneSession(t *testing.T, i int) {
	pool, ident := []string{"boot", "snapshot"}[i%2], fmt.Sprintf("soak-%d", i)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	outcome := w.use(ctx, t, pool, ident, i%5 == 0)
	w.got.add(outcome)
	if outcome != "right" {
		if err := w.c.WaitHealthy(ctx); err != nil {
			t.Errorf("%s: the server does not come back: %v", ident, err)
		}
	}
	for {
		err := w.c.DeleteSession(ctx, pool, ident)
		if err == nil || sandpool.ClassOf(err) == sandpool.NotFound {
			return
		}
		if !wait(ctx, 200*time.Millisecond) {
			t.Errorf("session %s cannot be deleted: %v", ident, err)
			return
		}
	}
}

// use sends a session's requests and says what became of them.
func (w *customWorld) use(ctx context.Context, t *testing.T, pool, ident string,
	exits bool) string {
	kills := w.kills.Load()
	for want := 1; want <= 4; want++ {
		if want == 3 && exits {
			// The session's end is told once: to the request under which it ends, or to the next.
			status, body, err := w.get(ctx, pool, ident, "/exit?code=3")
			if status != http.StatusGone {
				status, body, err = w.get(ctx, pool, ident, "/count")
			}
			if status != http.StatusGone {
				return w.unexpected(t, ident, status, body, err, kills)
			}
			want, exits = 1, false // what comes now is a fresh container
		}
		status, body, err := w.get(ctx, pool, ident, "/count")
		if status != http.StatusOK || body != fmt.Sprint(want) {
			return w.unexpected(t, ident, status, body, err, kills)
		}
	}
	return "right"
}

// unexpected judges an answer that a kill must explain: an error of the server's own, a fresh
// container where the server that knew of the old one's end was killed, too, or a request that was
// sent twice because the server was killed before it could hand the first answer on.
func (w *customWorld) unexpected(t *testing.T, ident string, status int, body string, err error,
	kills int64) string {
	switch {
	case err != nil:
		return serverDown
	case status == 0:
		t.Errorf("%s: %d is no error of the server's: %q", ident, status, body)
		return "wrong"
	case status != http.StatusOK:
		return fmt.Sprintf("error: %d", status)
	case len(body) == 1 && body >= "1" && body <= "9" && w.kills.Load() != kills:
		return "another count after a kill"
	}
	t.Errorf("%s: a wrong answer: %q", ident, body)
	return "wrong"
}

// get asks a container. A status without the header of the server's own errors, and not 200, is 0.
func (w *customWorld) get(ctx context.Context, pool, ident, path string) (status int, body string,
	err error) {
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.c.PoolEndpoint(pool)+path+sep+
		"identifier="+ident, nil)
	if err != nil {
		return 0, "", err
	}
	token, err := os.ReadFile(filepath.Join(w.srv.data, "admin-token"))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK && resp.Header.Get("X-Sandpool-Error") == "" {
		return 0, string(text), errors.Join(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(text)), err
}

// wholeImages fails the test for an image that nothing leads to: of a pull that was cut short.
func (w *customWorld) wholeImages(t *testing.T) {
	t.Helper()
	store, err := image.Open(filepath.Join(w.srv.data, "images"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := store.List()
	if err != nil || len(all) == 0 {
		t.Errorf("%d images, %v", len(all), err)
	}
	for _, i := range all {
		if i.Manifest == "" && i.Name == "" {
			t.Errorf("left behind: image %s", i.Path)
		}
	}
}
