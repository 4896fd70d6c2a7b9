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
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	procfs "github.com/sandpool/sandpool/internal/agent/guest/process"
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

// limited makes a program of what it is called with, under the limits that kernels give themselves.
const limited = `umask 022; ulimit -c 0 && ulimit -n 4096 && exec "$@"`

// Start starts a process.
func (g *Registry) Start(cfg Config, req agent.ProcessRequest) (agent.BackgroundProcess, error) {
	var none agent.BackgroundProcess
	args, env, err := cfg.command(req)
	if err != nil {
		return none, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.find(req.ID) != nil {
		return none, sandpool.Errorf(sandpool.Conflict, "ProcessExists", "id",
			"There is a process with the id %q already. Choose another.", req.ID)
	}
	if len(g.all) == agent.MaxBackground && !g.forgetOne() {
		return none, sandpool.Errorf(sandpool.Conflict, "TooManyProcesses", "id",
			"%d background processes run in the session, the most that it can have. Delete one.",
			agent.MaxBackground)
	}
	files, ends, err := cfg.open(req.Stdin)
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	if err != nil {
		return none, err
	}
	dir := cfg.Dir
	if req.Dir != "" {
		dir = req.Dir
	}
	pid, exit, err := cfg.Start(slices.Concat([]string{"/bin/sh", "-c", limited, "sh"}, args),
		&syscall.ProcAttr{Dir: dir, Env: env,
			Files: []uintptr{files[0].Fd(), files[1].Fd(), files[2].Fd()},
			Sys: &syscall.SysProcAttr{Setsid: true,
				Credential: procfs.Credential(cfg.UID, cfg.GID)}})
	if err != nil {
		for _, f := range ends {
			_ = f.Close()
		}
		return none, &sandpool.Error{Class: sandpool.Unavailable, Code: "ProcessNotStarted",
			Target: "command", Err: err, RetryAfter: time.Second,
			Message: "The process could not be started: the session has no more room for one."}
	}
	p := &process{changed: make(chan struct{}), ends: [2]*os.File(ends)}
	p.view = agent.BackgroundProcess{ID: req.ID, PID: pid,
		Command: shown(req), Created: time.Now()}
	g.all = append(g.all, p)
	go g.attend(p, exit)
	return p.view, nil
}

// command returns the command line and the environment of a request.
func (cfg Config) command(req agent.ProcessRequest) (args, env []string, err error) {
	if err := agent.CheckName("process", req.ID); err != nil {
		return nil, nil, err
	}
	if err := agent.CheckEnv(req.Env); err != nil {
		return nil, nil, err
	}
	if (req.Shell == "") == (len(req.Args) == 0) {
		return nil, nil, sandpool.Errorf(sandpool.Invalid, "InvalidCommand", "command",
			"Give a command line, or text for the shell; not both.")
	}
	env = slices.Clone(cfg.Env)
	for name, value := range req.Env {
		env = slices.DeleteFunc(env, func(kv string) bool {
			return strings.HasPrefix(kv, name+"=")
		})
		env = append(env, name+"="+value)
	}
	if req.Shell != "" {
		shell := find("bash", env)
		if shell == "" {
			shell = "/bin/sh"
		}
		args = []string{shell, "-c", req.Shell}
	} else {
		args = slices.Clone(req.Args)
	}
	for _, a := range args {
		if strings.ContainsRune(a, 0) {
			return nil, nil, sandpool.Errorf(sandpool.Invalid, "InvalidCommand", "command",
				"An argument holds NUL, which no argument can.")
		}
	}
	if !strings.Contains(args[0], "/") {
		file := find(args[0], env)
		if file == "" {
			return nil, nil, sandpool.Errorf(sandpool.Invalid, "ProgramNotFound", "command",
				"The program %.64q is in none of the directories of PATH.", args[0])
		}
		args[0] = file
	}
	return args, env, nil
}

// find looks for a program in the PATH of an environment, and returns "" if it is not there.
func find(name string, env []string) string {
	path := ""
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); name != "" && err == nil && info.Mode().IsRegular() &&
			info.Mode()&0o111 != 0 {
			return file
		}
	}
	return ""
}

// open makes the three streams of a process; ends are those of the agent.
func (cfg Config) open(stdin string) (files, ends []*os.File, err error) {
	fd, err := unix.MemfdCreate("input", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("standard input: %w", err)
	}
	whole := os.NewFile(uintptr(fd), "input")
	defer whole.Close()
	if _, err := whole.WriteAt([]byte(stdin), 0); err != nil {
		return nil, nil, fmt.Errorf("standard input: %w", err)
	}
	in, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd)) // to be read alone
	if err != nil {
		return nil, nil, fmt.Errorf("standard input: %w", err)
	}
	files = append(files, in)
	for range 2 {
		r, w, err := os.Pipe()
		if err != nil {
			return files, ends, fmt.Errorf("output pipe: %w", err)
		}
		files, ends = append(files, w), append(ends, r)
		_ = w.Chown(cfg.UID, cfg.GID) // so that it may open /dev/stdout; else that one thing fails
	}
	return files, ends, nil
}

// attend takes what a process puts out, until nobody can put out more, and how it ends.
func (g *Registry) attend(p *process, exit <-chan syscall.WaitStatus) {
	var streams sync.WaitGroup
	begin := func() {
		for i, r := range p.ends {
			streams.Go(func() { g.take(p, i, r) })
		}
	}
	begin()
	status := <-exit
	g.mu.Lock()
	p.gone = true
	g.mu.Unlock()
	// What it has left in its pipes comes before its end; nobody waits for what others, who have
	// the pipes too, may put there.
	for _, r := range p.ends {
		_ = r.SetReadDeadline(time.Now()) // it may be closed
	}
	streams.Wait()
	for i, r := range p.ends {
		_ = r.SetReadDeadline(time.Time{})
		g.rest(p, i, r)
	}
	g.end(p, status)
	begin()
}

// take takes what comes from a stream, until its end or its deadline.
func (g *Registry) take(p *process, stream int, r *os.File) {
	chunk := make([]byte, 32<<10)
	for {
		n, err := r.Read(chunk)
		g.add(p, stream, chunk[:n])
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				_ = r.Close()
			}
			return
		}
	}
}

// maxPipe is the most that a pipe holds, unless the system's administrator allows more.
const maxPipe = 1 << 20

// rest takes what is in a stream without waiting for more.
func (g *Registry) rest(p *process, stream int, r *os.File) {
	conn, err := r.SyscallConn()
	if err != nil {
		return // closed: at its end
	}
	chunk := make([]byte, 32<<10)
	_ = conn.Read(func(fd uintptr) bool {
		for all := 0; all < maxPipe; {
			n, err := unix.Read(int(fd), chunk)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if n <= 0 {
				break
			}
			all += n
			g.add(p, stream, chunk[:n])
		}
		return true
	})
}

// end records how a process ended.
func (g *Registry) end(p *process, status syscall.WaitStatus) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p.view.Ended = time.Now()
	if status.Signaled() {
		p.view.Signal = int(status.Signal())
	} else {
		code := status.ExitStatus()
		p.view.ExitCode = &code
	}
	p.ended = true
	p.wake()
}

// add appends to a log, as whole runes.
func (g *Registry) add(p *process, stream int, data []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	data = append(p.parts[stream], data...)
	whole := data
	for i := 1; i < utf8.UTFMax && i <= len(data); i++ {
		if c := data[len(data)-i]; utf8.RuneStart(c) {
			if !utf8.FullRune(data[len(data)-i:]) {
				whole = data[:len(data)-i]
			}
			break
		}
	}
	p.parts[stream] = slices.Clone(data[len(whole):])
	if len(whole) == 0 {
		return
	}
	p.number++
	r := agent.ProcessRecord{Number: p.number}
	if stream == 0 {
		r.Stdout = strings.ToValidUTF8(string(whole), "\uFFFD")
	} else {
		r.Stderr = strings.ToValidUTF8(string(whole), "\uFFFD")
	}
	p.records = append(p.records, r)
	p.bytes += size(r)
	drop := 0
	for ; p.bytes > agent.MaxBackgroundLog; drop++ {
		p.bytes -= size(p.records[drop])
	}
	if drop > 0 {
		p.records = slices.Delete(p.records, 0, drop)
	}
	p.wake()
}

// size is what a record takes of memory, about.
func size(r agent.ProcessRecord) int { return 128 + len(r.Stdout) + len(r.Stderr) }

// wake tells readers that there is more. The caller holds mu.
func (p *process) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
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

// taken reports whether the id of a process that is gone is another's by now. While there is
// anything in its group or its session no other process gets it. The caller holds mu.
func (p *process) taken() bool { return p.gone && unix.Kill(p.view.PID, 0) == nil }

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

// Read calls emit with the records after a number, and, with follow, those to come until the end of
// the process, of which the last record tells. over ends it early.
func (g *Registry) Read(id string, after int64, follow bool, over <-chan struct{},
	emit func(agent.ProcessRecord) error) error {
	for first := (*process)(nil); ; {
		g.mu.Lock()
		p := g.find(id)
		if p == nil || first != nil && p != first { // another has its name
			g.mu.Unlock()
			return unknown(id)
		}
		first = p
		var some []agent.ProcessRecord
		for _, r := range p.records {
			if r.Number > after {
				some = append(some, r)
			}
		}
		view, last, changed := p.view, p.ended || !follow, p.changed
		number := p.number
		g.mu.Unlock()
		if len(some) > 0 && some[0].Number > after+1 {
			some[0].Lost = some[0].Number - after - 1
		}
		for _, r := range some {
			if err := emit(r); err != nil {
				return err
			}
			after = r.Number
		}
		if last {
			return emit(agent.ProcessRecord{Number: number, Process: &view})
		}
		select {
		case <-changed:
		case <-over:
			return io.ErrUnexpectedEOF
		}
	}
}
