package oci

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/erofs"
	"github.com/sandpool/sandpool/internal/erofs/erofstest"
	"github.com/sandpool/sandpool/internal/image"
)

// What is pushed is what a pull brings back, to the last bit of its modes, and has the same digest
// each time. Registries that want credentials get them, and wrong ones change nothing.
func TestPush(t *testing.T) {
	store, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	long := erofs.File("usr/bin/tool", 0o755, []byte(strings.Repeat("a program ", 5000)))
	long.Xattrs = map[string]string{"security.capability": "\x01\x00\x00\x02 with a zero\x00"}
	root := erofs.File("usr/bin/su", 0o755, []byte("root's"))
	root.Mode |= fs.ModeSetuid
	built, err := store.Put(t.Context(), "code", []erofs.Entry{long, root,
		{Path: "usr/bin/other", Link: "usr/bin/tool"},
		{Path: "bin", Mode: fs.ModeSymlink | 0o777, Target: "usr/bin"},
		{Path: "mnt/data", Mode: fs.ModeDir | 0o755, UID: 1000, GID: 1000},
		{Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		erofs.File("etc/empty", 0o600, nil), erofs.File("etc/ä b", 0o644, []byte("text"))})
	if err != nil {
		t.Fatal(err)
	}
	hub := newHub(t)
	hub.basicOnly("ann", "hunter22")
	client, err := New(store, Config{Limits: DefaultLimits()})
	if err != nil {
		t.Fatal(err)
	}
	cred := Credentials{Username: "ann", Password: "hunter22"}
	reference := hub.host() + "/app:1"
	if _, err := client.Push(t.Context(), built, reference, cred, nil); sandpool.ClassOf(
		err) != sandpool.Invalid {
		t.Errorf("an image that was not built here: %v", err)
	}
	built.Recipe = "sha256:recipe"
	wrong := Credentials{Username: "ann", Password: "hunter23"}
	if _, err := client.Push(t.Context(), built, reference, wrong, nil); err == nil ||
		!strings.Contains(err.Error(), "refuses the credentials") ||
		strings.Contains(err.Error(), "hunter2") {
		t.Errorf("wrong credentials: %v", err)
	}
	for _, bad := range []string{hub.host() + "/app@sha256:" + strings.Repeat("0", 64),
		"local:code"} {
		if _, err := client.Push(t.Context(), built, bad, cred, nil); sandpool.ClassOf(
			err) != sandpool.Invalid {
			t.Errorf("push to %q: %v", bad, err)
		}
	}
	steps, inside := map[Step]bool{}, false
	tmp := filepath.Join(store.Dir(), "tmp")
	first, err := client.Push(t.Context(), built, reference, cred,
		func(step Step, done, all int64) {
			found, err := filepath.Glob(filepath.Join(tmp, "*", "layer"))
			steps[step], inside = true, inside || err == nil && len(found) == 1
		})
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 || !inside {
		t.Errorf("the push leaves %v, %v; it packed in the store: %t", left, err, inside)
	}
	small := DefaultLimits()
	small.Download = 200
	bounded, err := New(store, Config{Limits: small})
	if err != nil {
		t.Fatal(err)
	}
	_, err = bounded.Push(t.Context(), built, reference, cred, nil)
	wantCode(t, err, CodeTooLarge, "does not need")
	clean(t, store, 1)
	again, err := client.Push(t.Context(), built, hub.host()+"/app:2", cred, nil)
	if err != nil || again != first {
		t.Errorf("the second push is %s, %v; the first was %s", again, err, first)
	}
	if got := slices.Sorted(maps.Keys(steps)); !slices.Equal(got, []Step{Packing, Upload}) {
		t.Errorf("it tells of the steps %q", got)
	}
	other, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if client, err = New(other, Config{Limits: DefaultLimits()}); err != nil {
		t.Fatal(err)
	}
	pulled, err := client.Pull(t.Context(), Request{Pinned: first, Reference: reference,
		Credentials: cred})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(erofstest.Read(t, built.Path), erofstest.Read(t, pulled.Path)); diff != "" {
		t.Errorf("what comes back is not what was pushed:\n%s", diff)
	}
	if pulled.Config == nil || pulled.Config.User != "1000:1000" {
		t.Errorf("the image says of itself %+v", pulled.Config)
	}
}
