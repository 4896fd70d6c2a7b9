package image

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/erofs"
)

// manifest is the digest of some container image.
func manifest(digit string) string { return "sha256:" + strings.Repeat(digit, 64) }

// pull stands for the end of a pull of a container image with one file.
func pull(t *testing.T, s *Store, digest, content string, c Claim) Image {
	t.Helper()
	w, err := s.Workspace()
	if err != nil {
		t.Fatal(err)
	}
	i, err := w.Put(t.Context(), Image{Manifest: digest,
		Config: &Config{Cmd: []string{"/" + content}}},
		[]erofs.Entry{erofs.File("f", 0o644, []byte(content))}, c, nil)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return i
}

// A pulled image is found by its reference and by both digests, and a reference moves on.
func TestPulledReferences(t *testing.T) {
	s := openStore(t)
	one := pull(t, s, manifest("1"), "one", Claim{Reference: "host/app:1"})
	for _, ref := range []string{"host/app:1", manifest("1"), manifest("1")[:20], one.Digest} {
		got, err := s.Resolve(ref)
		if err != nil || got.Manifest != manifest("1") || got.Path != one.Path ||
			!cmp.Equal(got.Config, one.Config) {
			t.Errorf("resolve %q: %+v, %v", ref, got, err)
		}
	}
	two := pull(t, s, manifest("2"), "two", Claim{Reference: "host/app:1"})
	if got, err := s.Resolve("host/app:1"); err != nil || got.Digest != two.Digest {
		t.Errorf("the reference means %+v, %v; want the later image", got, err)
	}
	if got, err := s.Resolve(manifest("1")); err != nil || len(got.References) > 0 {
		t.Errorf("the earlier image is %+v, %v; want one without references", got, err)
	}
	again, err := s.Claim(manifest("1"), Claim{Reference: "host/app:1"})
	if err != nil || !cmp.Equal(again.References, []string{"host/app:1"}) ||
		again.Path != one.Path {
		t.Errorf("claimed again: %+v, %v", again, err)
	}
	if _, err := s.Claim(manifest("3"), Claim{}); sandpool.ClassOf(err) != sandpool.NotFound {
		t.Errorf("claim of what was never pulled: %v, want class not found", err)
	}
}

// What somebody uses is neither removed nor pruned, across processes; what nobody uses is.
func TestPulledUse(t *testing.T) {
	s := openStore(t)
	pull(t, s, manifest("1"), "one", Claim{User: "pool a"})
	pull(t, s, manifest("2"), "two", Claim{User: "pool a"})
	running := pull(t, s, manifest("3"), "three", Claim{})
	pull(t, s, manifest("4"), "four", Claim{Reference: "host/app:4"})
	sandbox, err := os.Open(running.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer sandbox.Close()
	if err := unix.Flock(int(sandbox.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(s.Dir()); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{manifest("1"), manifest("2"), manifest("3")} {
		if err := s.Remove(ref); sandpool.ClassOf(err) != sandpool.Conflict ||
			!strings.Contains(err.Error(), "used by") {
			t.Errorf("remove %s: %v, want class conflict", ref, err)
		}
	}
	pruned := func(want ...string) {
		t.Helper()
		gone, err := s.Prune(nil)
		var got []string
		for _, i := range gone {
			got = append(got, i.Manifest)
			if _, err := os.Stat(i.Path); err == nil {
				t.Errorf("the file of %s is still there", i.Manifest)
			}
		}
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("pruned %v, %v; want %v", got, err, want)
		}
	}
	if gone, err := s.Prune(func(i Image) bool {
		return time.Since(i.Used) < time.Hour
	}); err != nil || len(gone) > 0 {
		t.Errorf("pruned %+v, %v, though all were pulled just now", gone, err)
	}
	pruned(manifest("4"))
	if users, err := s.Users(); err != nil || !cmp.Equal(users, []string{"pool a"}) {
		t.Errorf("users %v, %v", users, err)
	}
	if err := s.Use("pool a", manifest("2")); err != nil {
		t.Fatal(err)
	}
	pruned(manifest("1"))
	sandbox.Close()
	pruned(manifest("3"))
	if err := s.Use("pool a"); err != nil {
		t.Fatal(err)
	}
	pruned(manifest("2"))
	if all := list(t, s); len(all) > 0 {
		t.Errorf("left: %+v", all)
	}
}

// Container images of equal content share one file, which goes with the last of them.
func TestPulledShared(t *testing.T) {
	s := openStore(t)
	one := pull(t, s, manifest("1"), "same", Claim{})
	two := pull(t, s, manifest("2"), "same", Claim{})
	if one.Path != two.Path {
		t.Fatalf("two files: %s and %s", one.Path, two.Path)
	}
	if err := s.Remove(manifest("1")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve(manifest("2")); err != nil {
		t.Errorf("resolve the other: %v", err)
	}
	if err := s.Remove(manifest("2")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(two.Path); err == nil {
		t.Error("the file is left")
	}
}

// The command line follows the table in Kubernetes' documentation.
func TestCommandLine(t *testing.T) {
	ep, cmd := []string{"/ep-1"}, []string{"foo", "bar"}
	for _, c := range []struct {
		config        Config
		command, args []string
		want          string
	}{
		{Config{Entrypoint: ep, Cmd: cmd}, nil, nil, "/ep-1 foo bar"},
		{Config{Entrypoint: ep, Cmd: cmd}, []string{"/ep-2"}, nil, "/ep-2"},
		{Config{Entrypoint: ep, Cmd: cmd}, nil, []string{"zoo", "boo"}, "/ep-1 zoo boo"},
		{Config{Entrypoint: ep, Cmd: cmd}, []string{"/ep-2"}, []string{"zoo", "boo"},
			"/ep-2 zoo boo"},
		{Config{Cmd: cmd}, nil, nil, "foo bar"},
		{Config{}, nil, []string{"zoo"}, "zoo"},
	} {
		got, err := c.config.CommandLine(c.command, c.args)
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%+v: %q, %v; want %q", c, got, err, c.want)
		}
	}
	for _, c := range []Config{{}, {Entrypoint: []string{""}}} {
		if _, err := c.CommandLine(nil, nil); sandpool.ClassOf(err) != sandpool.Invalid {
			t.Errorf("%+v: %v, want class invalid", c, err)
		}
	}
}
