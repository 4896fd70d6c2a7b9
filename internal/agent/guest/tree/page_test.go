package tree

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Pieces of any size are together what one piece is, each path once and in order.
func TestPages(t *testing.T) {
	data := t.TempDir()
	for _, name := range []string{"a", "a-b", "a/x", "a/x/y", "a.c/z", "b", "ü/1", ".hidden/2", "a/.up-1"} {
		if err := os.MkdirAll(filepath.Join(data, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for range 50 {
		name := fmt.Sprintf("%s/%c-%d", []string{"a", "a-b", "a/x", "b", "."}[rand.IntN(5)], 'a'+rand.IntN(26), rand.IntN(100))
		if err := os.WriteFile(filepath.Join(data, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(data, "out")); err != nil {
		t.Fatal(err)
	}
	tree, err := Open(data)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	list := func(limit int) (all []string) {
		t.Helper()
		for after := ""; ; after = all[len(all)-1] {
			dir, err := tree.Directory(".")
			if err != nil {
				t.Fatal(err)
			}
			l := &Pages{Tree: tree, After: after, Limit: limit, Depth: 100,
				Want: func(n string) bool { return !strings.HasPrefix(n, ".up-") }}
			piece, err := l.List(dir, ".")
			if err := dir.Close(); err != nil {
				t.Fatal(err)
			}
			if err != nil || len(piece) > limit {
				t.Fatalf("%d entries, %v", len(piece), err)
			}
			for _, e := range piece {
				all = append(all, e.Path)
			}
			if len(piece) < limit {
				return all
			}
		}
	}
	whole := list(1000)
	if len(whole) < 50 || !slices.IsSortedFunc(whole, compare) || slices.Contains(whole, "out/passwd") ||
		slices.Contains(whole, "a/.up-1") || slices.Index(whole, "a-b") < slices.Index(whole, "a/x/y") {
		t.Errorf("the whole: %q", whole)
	}
	for _, limit := range []int{1, 2, 7} {
		if got := list(limit); !slices.Equal(got, whole) {
			t.Errorf("in pieces of %d: %q, want %q", limit, got, whole)
		}
	}
}
