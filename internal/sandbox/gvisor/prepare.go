package gvisor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sandpool/sandpool/internal/sandbox"
)

// halfPrefix marks snapshots that are being written. A rename makes one whole.
const halfPrefix = "half-"

func (e *Engine) snapshotDir(key string) string {
	return filepath.Join(e.cfg.Root, snapshotsName, key)
}

// Prepare implements sandbox.Runtime.
func (e *Engine) Prepare(ctx context.Context, t sandbox.Template, progress func(sandbox.Progress)) (sandbox.Prepared, error) {
	if err := checkTemplate(t); err != nil {
		return sandbox.Prepared{}, err
	}
	if ctx.Err() != nil {
		return sandbox.Prepared{}, context.Cause(ctx)
	}
	key, err := snapshotKey(t)
	if err != nil {
		return sandbox.Prepared{}, err
	}
	p := sandbox.Prepared{Key: key, Template: t, Engine: &prepared{}}
	if t.Start == sandbox.Boot {
		return p, nil
	}
	release, err := e.keys.acquire(ctx, key)
	if err != nil {
		return sandbox.Prepared{}, err
	}
	defer release()
	dir := e.snapshotDir(key)
	p.Engine = &prepared{snapshot: dir}
	if _, err := os.Stat(dir); err == nil {
		return p, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return sandbox.Prepared{}, fmt.Errorf("look for the snapshot: %w", err)
	}
	begin := time.Now()
	tell := func(step string) {
		e.log.Info("preparing", "key", key[:12], "step", step, "elapsed", time.Since(begin))
		if progress != nil {
			progress(sandbox.Progress{Step: step, Elapsed: time.Since(begin)})
		}
	}
	if err := e.snapshot(ctx, t, dir, tell); err != nil {
		return sandbox.Prepared{}, fmt.Errorf("prepare the template: %w", err)
	}
	return p, nil
}

// snapshot boots a sandbox of t, waits until it is ready, and publishes its checkpoint as dir.
func (e *Engine) snapshot(ctx context.Context, t sandbox.Template, dir string, tell func(step string)) (err error) {
	id := sandbox.ID("prepare-" + strings.ToLower(rand.Text()))
	e.setPreparing(id, true)
	defer e.setPreparing(id, false)
	half := filepath.Join(filepath.Dir(dir), halfPrefix+string(id))
	if err := os.Mkdir(half, 0o700); err != nil {
		return fmt.Errorf("make the snapshot's directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(half)) }()

	timeout := e.bootTimeout(t)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the sandbox is not ready after %v", timeout))
	defer cancel()
	tell("boot")
	if err := e.launch(ctx, id, t, ""); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Stop(context.WithoutCancel(ctx), sandbox.Handle{ID: id})) }()
	tell("snapshot")
	if err := e.checkpoint(ctx, id, half); err != nil {
		return err
	}
	if err := os.Rename(half, dir); err != nil {
		return fmt.Errorf("publish the snapshot: %w", err)
	}
	tell("done")
	e.log.Info("snapshot taken", "key", filepath.Base(dir)[:12], "bytes", sizeOf(dir))
	return syncDir(filepath.Dir(dir))
}

func (e *Engine) setPreparing(id sandbox.ID, on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if on {
		e.preparing[id] = true
		return
	}
	delete(e.preparing, id)
}

func (e *Engine) isPreparing(id sandbox.ID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.preparing[id]
}

// sizeOf returns the size of the files in dir.
func sizeOf(dir string) (bytes int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil {
			bytes += info.Size()
		}
	}
	return bytes
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Prune removes every snapshot whose key (sandbox.Prepared.Key) is not in
// keep. A Start that is under way keeps what it has opened; a later one of a pruned template needs
// a new Prepare.
func (e *Engine) Prune(ctx context.Context, keep []string) error {
	kept := map[string]bool{}
	for _, key := range keep {
		kept[key] = true
	}
	entries, err := os.ReadDir(filepath.Join(e.cfg.Root, snapshotsName))
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		key := entry.Name()
		if kept[key] || strings.HasPrefix(key, halfPrefix) {
			continue
		}
		errs = append(errs, e.pruneOne(ctx, key))
	}
	return errors.Join(errs...)
}

// pruneOne renames before it removes, so that no half of a snapshot is ever
// found under its key.
func (e *Engine) pruneOne(ctx context.Context, key string) error {
	release, err := e.keys.acquire(ctx, key)
	if err != nil {
		return err
	}
	defer release()
	gone := e.snapshotDir(halfPrefix + key)
	if err := os.Rename(e.snapshotDir(key), gone); err != nil {
		return fmt.Errorf("prune snapshot %q: %w", key, err)
	}
	return os.RemoveAll(gone)
}

// sweepSnapshots removes what a dead process was writing or removing.
func (e *Engine) sweepSnapshots() error {
	halves, err := filepath.Glob(e.snapshotDir(halfPrefix + "*"))
	if err != nil {
		return err
	}
	for _, half := range halves {
		if err := os.RemoveAll(half); err != nil {
			return fmt.Errorf("sweep a half snapshot: %w", err)
		}
	}
	return nil
}
