// Package background keeps processes that go on without a caller: what they have put out lately,
// for whoever comes to read it, and how they ended.
//
// A process leads a session of its own, so that what it has started can be found and ended with it,
// and a kernel that has to be killed does not take it along. Its streams are pipes that are emptied
// all the time; of what comes, in records of both streams in their order, the latest
// agent.MaxBackgroundLog bytes are kept. A reader says which record it has seen last; where records
// after it are kept no more, it is told how many. Nothing waits for a reader.
//
// A process has ended when it itself has, whatever it has left behind; what was in its pipes by
// then is part of its log. One that is forgotten has no more pipes: what it has left behind may
// hold their other ends for as long as it likes, and costs nothing.
package background

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// Config is what a Registry needs of the sandbox.
type Config struct {
	// Env is the environment of processes, Dir where they start, UID and GID who they run as.
	Env      []string
	Dir      string
	UID, GID int
	// Start starts a program; how it ended arrives in the channel.
	Start func(args []string, attr *syscall.ProcAttr) (int, <-chan syscall.WaitStatus, error)
	// End ends the processes of a session.
	End func(session int) error
}

// Registry is the background processes of a sandbox. Its methods may be called at the same time.
type Registry struct {
	mu  sync.Mutex // guards what follows, and each process
	all []*process // the oldest first
}

// process is one of a Registry, whose mu guards it.
type process struct {
	view    agent.BackgroundProcess
	records []agent.ProcessRecord
	number  int64 // of the last record
	bytes   int
	gone    bool // its id may be another's
	ended   bool
	ends    [2]*os.File   // its streams
	parts   [2][]byte     // an incomplete rune at the end of each stream
	changed chan struct{} // closed, and made anew, when there is more to read
}

// Running reports whether a process has not ended.
func (g *Registry) Running() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.all, func(p *process) bool { return !p.ended })
}

// find returns the process of that id. The caller holds mu.
func (g *Registry) find(id string) *process {
	i := slices.IndexFunc(g.all, func(p *process) bool { return p.view.ID == id })
	if i < 0 {
		return nil
	}
	return g.all[i]
}

func unknown(id string) error {
	return sandpool.Errorf(sandpool.NotFound, "ProcessNotFound", "id",
		"The session has no background process %.64q.", id)
}

// forgetOne forgets the process that has ended first. The caller holds mu.
func (g *Registry) forgetOne() bool {
	i := slices.IndexFunc(g.all, func(p *process) bool { return p.ended })
	if i < 0 {
		return false
	}
	g.drop(g.all[i])
	return true
}

// drop forgets a process. Its readers end. The caller holds mu.
func (g *Registry) drop(p *process) {
	g.all = slices.DeleteFunc(g.all, func(q *process) bool { return q == p })
	for _, r := range p.ends {
		_ = r.Close() // it may be closed
	}
	p.wake()
}

// List returns all processes, the oldest first.
func (g *Registry) List() []agent.BackgroundProcess {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := []agent.BackgroundProcess{}
	for _, p := range g.all {
		out = append(out, p.view)
	}
	return out
}

// Get returns a process, once it has ended or over is closed.
func (g *Registry) Get(id string, over <-chan struct{}) (agent.BackgroundProcess, error) {
	for first := (*process)(nil); ; {
		g.mu.Lock()
		p := g.find(id)
		if p == nil || first != nil && p != first {
			g.mu.Unlock()
			return agent.BackgroundProcess{}, unknown(id)
		}
		first = p
		view, ended, changed := p.view, p.ended, p.changed
		g.mu.Unlock()
		if ended {
			return view, nil
		}
		select {
		case <-changed:
		case <-over:
			return view, nil
		}
	}
}

// Signal sends a signal to a process and its group.
func (g *Registry) Signal(id string, signal syscall.Signal) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.find(id)
	if p == nil {
		return unknown(id)
	}
	if p.ended {
		return sandpool.Errorf(sandpool.Conflict, "ProcessEnded", "id",
			"The process %q has ended.", id)
	}
	if p.taken() {
		return nil
	}
	if err := unix.Kill(-p.view.PID, signal); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal %d for process %d: %w", int(signal), p.view.PID, err)
	}
	return nil
}

// Remove ends a process with its session and forgets it.
func (g *Registry) Remove(cfg Config, id string) error {
	g.mu.Lock()
	p := g.find(id)
	taken := p != nil && p.taken()
	g.mu.Unlock()
	if p == nil {
		return unknown(id)
	}
	if !taken {
		if err := cfg.End(p.view.PID); err != nil {
			return err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drop(p)
	return nil
}
