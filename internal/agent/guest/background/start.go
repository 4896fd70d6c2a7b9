package background

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	procfs "github.com/sandpool/sandpool/internal/agent/guest/process"
)

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
		_ = w.Chown(cfg.UID, cfg.GID) // so that it may open /dev/stdout; if not, that alone fails
	}
	return files, ends, nil
}
