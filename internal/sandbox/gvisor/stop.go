package gvisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/sandbox"
)

// Stop implements sandbox.Runtime.
func (e *Engine) Stop(ctx context.Context, h sandbox.Handle) error {
	if err := checkID(h.ID); err != nil {
		return err
	}
	e.mu.Lock()
	if cut := e.starting[h.ID]; cut != nil {
		cut()
	}
	e.mu.Unlock()
	release, err := e.ids.Take(ctx, h.ID)
	if err != nil {
		return err
	}
	defer release()
	exists, err := e.exists(h.ID)
	if err != nil || !exists {
		return err
	}
	if b := e.process(h.ID); b != nil {
		e.askToEnd(ctx, b, h)
	}
	return e.demolish(ctx, h.ID)
}

// demolish removes everything of id; the caller holds its lock. It goes on when ctx ends: half a
// removal helps nobody, and every step has a deadline.
func (e *Engine) demolish(ctx context.Context, id sandbox.ID) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), e.cfg.StopTimeout,
		fmt.Errorf("not stopped after %v", e.cfg.StopTimeout))
	defer cancel()
	b := e.process(id)
	if b != nil {
		b.stopping.Store(true)
		b.kill()
		select { // the rest of its process namespace has ended before it does
		case <-b.done:
		case <-ctx.Done():
			return fmt.Errorf("stop sandbox %q: %w", id, context.Cause(ctx))
		}
	}
	if err := e.cgroups.Remove(ctx, id); err != nil {
		return fmt.Errorf("stop sandbox %q: %w", id, err)
	}
	if err := e.net.Leave(id); err != nil {
		return fmt.Errorf("stop sandbox %q: %w", id, err)
	}
	if err := os.RemoveAll(e.dir(id)); err != nil {
		return fmt.Errorf("stop sandbox %q: %w", id, err)
	}
	e.logs.End(id)
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.processes, id)
	e.stopped.add(id)
	return nil
}

// kill ends the sentry, and with it, as it is the first process of its own
// process namespace, everything in the sandbox.
func (b *process) kill() {
	conn, err := b.pidfd.SyscallConn()
	if err != nil {
		return // it has ended
	}
	_ = conn.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
}

// List implements sandbox.Runtime.
func (e *Engine) List(ctx context.Context) ([]sandbox.Found, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ids, err := e.remains()
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	found := make([]sandbox.Found, 0, len(ids))
	for _, id := range ids {
		if e.preparing[id] {
			continue
		}
		b, starting := e.processes[id], e.starting[id] != nil
		found = append(found, sandbox.Found{ID: id, Running: b != nil && !b.ended() && !starting})
	}
	return found, nil
}

func (b *process) ended() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

// remains returns every ID of which the host has a directory or a cgroup.
func (e *Engine) remains() ([]sandbox.ID, error) {
	names, err := e.cgroups.List()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Dir(e.dir("any")))
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	seen := map[sandbox.ID]bool{}
	var ids []sandbox.ID
	for _, name := range names {
		if id := sandbox.ID(name); !seen[id] && checkID(id) == nil {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Wait implements sandbox.Runtime.
func (e *Engine) Wait(ctx context.Context, h sandbox.Handle) (sandbox.Exit, error) {
	e.mu.Lock()
	b, stopped := e.processes[h.ID], e.stopped.has(h.ID)
	e.mu.Unlock()
	switch {
	case b == nil && stopped:
		return sandbox.Exit{Reason: sandbox.Stopped}, nil
	case b == nil:
		return sandbox.Exit{Reason: sandbox.Killed, Code: 128 + int(unix.SIGKILL)}, nil
	}
	select {
	case <-b.done:
		return b.exit, nil
	case <-b.left:
		return sandbox.Exit{}, errors.New("the engine was closed")
	case <-ctx.Done():
		return sandbox.Exit{}, context.Cause(ctx)
	}
}

// Stats implements sandbox.StatsReader.
func (e *Engine) Stats(ctx context.Context, h sandbox.Handle) (sandbox.Stats, error) {
	if err := ctx.Err(); err != nil {
		return sandbox.Stats{}, err
	}
	if err := checkID(h.ID); err != nil {
		return sandbox.Stats{}, err
	}
	s, err := e.cgroups.Usage(h.ID)
	if err != nil {
		return sandbox.Stats{}, fmt.Errorf("measure sandbox %q: %w", h.ID, err)
	}
	b := e.process(h.ID)
	if b == nil || b.over() {
		return s, nil // what has ended holds no file, and no link
	}
	s.Read, s.Disk = bytesRead(b.pid), e.stored(b)
	if s.Sent, err = e.net.Sent(h.ID); err != nil {
		return s, fmt.Errorf("measure sandbox %q: %w", h.ID, err)
	}
	return s, nil
}

// bytesRead is how many bytes a process has read, by any means but mappings; zero if it has ended.
func bytesRead(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	n, err := strconv.ParseInt(strings.TrimPrefix(line, "rchar: "), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// stored is what the file behind a sandbox's writable layer takes on the host; see openStore. It
// has no name, so it is asked for by the sentry's descriptor. An ended sentry has none.
func (e *Engine) stored(b *process) int64 {
	dir := fmt.Sprintf("/proc/%d/fd", b.pid)
	if b.layer.Load() == 0 {
		names, err := os.ReadDir(dir)
		if err != nil {
			return 0
		}
		nameless := filepath.Join(e.cfg.Root, boxesName) + "/#"
		for _, name := range names {
			n, err := strconv.Atoi(name.Name())
			target, gone := os.Readlink(filepath.Join(dir, name.Name()))
			if errors.Join(err, gone) == nil && strings.HasPrefix(target, nameless) {
				b.layer.Store(int32(n))
			}
		}
	}
	var st unix.Stat_t
	if n := b.layer.Load(); n == 0 || unix.Stat(fmt.Sprintf("%s/%d", dir, n), &st) != nil {
		return 0
	}
	return st.Blocks * 512 // as stat(2) counts them
}

// CPUTime implements sandbox.Weigher.
func (e *Engine) CPUTime(id sandbox.ID) (time.Duration, error) {
	if err := checkID(id); err != nil {
		return 0, err
	}
	return e.cgroups.CPUTime(id)
}

// SetWeight implements sandbox.Weigher.
func (e *Engine) SetWeight(id sandbox.ID, weight int) error {
	if err := checkID(id); err != nil {
		return err
	}
	return e.cgroups.SetWeight(id, weight)
}

// Room implements sandbox.RoomReader.
func (e *Engine) Room(ctx context.Context) (sandbox.Room, error) {
	if err := ctx.Err(); err != nil {
		return sandbox.Room{}, err
	}
	return e.cgroups.Left()
}
