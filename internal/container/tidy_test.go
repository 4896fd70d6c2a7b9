package container_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/container"
	"github.com/sandpool/sandpool/internal/erofs"
	"github.com/sandpool/sandpool/internal/image"
)

// Images go when no pool has used them for a while, and not before; those that cannot be had
// again stay.
func TestTidy(t *testing.T) {
	store, err := image.Open(filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	digest := func(digit string) string { return "sha256:" + strings.Repeat(digit, 64) }
	old := time.Now().Add(-48 * time.Hour)
	put := func(digit string, c image.Claim, recent bool) {
		t.Helper()
		w, err := store.Workspace()
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Put(t.Context(), image.Image{Manifest: digest(digit)},
			[]erofs.Entry{erofs.File("f", 0o644, []byte(digit))}, c, nil)
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		if !recent {
			if err := os.Chtimes(filepath.Join(store.Dir(), "pulled", strings.Repeat(digit,
				64)+".json"), old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	pool := func(name, digit string) sandpool.Pool {
		p := sandpool.Pool{ID: sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: name}}
		p.Spec.Kind = sandpool.CustomContainer
		if digit != "" {
			p.ImageDigest = digest(digit)
		}
		return p
	}
	kept, changed, making, gone := pool("kept", "1"), pool("changed", "3"), pool("making",
		""), pool("gone", "")
	put("1", image.Claim{User: container.User("here", kept.ID)}, false)
	put("2", image.Claim{User: container.User("here", changed.ID)}, false) // what it used before
	put("3", image.Claim{User: container.User("here", changed.ID)}, false)
	put("4", image.Claim{User: container.User("here", making.ID)}, false)
	put("5", image.Claim{User: container.User("here", gone.ID)}, false)
	put("6", image.Claim{User: container.User("here", gone.ID)}, true)
	put("7", image.Claim{Reference: "docker.io/library/ahead:1"}, true) // pulled ahead
	put("8", image.Claim{Reference: "local:web"}, false)
	put("9", image.Claim{User: "somebody else"}, false)
	built, err := store.Put(t.Context(), "built",
		[]erofs.Entry{erofs.File("f", 0o644, []byte("one"))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), "built", []erofs.Entry{erofs.File("f", 0o644,
		[]byte("two"))}); err != nil {
		t.Fatal(err)
	}

	there := container.User("there", gone.ID)
	put("5", image.Claim{User: there}, false) // another server's pool of the same name
	removed, err := container.Tidy(store, "here", true, []sandpool.Pool{kept, changed, making}, 24*time.Hour)
	if err != nil || len(removed) > 0 {
		t.Errorf("%d images of a shared store are removed, %v", len(removed), err)
	}
	users, err := store.Users()
	if err != nil || slices.Contains(users, container.User("here", gone.ID)) || !slices.Contains(users, there) ||
		!slices.Contains(users, container.User("here", kept.ID)) {
		t.Errorf("users of a shared store: %v, %v", users, err)
	}

	removed, err = container.Tidy(store, "here", false, []sandpool.Pool{kept, changed, making}, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range removed {
		got = append(got, i.Manifest[len("sha256:"):][:1])
	}
	slices.Sort(got)
	if want := []string{"2", "5"}; !slices.Equal(got, want) {
		t.Errorf("removed %v, want %v", got, want)
	}
	if _, err := os.Stat(built.Path); err != nil {
		t.Errorf("what a build has replaced is gone: %v", err)
	}
	if users, err := store.Users(); err != nil || slices.Contains(users, container.User("here", gone.ID)) ||
		len(users) != 4 {
		t.Errorf("users %v, %v", users, err)
	}
}

// What a server that is gone has used in a shared store is given up after a while, and not what one
// that lives uses, however long ago it began.
func TestTidyGoneServers(t *testing.T) {
	store, err := image.Open(filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	pool := sandpool.Pool{ID: sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "p"},
		ImageDigest: "sha256:" + strings.Repeat("1", 64)}
	pool.Spec.Kind = sandpool.CustomContainer
	servers := []string{"here", "away", "gone"}
	for _, server := range servers {
		if err := store.Use(container.User(server, pool.ID), pool.ImageDigest); err != nil {
			t.Fatal(err)
		}
	}
	age := func(days time.Duration, but ...string) {
		t.Helper()
		all, err := filepath.Glob(filepath.Join(store.Dir(), "uses", "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range all {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(but, func(server string) bool {
				return strings.Contains(string(text), " "+server+" ")
			}) {
				continue
			}
			then := time.Now().Add(-days * 24 * time.Hour)
			if err := os.Chtimes(file, then, then); err != nil {
				t.Fatal(err)
			}
		}
	}
	tidy := func(want ...string) {
		t.Helper()
		if _, err := container.Tidy(store, "here", true, []sandpool.Pool{pool},
			time.Hour); err != nil {
			t.Fatal(err)
		}
		users, err := store.Users()
		var all []string
		for _, server := range want {
			all = append(all, container.User(server, pool.ID))
		}
		slices.Sort(all)
		if err != nil || !slices.Equal(users, all) {
			t.Errorf("users %q, %v; want %q", users, err, all)
		}
	}
	age(29)
	tidy(servers...)
	age(31, "away")
	tidy("here", "away")
	age(31, "here")
	tidy("here")
}
