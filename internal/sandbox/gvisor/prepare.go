package gvisor

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/sentry/state/checkpointfiles"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// halfPrefix marks snapshots that are being written. A rename makes one whole.
const halfPrefix = "half-"

func (e *Engine) snapshotDir(key string) string {
	return filepath.Join(e.cfg.Root, snapshotsName, key)
}

// Prepare implements sandbox.Runtime.
func (e *Engine) Prepare(ctx context.Context, t sandbox.Template,
	progress func(sandbox.Progress)) (sandbox.Prepared, error) {
	if err := e.checkTemplate(t); err != nil {
		return sandbox.Prepared{}, err
	}
	if ctx.Err() != nil {
		return sandbox.Prepared{}, context.Cause(ctx)
	}
	key, err := snapshotKey(t)
	if err != nil {
		return sandbox.Prepared{}, err
	}
	begin := time.Now()
	tell := func(step string) {
		e.log.Info("preparing", "key", key[:12], "step", step, "elapsed", time.Since(begin))
		if progress != nil {
			progress(sandbox.Progress{Step: step, Elapsed: time.Since(begin)})
		}
	}
	own, err := e.plan(ctx, t)
	if err != nil {
		return sandbox.Prepared{}, err
	}
	p := sandbox.Prepared{Key: key, Template: t, Engine: own}
	if t.Start == sandbox.Boot {
		return p, nil
	}
	release, err := e.keys.Take(ctx, key)
	if err != nil {
		return sandbox.Prepared{}, err
	}
	defer release()
	dir := e.snapshotDir(key)
	if _, err := os.Stat(dir); err == nil {
		own.snapshot = dir
		return p, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return sandbox.Prepared{}, fmt.Errorf("look for the snapshot: %w", err)
	}
	if err := e.snapshot(ctx, own, dir, tell); err != nil {
		return sandbox.Prepared{}, fmt.Errorf("prepare the template: %w", err)
	}
	own.snapshot = dir
	return p, nil
}

// snapshot boots a sandbox of t, waits until it is ready, and publishes its checkpoint as dir.
func (e *Engine) snapshot(ctx context.Context, p *prepared, dir string,
	tell func(step string)) (err error) {
	id := sandbox.ID("prepare-" + strings.ToLower(rand.Text()))
	e.setPreparing(id, true)
	defer e.setPreparing(id, false)
	defer e.logs.Remove(id)
	half := filepath.Join(filepath.Dir(dir), halfPrefix+string(id))
	if err := os.Mkdir(half, 0o700); err != nil {
		return fmt.Errorf("make the snapshot's directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(half)) }()

	tell("boot")
	if err := e.launch(ctx, id, p, sandpool.Network{}, sandbox.NewStopwatch()); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, e.Stop(context.WithoutCancel(ctx), sandbox.Handle{ID: id}))
	}()
	timeout, _ := e.times(p)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout,
		fmt.Errorf("its snapshot is not taken after %v", timeout))
	defer cancel()
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

// Key implements sandbox.Pruner.
func (e *Engine) Key(t sandbox.Template) (string, error) {
	if err := e.checkTemplate(t); err != nil {
		return "", err
	}
	return snapshotKey(t)
}

// Kept implements sandbox.Pruner.
func (e *Engine) Kept(ctx context.Context) (map[string]sandbox.Kept, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return kept(e.cfg.Root)
}

// kept returns the size and the age of each snapshot of an engine.
func kept(root string) (map[string]sandbox.Kept, error) {
	dir := filepath.Join(root, snapshotsName)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	all := map[string]sandbox.Kept{}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), halfPrefix) {
			one := sandbox.Kept{Bytes: sizeOf(filepath.Join(dir, entry.Name()))}
			if info, err := entry.Info(); err == nil { // otherwise it was just removed
				one.Made = info.ModTime()
			}
			all[entry.Name()] = one
		}
	}
	return all, nil
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
	release, err := e.keys.Take(ctx, key)
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

// workingSetName is the metadata of a snapshot's pages with its working set
// behind them: workingSetMagic, and of each range the offsets of its first byte and of the one
// behind its last. gVisor as third_party/gvisor changes it loads these at once; without the change
// it stops reading before.
const (
	workingSetName  = "pages_meta_working_set.img"
	workingSetMagic = "workset1"
)

// metadataName returns which file of the snapshot in dir tells of its pages.
func metadataName(dir string) string {
	if hasWorkingSet(dir) {
		return workingSetName
	}
	return checkpointfiles.PagesMetadataFileName
}

func hasWorkingSet(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, workingSetName))
	return err == nil
}

// RecordWorkingSet implements sandbox.WorkingSetRecorder. What a sandbox has
// used of its snapshot is what its memory file holds.
func (e *Engine) RecordWorkingSet(ctx context.Context, p sandbox.Prepared, h sandbox.Handle) error {
	own, ok := p.Engine.(*prepared)
	if !ok || own.snapshot == "" || hasWorkingSet(own.snapshot) {
		return nil
	}
	release, err := e.keys.Take(ctx, p.Key)
	if err != nil {
		return err
	}
	defer release()
	if hasWorkingSet(own.snapshot) {
		return nil // another sandbox was first
	}
	if err := e.saveWorkingSet(h.ID, own.snapshot); err != nil {
		return fmt.Errorf("record the working set of %q: %w", h.ID, err)
	}
	return nil
}

// saveWorkingSet makes what id has used the working set of the snapshot in dir.
func (e *Engine) saveWorkingSet(id sandbox.ID, dir string) error {
	b := e.process(id)
	if b == nil {
		return errors.New("the sandbox is unknown")
	}
	memory, err := openMemory(b.pid)
	if err != nil {
		return err
	}
	defer memory.Close()
	set, err := dataRanges(memory)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, checkpointfiles.PagesMetadataFileName))
	if err != nil {
		return err
	}
	text = append(text, workingSetMagic...)
	for _, r := range set {
		text = binary.LittleEndian.AppendUint64(text, uint64(r.start))
		text = binary.LittleEndian.AppendUint64(text, uint64(r.end))
	}
	half := filepath.Join(dir, halfPrefix+workingSetName)
	if err := os.WriteFile(half, text, 0o600); err != nil {
		return err
	}
	return os.Rename(half, filepath.Join(dir, workingSetName))
}

// memoryLink is what gVisor's memory file is called in /proc/PID/fd.
const memoryLink = "/memfd:runsc-memory (deleted)"

// openMemory opens the file that holds the guest's memory, of the sentry pid.
func openMemory(pid int) (*os.File, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		name := filepath.Join(dir, entry.Name())
		if target, err := os.Readlink(name); err == nil && target == memoryLink {
			return os.Open(name)
		}
	}
	return nil, errors.New("the sandbox process has no memory file")
}

// span is a range of bytes of a file.
type span struct{ start, end int64 }

// smallGap is how far two pieces of a working set may be apart to be loaded as
// one. What is contiguous is mapped into a guest at once, what is not costs it a fault for
// each piece; beyond this the memory is dearer.
const smallGap = 128 << 10

// maxRanges is far beyond what a working set has.
const maxRanges = 4096

// dataRanges returns where f has data, with small gaps.
func dataRanges(f *os.File) (found []span, err error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	for end := int64(0); end < size; {
		start, err := f.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // no data from here on
		}
		if err == nil {
			end, err = f.Seek(start, unix.SEEK_HOLE)
		}
		if err != nil {
			return nil, err
		}
		if n := len(found); n > 0 && start-found[n-1].end <= smallGap {
			found[n-1].end = end
			continue
		}
		if found = append(found, span{start, end}); len(found) > maxRanges {
			return nil, fmt.Errorf("more than %d ranges have data", maxRanges)
		}
	}
	return found, nil
}
