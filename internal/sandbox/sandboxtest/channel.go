package sandboxtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

func channelEchoes(s *suite) {
	s.Template.Channel = true
	h := s.start()
	conn := s.channel(h)
	s.echoes(conn, []byte("a few bytes"))
	s.echoes(conn, bytes.Repeat([]byte("more than any socket holds "), 64<<10))
	_, err := s.Runtime.Dial(s.ctx, h, sandbox.Channel)
	s.wantClass(err, sandpool.Conflict)
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		s.Fatalf("set deadline: %v", err)
	}
	if _, err := conn.Read(make([]byte, 1)); !isTimeout(err) {
		s.Errorf("Read past its deadline: %v, want a timeout", err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(ioLimit)); err != nil {
		s.Fatalf("set deadline: %v", err)
	}
	s.echoes(conn, []byte("a few more"))
	s.answers(h)
}

// channelApart checks that clones of one snapshot have a channel each.
func channelApart(s *suite) {
	s.Template.Channel = true
	one, two := s.channel(s.start()), s.channel(s.start())
	if _, err := one.Write([]byte("one")); err != nil {
		s.Fatalf("Write: %v", err)
	}
	s.echoes(two, []byte("two"))
	got := make([]byte, 3)
	if _, err := io.ReadFull(one, got); err != nil || string(got) != "one" {
		s.Errorf("the first channel answers %q, %v; want %q", got, err, "one")
	}
}

func channelRace(s *suite) {
	s.Template.Channel = true
	h := s.start()
	cancelled, cancel := context.WithCancel(s.ctx)
	cancel()
	if conn, err := s.Runtime.Dial(cancelled, h, sandbox.Channel); !errors.Is(err,
		context.Canceled) {
		s.Fatalf("Dial with a cancelled context = %v, %v", conn, err)
	}
	const racers = 4
	var wait sync.WaitGroup
	won := make(chan net.Conn, racers)
	for range racers {
		wait.Go(func() {
			conn, err := s.Runtime.Dial(s.ctx, h, sandbox.Channel)
			if err != nil {
				s.wantClass(err, sandpool.Conflict)
				return
			}
			won <- conn
		})
	}
	wait.Wait()
	if len(won) != 1 {
		s.Errorf("%d of %d got the channel, want 1", len(won), racers)
	}
	for range len(won) {
		_ = (<-won).Close()
	}
}

func channelNone(s *suite) {
	h := s.start()
	_, err := s.Runtime.Dial(s.ctx, h, sandbox.Channel)
	s.wantClass(err, sandpool.Conflict)
	s.wantInput(h, 0)
	s.answers(h)
}

func channelHungUp(s *suite) {
	s.Template.Channel = true
	h := s.start()
	conn := s.channel(h)
	s.echoes(conn, []byte("four"))
	if err := conn.Close(); err != nil {
		s.Errorf("Close: %v", err)
	}
	s.wantInput(h, 4)
	_, err := s.Runtime.Dial(s.ctx, h, sandbox.Channel)
	s.wantClass(err, sandpool.Conflict)
	s.answers(h)
}

func channelAdopted(s *suite) {
	s.Template.Channel = true
	h := s.start()
	next := s.Reopen(s.T)
	_, err := next.Dial(s.ctx, h, sandbox.Channel)
	s.wantClass(err, sandpool.Conflict)
	s.Runtime = next
	s.answers(h)
}

func channelStopped(s *suite) {
	s.Template.Channel = true
	for _, end := range s.ends() {
		h := s.start()
		conn := s.channel(h)
		s.echoes(conn, []byte("it lives"))
		end(h)
		if n, err := conn.Read(make([]byte, 1)); err != io.EOF {
			s.Errorf("Read after the end of the sandbox = %d, %v; want the end of the file", n, err)
		}
		_, err := s.Runtime.Dial(s.ctx, h, sandbox.Channel)
		s.wantClass(err, sandpool.Ended)
	}
}

// channelNotTaken counts sockets. The garbage collector, which closes files that are
// forgotten, is off meanwhile.
func channelNotTaken(s *suite) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	s.Template.Channel = true
	s.prepare()
	for _, end := range s.ends() {
		before := s.sockets()
		h := s.start()
		end(h)
		s.until("all that the sandbox had is closed", func() bool {
			for name := range s.sockets() {
				if !before[name] {
					return false
				}
			}
			return true
		})
		_, err := s.Runtime.Dial(s.ctx, h, sandbox.Channel)
		s.wantClass(err, sandpool.Ended)
	}
}

// ioLimit bounds what is asked of a stream: far beyond any engine's need.
const ioLimit = 30 * time.Second

// channel takes the channel of a sandbox.
func (s *suite) channel(h sandbox.Handle) net.Conn {
	s.Helper()
	conn, err := s.Runtime.Dial(s.ctx, h, sandbox.Channel)
	if err != nil {
		s.Fatalf("Dial of the channel: %v", err)
	}
	s.Cleanup(func() { _ = conn.Close() }) // again, in some tests
	if err := conn.SetDeadline(time.Now().Add(ioLimit)); err != nil {
		s.Fatalf("set deadline: %v", err)
	}
	return conn
}

// echoes fails the test unless data comes back.
func (s *suite) echoes(conn net.Conn, data []byte) {
	s.Helper()
	wrote := make(chan error, 1)
	go func() {
		_, err := conn.Write(data)
		wrote <- err
	}()
	got := make([]byte, len(data))
	if n, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, data) {
		s.Fatalf("of %d bytes %d came back, the same: %v; %v", len(data), n, bytes.Equal(got, data),
			err)
	}
	if err := <-wrote; err != nil {
		s.Fatalf("Write: %v", err)
	}
}

func (s *suite) wantInput(h sandbox.Handle, want int64) {
	s.Helper()
	if s.Input == nil {
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, ioLimit)
	defer cancel()
	if got, err := s.Input(ctx, h.ID); err != nil || got != want {
		s.Errorf("the first process read %d bytes, %v; want %d and the end", got, err, want)
	}
}

// ends returns the ways to end a sandbox, each of which waits until it has ended.
func (s *suite) ends() []func(sandbox.Handle) {
	ends := []func(sandbox.Handle){s.stop}
	if s.Crash != nil {
		ends = append(ends, func(h sandbox.Handle) {
			exits := s.wait(s.Runtime, h)
			s.Crash(s.T, h.ID)
			<-exits
		})
	}
	return ends
}

// sockets returns the sockets that this process has open.
func (s *suite) sockets() map[string]bool {
	s.Helper()
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		s.Fatal(err)
	}
	found := map[string]bool{}
	for _, entry := range entries {
		if name, err := os.Readlink(filepath.Join(dir, entry.Name())); err == nil &&
			strings.HasPrefix(name, "socket:") {
			found[name] = true
		}
	}
	return found
}
