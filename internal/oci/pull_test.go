package oci

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool/internal/erofs/erofstest"
	"github.com/sandpool/sandpool/internal/image"
)

// An image goes from a registry into the store, with its configuration, and is there to stay.
func TestPull(t *testing.T) {
	h := newHub(t)
	pushed := h.push("1.0", small(t))
	c, store := newClient(t, Config{})
	ref := h.host() + "/app:1.0"
	pinned, err := c.Resolve(t.Context(), ref, Credentials{})
	if want := h.host() + "/app@" + string(pushed.Digest); err != nil || pinned != want {
		t.Fatalf("resolved to %q, %v; want %q", pinned, err, want)
	}
	var last Progress
	i, err := c.Pull(t.Context(), Request{Pinned: pinned, Reference: ref,
		Progress: func(p Progress) { last = p }})
	if err != nil {
		t.Fatal(err)
	}
	facts := erofstest.Read(t, i.Path)
	if got := facts["bin/app"].Content; got != "program" {
		t.Errorf("bin/app is %q", got)
	}
	if _, ok := facts["etc/old"]; ok || facts["etc/new"].Content != "new" {
		t.Errorf("the layers are not merged: %v", facts)
	}
	want := &image.Config{Entrypoint: []string{"/bin/app"}, Cmd: []string{"--serve"},
		Env: []string{"A=b"}, User: "1000:1000",
		WorkingDir: "/srv", Ports: []string{"53/udp", "8080/tcp"}, StopSignal: "SIGINT"}
	if diff := cmp.Diff(want, i.Config); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	if last.Step != Packing || last.Layers != 2 || last.Done != 2 {
		t.Errorf("the last report is %+v", last)
	}
	clean(t, store, 1)

	// A pull of what is there asks nobody.
	h.Close()
	again, err := c.Pull(t.Context(), Request{Pinned: pinned, User: "pool"})
	if err != nil || again.Path != i.Path || !cmp.Equal(again.Config, want) {
		t.Errorf("pulled again: %+v, %v", again, err)
	}
	if users, err := store.UsersOf(again); err != nil || !cmp.Equal(users, []string{"pool"}) {
		t.Errorf("used by %v, %v", users, err)
	}
}
