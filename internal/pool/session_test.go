package pool_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
)

func TestSessionEndsWithItsSandbox(t *testing.T) {
	for want, exit := range map[string]sandbox.Exit{
		"out of memory: the sandbox used more than its limit of 1 GiB":                              {Reason: sandbox.OutOfMemory, Code: 137},
		"the sandbox's first process exited with code 3":                                            {Reason: sandbox.Exited, Code: 3},
		"the machine ran out of memory and ended this sandbox, which had not reached its own limit": {Reason: sandbox.HostOutOfMemory, Code: 137},
		"the sandbox's own kernel crashed (code 134); the server's log says how":                    {Reason: sandbox.Crashed, Code: 134},
		"the sandbox was killed from outside (code 137)":                                            {Reason: sandbox.Killed, Code: 137},
	} {
		t.Run(string(exit.Reason), func(t *testing.T) {
			within(t, func(w *world) {
				w.put(spec(1, 2))
				l := w.acquire("user-1", sandpool.ClaimReady)
				w.settle()
				w.fake.End(l.Sandbox().ID, exit)
				<-l.Context().Done()
				cause := context.Cause(l.Context())
				w.wantClass(cause, sandpool.Ended)
				if cause.Error() != want {
					w.Errorf("the session ended because %q, want %q", cause, want)
				}
				if _, err := l.Dial(w.Context(), 8080); err == nil || err.Error() != want {
					w.Errorf("Dial of an ended session: %v", err)
				}
				w.settle()
				w.wantCounts(1, 0, 0, 0)
				if next := w.acquire("user-1", sandpool.ClaimReady); next.Sandbox().ID ==
					l.Sandbox().ID {
					w.Error("the ended sandbox was given again")
				}
				l.Release()
			})
		})
	}
}

// Who is told of the end by a Dial is not told again by the next request, though the engine knew of
// it first.
func TestEndByDialIsToldOnce(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(1, 2))
		l := w.acquire("user-1", sandpool.ClaimReady)
		w.settle()
		w.fake.End(l.Sandbox().ID, sandbox.Exit{Reason: sandbox.Exited, Code: 3})
		_, err := l.Dial(w.Context(), 8080)
		w.wantClass(err, sandpool.Ended)
		if want := "the sandbox's first process exited with code 3"; err.Error() != want {
			w.Errorf("Dial of an ended session: %v, want %s", err, want)
		}
		l.Release()
		w.settle()
		w.acquire("user-1", sandpool.ClaimReady).Release()
	})
}

func TestDial(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(1, 2))
		l := w.acquire("user-1", sandpool.ClaimReady)
		defer l.Release()
		conn, err := l.Dial(w.Context(), 8080)
		if err != nil {
			w.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
			w.Fatal(err)
		}
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			w.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil || sandpool.SandboxID(body) != l.Sandbox().ID {
			w.Errorf("sandbox %q answered, %v; want %q", body, err, l.Sandbox().ID)
		}
	})
}

func TestStopSession(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(1, 2))
		l := w.acquire("user-1", sandpool.ClaimReady)
		w.settle()
		if err := w.StopSession(w.Context(), python, "user-1"); err != nil {
			w.Fatal(err)
		}
		w.wantClass(context.Cause(l.Context()), sandpool.Ended)
		l.Release()
		_, err := w.Session(w.Context(), python, "user-1")
		w.wantClass(err, sandpool.NotFound)
		if code := err.(*sandpool.Error).Code; code != "SessionWithIdentifierNotFound" {
			w.Errorf("code %q", code)
		}
		next := w.acquire("user-1", sandpool.ClaimReady)
		if next.Sandbox().ID == l.Sandbox().ID {
			w.Error("the stopped sandbox was given again")
		}
		next.Release()
		w.settle()
		w.wantCounts(1, 0, 1, 0)
	})
}

// TestStopSessionUnsaved: while the store does not know that a session has ended, nobody is told
// that there is none: another server would give it back to the identifier.
func TestStopSessionUnsaved(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(1, 2))
		w.acquire("user-1", sandpool.ClaimReady).Release()
		w.settle()
		w.store.fail(nil, errors.New("cut off"))
		for range 2 {
			err := w.StopSession(w.Context(), python, "user-1")
			if err == nil || sandpool.ClassOf(err) == sandpool.NotFound {
				w.Errorf("StopSession: %v; want that it is not known", err)
			}
		}
		w.store.fail(nil, nil)
		w.wantClass(w.StopSession(w.Context(), python, "user-1"), sandpool.NotFound)
		w.pass(10 * time.Second) // the end may have been tried in vain, and is then tried again
		w.settle()
		w.wantCounts(1, 0, 0, 0)
	})
}

// TestStopSessionUnsavedWhileClaimed: the same while a new claim of the identifier waits for the
// store to learn of the end.
func TestStopSessionUnsavedWhileClaimed(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(1, 2))
		w.acquire("user-1", sandpool.ClaimReady).Release()
		w.settle()
		w.store.silence(true)
		stop := func() error {
			ctx, cancel := context.WithTimeout(w.Context(), time.Second)
			defer cancel()
			return w.StopSession(ctx, python, "user-1")
		}
		if err := stop(); err == nil {
			w.Error("a stop that is not saved is done")
		}
		got := make(chan error, 1)
		go func() {
			_, err := w.Acquire(w.Context(), python, "user-1")
			got <- err
		}()
		w.pass(time.Millisecond)
		if err := stop(); err == nil || sandpool.ClassOf(err) == sandpool.NotFound {
			w.Errorf("StopSession: %v; want that it is not known", err)
		}
		w.wantClass(<-got, sandpool.Ended)
		w.store.silence(false)
		w.wantClass(stop(), sandpool.NotFound)
		w.pass(5 * time.Minute) // the attempt that began in silence ends, and another comes
		w.settle()
		w.wantCounts(1, 0, 0, 0)
	})
}

func TestStopSessionWhileItStarts(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(0, 2))
		w.fake.Order(sandboxtest.Start, 1, sandboxtest.Fault{After: 10 * time.Second})
		got := make(chan error, 1)
		go func() {
			_, err := w.Acquire(w.Context(), python, "user-1")
			got <- err
		}()
		w.pass(time.Second)
		began := time.Now()
		if err := w.StopSession(w.Context(), python, "user-1"); err != nil {
			w.Fatal(err)
		}
		if took := time.Since(began); took > time.Second {
			w.Errorf("StopSession took %s", took)
		}
		w.wantClass(<-got, sandpool.Ended)
		w.acquire("user-1", sandpool.ClaimNew).Release()
		w.settle()
		w.wantCounts(0, 0, 1, 0)
	})
}

func TestStopIsRepeated(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(0, 1))
		w.acquire("user-1", sandpool.ClaimNew).Release()
		w.fake.Order(sandboxtest.Stop, 3, sandboxtest.Fault{Err: io.ErrUnexpectedEOF})
		if err := w.StopSession(w.Context(), python, "user-1"); err != nil {
			w.Fatal(err)
		}
		w.settle()
		w.wantCounts(0, 0, 0, 1)
		// What is being stopped is no session: the pool has room for one.
		w.acquire("user-2", sandpool.ClaimNew).Release()
		w.pass(20 * time.Second)
		w.wantCounts(0, 0, 1, 0)
	})
}

func TestSessions(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(3, 5))
		for _, identifier := range []sandpool.Identifier{"carl", "anna", "bert"} {
			w.acquire(identifier, sandpool.ClaimReady).Release()
			w.pass(time.Second)
		}
		for _, page := range []struct {
			skip, limit int
			want        string
			more        bool
		}{{0, 2, "carl anna", true}, {2, 2, "bert", false}, {0, 3, "carl anna bert", false}, {9, 3,
			"", false}} {
			list, more, err := w.Sessions(w.Context(), python, page.skip, page.limit)
			if err != nil {
				w.Fatal(err)
			}
			var names []string
			for _, s := range list {
				names = append(names, string(s.Identifier))
			}
			if got := strings.Join(names, " "); got != page.want || more != page.more {
				w.Errorf("Sessions(%d, %d) = %q, %v; want %q, %v", page.skip, page.limit, got, more,
					page.want, page.more)
			}
		}
		_, _, err := w.Sessions(w.Context(), python, -1, 0)
		w.wantClass(err, sandpool.Invalid)
	})
}

// Looking at a session is no use of it; a request in flight is.
func TestSessionTimes(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(0, 5))
		began := time.Now()
		l := w.acquire("user-1", sandpool.ClaimNew)
		w.pass(time.Minute)
		now := time.Now()
		if s := l.View(); !s.CreatedAt.Equal(began) || !s.LastUsedAt.Equal(now) ||
			!s.ExpiresAt.Equal(now.Add(5*time.Minute)) {
			w.Errorf("session in use: %+v", s)
		}
		l.Release()
		w.pass(4 * time.Minute)
		s, err := w.Session(w.Context(), python, "user-1")
		if err != nil || !s.LastUsedAt.Equal(now) {
			w.Errorf("session after 4 idle minutes: %+v, %v", s, err)
		}
		rows, err := w.store.Sandboxes(w.Context())
		if err != nil || len(rows) != 1 || !rows[0].LastUsedAt.Equal(now) {
			w.Errorf("row after 4 idle minutes: %+v, %v", rows, err)
		}
		w.pass(time.Minute + time.Second)
		_, err = w.Session(w.Context(), python, "user-1")
		w.wantClass(err, sandpool.NotFound)
	})
}
