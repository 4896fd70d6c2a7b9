package caller

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) && errors.As(err, &timeout) && timeout.Timeout()
}

// pair returns both ends of a connection, the first as servers have it.
func pair(t *testing.T) (near *conn, far *net.TCPConn) {
	t.Helper()
	l := listen(t)
	far = dial(t, l)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(c.Close(), l.Close()) })
	return c.(*conn), far
}

// A read ends at the deadline that counts when it comes, whenever that was set, and the connection
// can be used on.
func TestReadDeadline(t *testing.T) {
	near, far := pair(t)
	soon, late := func() time.Time { return time.Now().Add(5 * time.Millisecond) },
		func() time.Time { return time.Now().Add(time.Hour) }
	past, never := time.Unix(1, 0), time.Time{}
	p := make([]byte, 8)
	reads := func(want string) {
		t.Helper()
		send(t, far, want)
		if n, err := io.ReadFull(near, p[:len(want)]); err != nil || string(p[:n]) != want {
			t.Errorf("read %q, %v, want %q", p[:n], err, want)
		}
	}
	for _, test := range []struct {
		name          string
		before, while []time.Time
	}{
		{"one", []time.Time{soon()}, nil},
		{"an earlier one", []time.Time{late(), soon()}, nil},
		{"one in the past", []time.Time{late(), past}, nil},
		{"set while it waits", nil, []time.Time{soon()}},
		{"earlier, set while it waits", []time.Time{late()}, []time.Time{soon()}},
		{"past, set while it waits", []time.Time{late()}, []time.Time{past}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, at := range test.before {
				_ = near.SetReadDeadline(at)
			}
			done := make(chan error, 1)
			go func() {
				_, err := near.Read(p)
				done <- err
			}()
			if len(test.while) > 0 {
				await(t, "the read waits", near.in.waiting)
			}
			for _, at := range test.while {
				_ = near.SetReadDeadline(at)
			}
			if err := <-done; !isTimeout(err) {
				t.Errorf("a read beyond its deadline: %v", err)
			}
			_ = near.SetReadDeadline(never)
			reads("on")
		})
	}
	t.Run("data does not wait for it, nor comes after it", func(t *testing.T) {
		send(t, far, "x")
		_ = near.SetReadDeadline(past)
		if n, err := near.Read(p); n != 0 || !isTimeout(err) {
			t.Errorf("%d bytes, %v", n, err)
		}
		_ = near.SetReadDeadline(late())
		if n, err := near.Read(p); n != 1 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

func (d *deadline) waiting() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waits
}

// A read goes on when the runtime's deadline comes, which is an earlier one that does not count any
// more.
func TestDeadlinePutOff(t *testing.T) {
	for name, later := range map[string]time.Time{
		"put off": time.Now().Add(time.Hour), "taken away": {}} {
		t.Run(name, func(t *testing.T) {
			near, far := pair(t)
			_ = near.SetReadDeadline(time.Now().Add(time.Minute))
			p := make([]byte, 1)
			done := make(chan error, 1)
			go func() {
				_, err := near.Read(p)
				done <- err
			}()
			await(t, "the read waits", near.in.waiting)
			_ = near.SetReadDeadline(later)
			_ = near.tcp.SetReadDeadline(time.Unix(1, 0)) // as if the minute were over
			await(t, "the runtime is told anew", func() bool {
				near.in.mu.Lock()
				defer near.in.mu.Unlock()
				return near.in.told.Equal(later)
			})
			send(t, far, "x")
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// A write to a peer that takes nothing ends at its deadline; one that takes all gets it whole.
func TestWriteDeadline(t *testing.T) {
	near, far := pair(t)
	_ = near.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	var err error
	written := 0
	for n := 0; err == nil; written += n {
		n, err = near.Write(make([]byte, 1<<20))
	}
	if !isTimeout(err) {
		t.Fatal(err)
	}
	_ = near.SetWriteDeadline(time.Time{})
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	go func() {
		_, _ = near.Write(sent)
		_ = near.CloseWrite()
	}()
	got, err := io.ReadAll(far)
	if err != nil || len(got) != written+len(sent) || !bytes.HasSuffix(got, sent) {
		t.Errorf("%d bytes of %d, %v", len(got), written+len(sent), err)
	}
}

// Close ends calls that wait, and contexts of requests.
func TestClose(t *testing.T) {
	near, _ := pair(t)
	ctx := near.attend(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := near.Read(make([]byte, 2))
		done <- err
	}()
	await(t, "the read waits", near.in.waiting)
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	<-ctx.Done()
	if _, err := near.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
