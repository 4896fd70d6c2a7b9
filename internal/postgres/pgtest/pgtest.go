// Package pgtest starts a real PostgreSQL for tests: the distribution's, in a folder of its own,
// reached by a socket in that folder and by nothing else.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// startTime is how long the server may take to start, on a machine that is busy.
const startTime = 2 * time.Minute

// Server is a PostgreSQL that runs.
type Server struct {
	dir  string
	bin  string
	cred *syscall.Credential
	cmd  *exec.Cmd
	exit chan error
	next int
}

// Start starts a server in a new folder below the system's for temporary files. Stop ends it.
func Start(ctx context.Context) (_ *Server, err error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		return nil, errors.New(
			"there is no PostgreSQL: run scripts/deps --tests, or install the package postgresql")
	}
	s := &Server{bin: filepath.Dir(found[len(found)-1])}
	if s.dir, err = os.MkdirTemp("", "sandpool-pg-"); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, s.Restart(ctx)
}

// New returns the address of an empty database, whose server ends with the test.
func New(t testing.TB) string {
	t.Helper()
	s, err := Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	address, err := s.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// prepare makes the database's files. PostgreSQL refuses to run as root.
func (s *Server) prepare(ctx context.Context) error {
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return err
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return err
		}
		s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(s.dir, int(uid), int(gid)); err != nil {
			return err
		}
	}
	init := s.command(ctx, "initdb", "-D", s.data(), "-U", "sandpool", "--auth=trust", "--no-sync",
		"--locale=C.UTF-8", "-E", "UTF8")
	if out, err := init.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, program), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

// Restart starts the server again after Kill, and returns when it answers.
func (s *Server) Restart(ctx context.Context) error {
	s.cmd = s.command(context.WithoutCancel(ctx), "postgres", "-D", s.data(), "-k", s.dir, "-c",
		"listen_addresses=",
		"-c", "max_connections=200", "-c", "deadlock_timeout=200ms")
	var log bytes.Buffer
	s.cmd.Stderr = &log
	started := make(chan error)
	s.exit = make(chan error, 1)
	go func(cmd *exec.Cmd, exit chan error) {
		// The kernel ends PostgreSQL with the thread that started it: this one stays until then.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			exit <- cmd.Wait()
		}
	}(s.cmd, s.exit)
	if err := <-started; err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.Address("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case err := <-s.exit:
			s.exit <- err
			return fmt.Errorf("postgres has ended: %w: %s", err, log.String())
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w", err)
		case <-tick.C:
		}
	}
}

// Kill ends the server as a crash does: it flushes nothing and tells nobody.
func (s *Server) Kill() error { return s.end(syscall.SIGQUIT) }

func (s *Server) end(signal syscall.Signal) error {
	if s.cmd == nil {
		return nil
	}
	if err := s.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	var status *exec.ExitError // which a signal leads to, too
	if err := <-s.exit; err != nil && !errors.As(err, &status) {
		return err
	}
	s.cmd = nil
	return nil
}

// Stop ends the server and removes its files.
func (s *Server) Stop() error { return errors.Join(s.end(syscall.SIGINT), os.RemoveAll(s.dir)) }

// Address is that of one of the server's databases.
func (s *Server) Address(database string) string {
	return "postgres:///" + database + "?" + url.Values{"host": {s.dir},
		"user": {"sandpool"}}.Encode()
}

// Database makes a new, empty database and returns its address.
func (s *Server) Database(ctx context.Context) (string, error) {
	s.next++
	name := fmt.Sprintf("test%d", s.next)
	return s.Address(name), s.Exec(ctx, "CREATE DATABASE "+name)
}

// Exec runs a statement as the administrator.
func (s *Server) Exec(ctx context.Context, statement string) error {
	return s.ExecIn(ctx, "postgres", statement)
}

// ExecIn runs a statement in one of the databases.
func (s *Server) ExecIn(ctx context.Context, database, statement string) error {
	conn, err := pgx.Connect(ctx, s.Address(database))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}
