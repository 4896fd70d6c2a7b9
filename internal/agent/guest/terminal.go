package guest

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/guest/process"
	"github.com/sandpool/sandpool/internal/agent/guest/terminal"
	"golang.org/x/sys/unix"
)

const procDir = "/proc"

func (s *Server) processes(w http.ResponseWriter, _ *http.Request) error {
	all, err := process.List(procDir)
	if err != nil {
		return fmt.Errorf("list the processes: %w", err)
	}
	return agent.WriteJSON(w, all)
}

// login makes a shell of what it is called with. Its limits are those that the kernel gives
// itself, so that a terminal is no way around them.
const login = `umask 022; ulimit -c 0 && ulimit -n 4096 && exec "$0"`

func (s *Server) terminal(w http.ResponseWriter, r *http.Request) error {
	size, err := sizeOf(r.URL.Query())
	if err != nil {
		return err
	}
	if name := r.URL.Query().Get("name"); name != "" {
		return s.shareTerminal(w, name, size)
	}
	defer s.terminals.Add(-1)
	if s.terminals.Add(1) > agent.MaxTerminals {
		return terminal.Full()
	}
	t, err := s.openTerminal(size)
	if err != nil {
		return err
	}
	if err := s.serveTerminal(w, t); err != nil {
		s.log.Warn("terminal", "error", err)
	}
	return nil
}

func (s *Server) openTerminal(size agent.TerminalSize) (*terminal.Terminal, error) {
	// A kernel's TERM is for output that nobody sees as a terminal.
	env := s.cfg.environ("TERM=xterm-256color")
	t, err := terminal.Open(terminal.Config{
		Args: []string{"/bin/sh", "-c", login, shellOf(env)}, Env: env, Dir: s.cfg.DataDir,
		UID: s.cfg.User.UID, GID: s.cfg.User.GID, Size: size,
		Start: s.driver.Load().procs.start, HangUp: hangUp,
	})
	if err != nil {
		return nil, fmt.Errorf("open a terminal: %w", err)
	}
	return t, nil
}

// shareTerminal has the connection of the request view the terminal of that name.
func (s *Server) shareTerminal(w http.ResponseWriter, name string, size agent.TerminalSize) error {
	if err := agent.CheckName("terminal", name); err != nil {
		return err
	}
	shared, err := s.hub.Find(name, size, func() (*terminal.Terminal, error) {
		return s.openTerminal(size)
	})
	if err != nil {
		return err
	}
	conn, err := takeOver(w, agent.TerminalProtocol)
	if err != nil {
		return err
	}
	shared.View(conn, size)
	return nil
}

func (s *Server) listTerminals(w http.ResponseWriter, _ *http.Request) error {
	return agent.WriteJSON(w, s.hub.List())
}

func (s *Server) endTerminal(w http.ResponseWriter, r *http.Request) error {
	if err := s.hub.End(r.URL.Query().Get("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// serveTerminal takes the connection of the request out of HTTP and serves t on it.
func (s *Server) serveTerminal(w http.ResponseWriter, t *terminal.Terminal) error {
	conn, err := takeOver(w, agent.TerminalProtocol)
	if err != nil {
		_ = t.Close()
		return err
	}
	return t.Serve(conn)
}

func sizeOf(query url.Values) (agent.TerminalSize, error) {
	columns, err1 := strconv.Atoi(query.Get("columns"))
	rows, err2 := strconv.Atoi(query.Get("rows"))
	if err1 != nil || err2 != nil {
		columns, rows = 0, 0
	}
	size := agent.TerminalSize{Columns: columns, Rows: rows}
	return size, size.Check()
}

// shellOf returns the shell of an environment.
func shellOf(env []string) string {
	for _, kv := range env {
		if shell, ok := strings.CutPrefix(kv, "SHELL="); ok && strings.HasPrefix(shell, "/") {
			return shell
		}
	}
	return "/bin/sh"
}

// hangUpGrace is how long the programs of a terminal may take to end by themselves.
const hangUpGrace = 2 * time.Second

// hangUp ends the processes of a terminal's session.
func hangUp(session int) error { return endSession(session, hangUpGrace) }

// endSession ends the processes of a session: by the signal of a line that is cut, then, after
// grace,
// by force. It signals groups, all of a group in one system call, of which a fork bomb is one.
func endSession(session int, grace time.Duration) error {
	tick := 50 * time.Millisecond
	if grace == 0 {
		tick = 2 * time.Millisecond
	}
	timer := time.NewTicker(tick)
	defer timer.Stop()
	began := time.Now()
	for round := 0; ; round++ {
		groups, err := process.Groups(procDir, session)
		if err != nil || len(groups) == 0 {
			return err
		}
		waited := time.Since(began)
		for _, group := range groups {
			switch {
			case group <= 1: // cannot be: it would stand for other processes than those of a group
			case waited >= grace:
				_ = unix.Kill(-group, unix.SIGKILL)
			case round == 0:
				_ = unix.Kill(-group, unix.SIGHUP)
				_ = unix.Kill(-group, unix.SIGCONT) // those that are stopped would not notice
			}
		}
		if waited > grace+killPatience {
			return fmt.Errorf("%d process groups of session %d do not end", len(groups), session)
		}
		<-timer.C
	}
}
