package custom_test

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/image"
)

// saying is the application's image with a variable in its environment.
func saying(t *testing.T, from string) v1.Image {
	t.Helper()
	i := app(t)
	cfg, err := i.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.Config.Env = []string{"FROM=" + from}
	if i, err = mutate.ConfigFile(i, cfg); err != nil {
		t.Fatal(err)
	}
	return i
}

// wantEvents waits until all of the events have happened to the pool.
func (k *kit) wantEvents(t *testing.T, pool string, names ...string) (all []api.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	missing := map[string]bool{}
	for _, n := range names {
		missing[n] = true
	}
	for after := uint64(0); len(missing) > 0; {
		page, err := k.Events(ctx, client.Events{Pool: pool, After: after, Wait: 10 * time.Second})
		if err != nil {
			t.Fatalf("the events %v did not happen: %v", missing, err)
		}
		for _, e := range page.Value {
			delete(missing, e.Name)
		}
		all, after = append(all, page.Value...), page.Next
	}
	return all
}

// TestUpdateOfTag: an update looks a tag up again. What is ready is replaced if it means another
// image now, sessions keep what they have, and a registry that does not answer changes nothing.
func TestUpdateOfTag(t *testing.T) {
	k := newKit(t)
	body := container(k.push(t, "app:latest", saying(t, "first")))
	k.makePool(t, "pool", body)
	env := func(identifier string) string { return k.get(t, "pool", identifier, "/env") }
	if !strings.Contains(env("alice"), "FROM=first") {
		t.Fatal("the pool does not serve its image")
	}
	k.push(t, "app:latest", saying(t, "second"))
	if !strings.Contains(env("bobby"), "FROM=first") {
		t.Error("a tag that moves changes a pool that nobody updates")
	}
	k.makePool(t, "pool", body)
	if !strings.Contains(env("carol"), "FROM=second") {
		t.Error("an update does not look the tag up again")
	}
	if !strings.Contains(env("alice"), "FROM=first") {
		t.Error("an update takes a session's container away")
	}
	k.wantEvents(t, "pool", "ImagePulled", "PoolRenewed", "PoolRolled", "SessionAllocated")
	got, err := k.Pool(t.Context(), "pool")
	if err != nil {
		t.Fatal(err)
	}
	status := got.Properties.TemplateUpdateStatus
	if status == nil || status.ActiveTemplate.Status.AllocatedCount != 2 ||
		status.DesiredTemplate.Status.AllocatedCount != 1 ||
		status.DesiredTemplate.Status.ExpectedCount != 2 ||
		len(status.DesiredTemplate.Containers) != 1 {
		t.Errorf("the status of the update is %+v", status)
	}

	ref, err := name.ParseReference(body.Properties.CustomContainerTemplate.Containers[0].Image)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Delete(ref); err != nil {
		t.Fatal(err)
	}
	k.makePool(t, "pool", body)
	k.wantEvents(t, "pool", "PoolNotRenewed")
	if got, err = k.Pool(t.Context(), "pool"); err != nil {
		t.Fatal(err)
	}
	if p := got.Properties; p.ProvisioningState != "Succeeded" ||
		!strings.Contains(p.Sandpool.Problem, "stays what it was") ||
		p.TemplateUpdateStatus.DesiredTemplate.Status.ImagePullFailCount != 1 {
		t.Errorf("after an update without a registry: %s, %q, %+v", p.ProvisioningState,
			p.Sandpool.Problem, p.TemplateUpdateStatus.DesiredTemplate.Status)
	}
	if !strings.Contains(env("david"), "FROM=second") {
		t.Error("the pool does not go on with the image that it has")
	}
}

// TestRoll: new identifiers find a container ready at every moment of an update, of the template
// before until the new one's are ready.
func TestRoll(t *testing.T) {
	k := newKit(t)
	body := container(k.push(t, "app:1", app(t)))
	most := 40
	body.Properties.ScaleConfiguration.MaxConcurrentSessions = &most
	c := &body.Properties.CustomContainerTemplate.Containers[0]
	first, second := "first", "second"
	c.Env = []api.EnvironmentVar{{Name: "TURN", Value: &first}}
	k.makePool(t, "pool", body)
	c.Args, c.Env = []string{"slow"}, []api.EnvironmentVar{{Name: "TURN", Value: &second}}
	if _, err := k.BeginPutPool(t.Context(), "pool", body); err != nil {
		t.Fatal(err)
	}
	if got := k.get(t, "pool", "alice", "/env"); !strings.Contains(got, "TURN=first") {
		t.Errorf("right after the update a new session has %q", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for before, after := 1, 0; before > 0 || after < 2; {
		got, err := k.Pool(ctx, "pool")
		if err != nil {
			t.Fatalf("with %d ready of the old template and %d of the new one: %v", before,
				after, err)
		}
		status := got.Properties.TemplateUpdateStatus
		before, after = 0, status.DesiredTemplate.Status.ReadyCount
		if status.ActiveTemplate != nil {
			before = status.ActiveTemplate.Status.ReadyCount
		}
		if before+after == 0 {
			t.Fatalf("no container is ready: %+v", status)
		}
	}
	if got := k.get(t, "pool", "bobby", "/env"); !strings.Contains(got, "TURN=second") {
		t.Errorf("after the update a new session has %q", got)
	}
	got, err := k.PoolStatus(t.Context(), "pool")
	if err != nil || got.Claims["new"] != 0 {
		t.Errorf("sessions that found nothing ready: %v, %v", got.Claims, err)
	}
}

// TestPullProgress: while an image is pulled, the pool says how far it is.
func TestPullProgress(t *testing.T) {
	k := newKit(t)
	image := k.push(t, "app:1", app(t))
	goOn := make(chan struct{})
	k.slow.Store(&goOn)
	if _, err := k.BeginPutPool(t.Context(), "pool", container(image)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var seen api.Pull
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for seen.Bytes == 0 || seen.Bytes >= seen.TotalBytes {
		select {
		case <-ctx.Done():
			t.Fatalf("the pull shows as %+v", seen)
		case <-tick.C:
		}
		got, err := k.Pool(ctx, "pool")
		if err != nil {
			t.Fatal(err)
		}
		status, err := k.PoolStatus(ctx, "pool")
		if err != nil {
			t.Fatal(err)
		}
		if p := got.Properties.Sandpool.Pull; p != nil && status.Pull != nil {
			seen = *p
		}
	}
	if seen.Step != "download" || seen.Layers != 1 {
		t.Errorf("the pull shows as %+v", seen)
	}
	k.slow.Store(nil)
	close(goOn)
	got, err := k.WaitPool(t.Context(), "pool", nil)
	if err != nil || got.Properties.Sandpool.Pull != nil {
		t.Errorf("after the pull: %+v, %v", got.Properties, err)
	}
}

// slowly serves blobs at a walk until the channel is closed.
func (k *kit) slowly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if wait := k.slow.Load(); wait != nil && strings.Contains(r.URL.Path, "/blobs/") &&
			r.Method == http.MethodGet {
			w = &walk{ResponseWriter: w, wait: *wait, done: r.Context().Done()}
		}
		next.ServeHTTP(w, r)
	})
}

// walk is a response whose body takes its time.
type walk struct {
	http.ResponseWriter
	wait <-chan struct{}
	done <-chan struct{}
}

// Write implements io.Writer.
func (w *walk) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		select {
		case <-w.wait:
		case <-w.done:
		case <-time.After(20 * time.Millisecond):
			_ = http.NewResponseController(w.ResponseWriter).Flush()
		}
		var wrote int
		wrote, err = w.ResponseWriter.Write(p[:min(len(p), 16<<10)])
		n, p = n+wrote, p[wrote:]
	}
	return n, err
}

// TestDeletedPoolUsesNoImage: the image of a pool that is gone can be removed.
func TestDeletedPoolUsesNoImage(t *testing.T) {
	k := newKit(t)
	k.makePool(t, "pool", container(k.push(t, "app:1", app(t))))
	store, err := image.Open(filepath.Join(k.dir, "images"))
	if err != nil {
		t.Fatal(err)
	}
	used := func() []string {
		t.Helper()
		users, err := store.Users()
		if err != nil {
			t.Fatal(err)
		}
		return users
	}
	if users := used(); len(users) != 1 {
		t.Fatalf("the image of a pool is used by %q", users)
	}
	if _, err := k.DeletePool(t.Context(), "pool"); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(time.Minute); len(used()) > 0; {
		select {
		case <-end:
			t.Fatalf("the image of a deleted pool is used by %q", used())
		case <-tick.C:
		}
	}
	if gone, err := store.Prune(nil); err != nil || len(gone) != 1 {
		t.Errorf("%d images are removed, %v", len(gone), err)
	}
}
