package agent_test

import (
	"path"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

func TestCleanPath(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "/": "", ".": "", "/mnt/data": "", "/mnt/data/": "", "//": "",
		"a.txt": "a.txt", "/a.txt": "a.txt", "/mnt/data/a.txt": "a.txt", "dir//./a": "dir/a",
		"/mnt/database": "mnt/database",
		"mnt/data/a":    "mnt/data/a", "a b#%.txt": "a b#%.txt", "ä/ö": "ä/ö",
		"new\nline": "new\nline", "..a/b..": "..a/b..", "a/": "a",
	} {
		if got, err := agent.CleanPath(in); err != nil || got != want {
			t.Errorf("CleanPath(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"..", "a/../b", "/mnt/data/..", "a\x00b", strings.Repeat("x", 256),
		strings.Repeat("x/", 3000)} {
		if got, err := agent.CleanPath(in); sandpool.ClassOf(err) != sandpool.Invalid {
			t.Errorf("CleanPath(%.20q) = %q, %v; want an error of class invalid", in, got, err)
		}
	}
}

func FuzzCleanPath(f *testing.F) {
	for _, s := range []string{"", "/mnt/data/a", "a/../b", "a//b", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		p, err := agent.CleanPath(in)
		if err != nil {
			return
		}
		if p != "" && (path.Clean(p) != p || path.IsAbs(p) || strings.HasPrefix(p, "../") ||
			p == ".." || strings.Contains(p, "\x00")) {
			t.Errorf("CleanPath(%q) = %q", in, p)
		}
	})
}

func TestContentType(t *testing.T) {
	for name, want := range map[string]string{
		"a.txt": "text/plain; charset=utf-8", "A.PNG": "image/png", "x": "application/octet-stream",
		"d.e/f.csv": "text/csv; charset=utf-8",
	} {
		if got := agent.ContentType(name); got != want {
			t.Errorf("ContentType(%q) = %q, want %q", name, got, want)
		}
	}
}
