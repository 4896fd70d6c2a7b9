package guest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool/internal/agent/guest/output"
	"github.com/sandpool/sandpool/internal/agent/kernels"
	"github.com/sandpool/sandpool/internal/quiet"
	"golang.org/x/sys/unix"
)

// Config says how the agent runs. The zero value of no field is useful but Env's.
type Config struct {
	// Addr is where to listen.
	Addr string
	// Kernel is the language of the cells.
	Kernel kernels.Spec
	// Interpreter is the path of the kernel's interpreter; "" means as the kernel says.
	Interpreter string
	// Bridge is the program that is started for a kernel of Jupyter: the agent's own, wherever
	// that is; "" means that it is found out.
	Bridge string
	// User is who cells run as, Home its home directory.
	User User
	Home string
	// DataDir is where cells start and what the files API shows.
	DataDir string
	// Hosts is the file of host names that the sandbox's own is added to, which it has
	// since it was restored; "", outside a sandbox, is none.
	Hosts string
	// Env is the environment of the kernel, as KEY=value, before ours.
	Env []string
	// Secret is what Init must show, as its own secret; "" accepts the first caller of Init.
	Secret string
	// Logs passes what kernels put out since the init call on to the agent's output and error.
	Logs bool

	log *output.Log // nil without Logs
}

// environ is the environment of the interpreter: Env between our defaults and
// what must be so, last what is in more. If a name has several values, the last counts.
func (c Config) environ(more ...string) []string {
	all := slices.Concat(
		[]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"LANG=C.UTF-8", "SHELL=/bin/sh"},
		c.Env,
		c.Kernel.Env,
		[]string{"HOME=" + c.Home, "USER=sandbox", "LOGNAME=sandbox", "TERM=dumb", "PAGER=cat"},
		more)
	seen := map[string]bool{}
	var env []string
	for _, kv := range slices.Backward(all) {
		name, _, _ := strings.Cut(kv, "=")
		if !seen[name] && !strings.HasPrefix(name, "SANDPOOL_") {
			seen[name] = true
			env = append(env, kv)
		}
	}
	return env
}

// command is the command line of the kernel, whose interpreter is looked for in the PATH that
// it will have.
func (c Config) command() ([]string, error) {
	line := slices.Concat(c.Kernel.Command, []string{c.DataDir, c.Home})
	if c.Interpreter != "" {
		line[0] = c.Interpreter
		return line, nil
	}
	if filepath.IsAbs(line[0]) {
		return line, nil
	}
	path := ""
	for _, kv := range c.environ() {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, line[0])
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() &&
			info.Mode()&0o111 != 0 {
			line[0] = file
			return line, nil
		}
	}
	return nil, fmt.Errorf("the interpreter %q is in none of the directories %q", line[0], path)
}

// listen listens at an address, or, for a port alone, at each address that the sandbox has: where
// somebody listens at all of them at once, gVisor lets code listen at one, and gives it those who
// connect there.
func listen(at string) (all []*net.TCPListener, err error) {
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		return nil, err
	}
	hosts := []string{host}
	if host == "" {
		addrs, err := net.InterfaceAddrs()
		if err != nil {
			return nil, err
		}
		hosts = nil
		for _, a := range addrs {
			if a, ok := a.(*net.IPNet); ok && !a.IP.IsLinkLocalUnicast() {
				hosts = append(hosts, a.IP.String())
			}
		}
	}
	for _, host := range hosts {
		l, err := net.Listen("tcp", net.JoinHostPort(host, port))
		if err != nil {
			for _, l := range all {
				_ = l.Close()
			}
			return nil, err
		}
		all = append(all, l.(*net.TCPListener))
	}
	return all, nil
}

// Run is the agent: it serves until ctx ends. Its first connections are
// answered while the kernel still warms up.
func Run(ctx context.Context, log *slog.Logger, cfg Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if cfg.Logs {
		cfg.log = output.NewLog(1, 2)
	}
	// The memory holds the secret; nobody but root may look into it.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("protect the agent's memory: %w", err)
	}
	procs := newReaper()
	go procs.run(ctx)
	listeners, err := listen(cfg.Addr)
	if err != nil {
		return fmt.Errorf("listen on %q: %w", cfg.Addr, err)
	}
	server := NewServer(log, cfg)
	web := &http.Server{
		Handler:           server.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       0, // the host keeps connections as long as the sandbox
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { served <- web.Serve(quiet.Listener{TCPListener: l}) }()
	}
	start := time.Now()
	driver, err := NewDriver(log, procs, cfg)
	if err != nil {
		_ = web.Close()
		return fmt.Errorf("start the kernel: %w", err)
	}
	if err := rehearse(ctx, driver); err != nil {
		return errors.Join(fmt.Errorf("rehearse: %w", err), web.Close(), driver.Close())
	}
	driver.alone = func() bool { return server.contexts.alone() && !server.background.Running() }
	debug.FreeOSMemory() // what is not in the snapshot need not be restored
	log.Info("ready", "after", time.Since(start).Round(time.Millisecond))
	server.SetDriver(driver)
	go server.serveChannel(ctx, os.Stdin)
	select {
	case err = <-served:
	case <-ctx.Done():
		err = web.Close()
	}
	return errors.Join(err, driver.Close())
}

// nameHost makes the sandbox's own host name resolve, as programs take for granted that it does.
func (c Config) nameHost() error {
	if c.Hosts == "" {
		return nil
	}
	name, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("own host name: %w", err)
	}
	// every user reads it
	f, err := os.OpenFile(c.Hosts, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("name the host: %w", err)
	}
	_, err = fmt.Fprintf(f, "127.0.1.1\t%s\n", name)
	return errors.Join(err, f.Close())
}
