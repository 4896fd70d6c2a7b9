package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/sandpool/sandpool/internal/erofs"
)

// Progress is where a build is, for people.
type Progress struct {
	Step    int    // from 1
	Steps   int    // of how many
	Name    string // of the step: "debian", "wheels", "pack"
	Bytes   int64  // on disk so far: of the root filesystem, then of the image
	Elapsed time.Duration
	// Note is the last line that a tool wrote, if this report is about one.
	Note string
}

// The prefixes of Image.Packages.
const (
	debianPrefix = "deb:"
	pythonPrefix = "py:"
	npmPrefix    = "npm:"
)

// packagesList is where a recipe's setup leaves the list of what is inside.
const packagesList = "usr/share/sandpool-packages.json"

// hollow are the folders that a sandbox mounts over; a build leaves device
// files and the like in them.
func hollow() []string { return []string{"dev", "proc", "sys", "run", "tmp"} }

// Build makes the image that r describes and calls it r.Name. It needs root, a
// Debian mirror, a Python index and the programs that missing names; which mirror
// and index, and by which proxy, apt's and pip's configuration on this machine
// say. progress may be nil; it is called from one goroutine at a time, at least
// every few seconds.
//
// A build that is cut short leaves nothing that List shows, and its files are
// removed by the next Open. If ctx has a deadline and it passes, the error is ctx's cause with the
// step and its last lines. A second build at the same time is an error of class Conflict.
func (s *Store) Build(ctx context.Context, r Recipe, progress func(Progress)) (Image, error) {
	if err := checkName(r.Name); err != nil {
		return Image{}, err
	}
	if err := missing(); err != nil {
		return Image{}, err
	}
	lock, err := s.lockBuild()
	if err != nil {
		return Image{}, err
	}
	defer lock.Close()
	w, err := s.newWork()
	if err != nil {
		return Image{}, err
	}
	i, err := s.build(ctx, r, w, progress)
	if err != nil {
		err = fmt.Errorf("build image %q: %w", r.Name, err)
	}
	return i, errors.Join(err, w.remove())
}

func (s *Store) build(ctx context.Context, r Recipe, w *work, progress func(Progress)) (Image,
	error) {
	setup, err := r.setupSteps()
	if err != nil {
		return Image{}, err
	}
	root := filepath.Join(w.dir, "root")
	p := newReporter(ctx, progress, setup+2, func() int64 { return folderSize(root) })
	defer p.stop()
	if err := makeRoot(ctx, r, w.dir, root, p); err != nil {
		return Image{}, err
	}
	packages, err := readPackages(root)
	if err != nil {
		return Image{}, err
	}
	pinned, err := r.pinned()
	if err != nil {
		return Image{}, err
	}
	packages = append(packages, pinned...)
	entries, err := erofs.Scan(ctx, root, hollow())
	if err != nil {
		return Image{}, err
	}
	var packed atomic.Int64
	p.measure(packed.Load)
	p.step("pack")
	i, err := s.pack(ctx, w, entries, packed.Store)
	if err != nil {
		return Image{}, err
	}
	i.Name, i.Variant, i.Packages = r.Name, r.Variant, packages
	if i.Recipe, err = r.digest(); err != nil {
		return Image{}, err
	}
	if i.Drift, err = r.drift(packages); err != nil {
		return Image{}, err
	}
	return i, s.publish(i, w)
}

// readPackages reads the list of what is in the root filesystem.
func readPackages(root string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(root, packagesList))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list struct{ Debian, Python []string }
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("read %q: %w", packagesList, err)
	}
	var out []string
	for _, p := range list.Debian {
		out = append(out, debianPrefix+p)
	}
	for _, p := range list.Python {
		out = append(out, pythonPrefix+p)
	}
	return out, nil
}

// folderSize is how many bytes the regular files in dir have. It is for
// progress: what vanishes under it does not matter.
func folderSize(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
		return nil
	})
	return sum
}
