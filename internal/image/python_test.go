package image

import (
	"os"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/need"
)

// The Python image can be built from its recipe. It takes minutes and the
// network, so it is asked for by SANDPOOL_TEST_IMAGE_BUILD, the folder to build in.
func TestBuildPython(t *testing.T) {
	dir := os.Getenv("SANDPOOL_TEST_IMAGE_BUILD")
	if dir == "" {
		need.Except(t, need.OnRequest, "SANDPOOL_TEST_IMAGE_BUILD names no folder to build in")
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := BuiltIn("python", "")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	i, err := s.Build(t.Context(), r, func(p Progress) {
		t.Logf("[%d/%d] %s %d MB %s %s", p.Step, p.Steps, p.Name, p.Bytes>>20,
			p.Elapsed.Round(time.Second), p.Note)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d bytes, %d packages, drift %q, in %s", i.Digest, i.Size, len(i.Packages), i.Drift,
		time.Since(start))
}
