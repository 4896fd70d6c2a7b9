// Package terminal runs a shell on a pseudo terminal and carries its bytes over a
// connection, in the frames of package agent.
//
// Nothing is kept for a host that does not read: its terminal fills, and the programs in it
// wait. Nor is anything kept for programs that do not read: input that they leave is dropped. A
// terminal has the connection for its life: when the host hangs up, or the shell ends, every
// process of the shell's session ends. What is to stay calls setsid. Those of a Hub, which have
// names, live on without a connection.
//
// # Goroutines
//
// Each terminal has three: send carries output and receive input, both until connection or
// pseudo terminal are closed; watch waits for the shell. The first of send and
// receive that is through ends the other.
package terminal

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/guest/process"
	"golang.org/x/sys/unix"
)

// Config says what runs in a terminal.
type Config struct {
	Args     []string // the program and its arguments
	Env      []string // its environment, as KEY=value
	Dir      string   // where it starts; / if it may not be there
	UID, GID int      // as whom, without other groups
	Size     agent.TerminalSize
	// Start starts a program; how it ended arrives in the channel.
	Start func(args []string, attr *syscall.ProcAttr) (pid int, exit <-chan syscall.WaitStatus,
		err error)
	// HangUp ends the processes of a session.
	HangUp func(session int) error
}

// Terminal is a running shell, or what is left of it.
type Terminal struct {
	cfg    Config
	master *os.File
	pid    int // of the shell, and its session

	over   chan struct{}      // closed when the shell and its session have ended
	status syscall.WaitStatus // valid then
	left   error              // of what did not end, valid then
}

// Open starts a shell.
func Open(cfg Config) (*Terminal, error) {
	master, slave, err := openPTY(cfg.Size, cfg.UID, cfg.GID)
	if err != nil {
		return nil, err
	}
	// Held until the shell has it: without, the terminal would have hung up.
	defer slave.Close()
	t := &Terminal{cfg: cfg, master: master, over: make(chan struct{})}
	pid, exit, err := t.start(slave, cfg.Dir)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		pid, exit, err = t.start(slave, "/")
	}
	if err != nil {
		return nil, errors.Join(err, master.Close())
	}
	t.pid = pid
	go t.watch(exit)
	return t, nil
}

func (t *Terminal) start(slave *os.File, dir string) (int, <-chan syscall.WaitStatus, error) {
	fd := slave.Fd()
	return t.cfg.Start(t.cfg.Args, &syscall.ProcAttr{
		Dir:   dir,
		Env:   t.cfg.Env,
		Files: []uintptr{fd, fd, fd},
		Sys: &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0,
			Credential: process.Credential(t.cfg.UID, t.cfg.GID)},
	})
}

// watch waits for the shell, ends what it leaves behind and lets send come to its end.
func (t *Terminal) watch(exit <-chan syscall.WaitStatus) {
	t.status = <-exit
	t.left = t.cfg.HangUp(t.pid)
	close(t.over)
	// fails only if it is closed, which has the same effect
	_ = t.master.SetReadDeadline(time.Unix(1, 0))
}

// Serve carries bytes until the shell has ended or the host hangs up. Then the connection
// is closed and the shell's session has ended; the error is of what did not end.
func (t *Terminal) Serve(conn net.Conn) error {
	sent, received := make(chan struct{}), make(chan struct{})
	go func() { defer close(sent); t.send(conn) }()
	go func() { defer close(received); t.receive(conn, func(agent.TerminalSize) {}) }()
	select {
	case <-sent:
	case <-received:
	}
	_ = conn.Close()
	err := t.Close()
	<-sent
	<-received
	return err
}

// Close hangs up, and returns when the shell's session has ended.
func (t *Terminal) Close() error {
	_ = t.master.Close() // what writes to the terminal from now on fails
	var err error
	select {
	case <-t.over: // its id may be another one's by now
	default:
		err = t.cfg.HangUp(t.pid)
	}
	<-t.over
	return errors.Join(err, t.left)
}

// maxRest is how much is read once all has ended. Only who left the session can write more.
const maxRest = 1 << 20

// send carries output, and last how the shell ended.
func (t *Terminal) send(conn net.Conn) {
	frames := agent.NewTerminalWriter(conn)
	buf := make([]byte, agent.MaxTerminalData)
	for {
		n, err := t.master.Read(buf)
		if n > 0 && frames.Send(agent.TerminalData, buf[:n]) != nil {
			return
		}
		if err != nil {
			break // it has hung up, or the shell has ended
		}
	}
	<-t.over
	for rest := 0; rest < maxRest; {
		n, err := readNow(t.master, buf)
		if n == 0 || err != nil {
			break
		}
		if frames.Send(agent.TerminalData, buf[:n]) != nil {
			return
		}
		rest += n
	}
	// a host that is gone need not know
	_ = frames.Send(agent.TerminalEnd, exitOf(t.status).Encode())
}

func exitOf(status syscall.WaitStatus) agent.TerminalExit {
	if status.Signaled() {
		return agent.TerminalExit{Signal: int(status.Signal())}
	}
	return agent.TerminalExit{Code: status.ExitStatus()}
}

// receive carries input until the host is gone, or does not speak as it should.
func (t *Terminal) receive(conn net.Conn, resized func(agent.TerminalSize)) {
	frames := agent.NewTerminalReader(conn)
	wait := patience
	for {
		kind, body, err := frames.Next()
		switch {
		case err != nil:
			return
		case kind == agent.TerminalData:
			wait = t.input(body, wait)
		case kind == agent.TerminalResize:
			size, err := agent.DecodeTerminalSize(body)
			if err != nil {
				return
			}
			_ = resize(t.master, size) // fails only if the terminal is over, of which send tells
			resized(size)
		default:
			return
		}
	}
}

// How long a terminal may take no input at all before what came is dropped, and how long
// what comes later is offered until some is taken again.
//
// Terminals drop what nobody reads. To wait instead would be to never see the end of the
// connection, which comes after the input.
const (
	patience   = 5 * time.Second
	impatience = time.Millisecond
)

// input writes p to the terminal and returns how patient to be with what comes next.
func (t *Terminal) input(p []byte, wait time.Duration) time.Duration {
	for len(p) > 0 {
		_ = t.master.SetWriteDeadline(time.Now().Add(wait)) // if it is closed, so says Write
		n, err := t.master.Write(p)
		p = p[n:]
		switch {
		case n > 0:
			wait = patience
		case err != nil: // nobody reads, or the terminal is over, of which send tells
			return impatience
		}
	}
	return wait
}
