package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// heap is what the program holds after a collection, in bytes.
func heap() int64 {
	var m runtime.MemStats
	for range 2 { // what pools hold survives one
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// grown is how much more than before the program holds, in bytes, as soon as that is within most,
// and at the latest after half a minute: a handler that has sent its code or its refusal needs a
// moment to return, and much longer under the race detector.
func grown(before, most int64) int64 {
	for deadline := time.Now().Add(30 * time.Second); ; {
		if n := heap() - before; n <= most || time.Now().After(deadline) {
			return n
		}
	}
}

// busy serves an agent that takes executions and answers none until it is let go. The other
// result is the number of those it has.
func (w *world) busy() (taken func() int, letGo func()) {
	w.t.Helper()
	var mu sync.Mutex
	n := 0
	over := make(chan struct{})
	w.served(func(rw http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			w.t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn,
			"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+
				agent.LinkProtocol+"\r\n\r\n")
		head := make([]byte, 4)
		if _, err := io.ReadFull(conn, head); err != nil {
			return
		}
		size := int64(head[0])<<24 | int64(head[1])<<16 | int64(head[2])<<8 | int64(head[3])
		if _, err := io.CopyN(io.Discard, conn, size); err != nil {
			return
		}
		mu.Lock()
		n++
		mu.Unlock()
		<-over
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}, func() { close(over) }
}

// TestCodeThatWaits: a session that sleeps has a bounded amount of code wait for it, wherever the
// identifier is, none of it in the server's memory; the rest is refused before it is read.
func TestCodeThatWaits(t *testing.T) {
	const size = 4 << 20
	for _, tt := range []struct{ name, path, body string }{
		{"in the query", "executions?identifier=abcd", `{"code":"` + strings.Repeat("x", size) +
			`"}`},
		{"in the body", "python/execute?", `{"properties":{"identifier":"abcd","pythonCode":"` +
			strings.Repeat("x", size) + `"}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorldOf(t, Options{MaxBody: 16 << 20}, nil)
			taken, letGo := w.busy()
			before := heap()
			refused := make(chan *http.Response, 30)
			var callers sync.WaitGroup
			for range 30 {
				callers.Go(func() {
					req, err := http.NewRequestWithContext(t.Context(), "POST", w.url+endpoint+"/"+
						tt.path, strings.NewReader(tt.body))
					if err != nil {
						t.Error(err)
						return
					}
					resp, err := http.DefaultClient.Do(req)
					if err != nil {
						return // one that waited until the end of the test
					}
					resp.Body.Close()
					refused <- resp
				})
			}
			// Bodies that come at the same time are charged as they arrive, so that one is refused
			// now and then which the others would have left room for.
			tick, late := time.NewTicker(time.Millisecond), time.After(5*time.Minute)
			defer tick.Stop()
			for n := 0; n+taken() < 30; {
				select {
				case <-tick.C:
				case resp := <-refused:
					n++
					if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" ||
						resp.Header.Get("X-Ms-Error-Code") != "TooMuchCodeWaiting" {
						t.Fatalf("status %d, %v", resp.StatusCode, resp.Header)
					}
				case <-late:
					t.Fatalf("%d of 30 were refused, and %d wait", n, taken())
				}
			}
			if n := taken(); n < 1 || n > 4 {
				t.Errorf("%d executions wait, want at most the 4 that a session may have", n)
			}
			if n := grown(before, 2*size); n > 2*size {
				t.Errorf("the server holds %d MiB for executions of 4 MiB that wait in their "+
					"sandbox", n>>20)
			}
			if got := w.do("POST", "executions?identifier=other", `{"code":"`+
				strings.Repeat("x", size)+`"`); got.status != 400 {
				t.Errorf("another session: %d %.200s", got.status, got.body)
			}
			letGo()
			callers.Wait()
		})
	}
}

// TestBodiesOfOthers: callers who send bodies and do not end them hold up their own pool and
// themselves, and nobody else.
func TestBodiesOfOthers(t *testing.T) {
	w := newWorld(t, Options{})
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	part := strings.Repeat("x", 19<<20)
	for i := range 6 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		fmt.Fprintf(conn, "POST %s/executions?identifier=slow-%d HTTP/1.1\r\nHost: x\r\n"+
			"Test-Subject: hostile\r\nContent-Length: %d\r\n\r\n{\"code\":\"", endpoint, i, 20<<20)
		_ = conn.SetWriteDeadline(time.Now().Add(time.Minute))
		_, _ = io.WriteString(conn, part) // refused, some of it
	}
	body := `{"code":"` + strings.Repeat("x", 15<<20) + `"}`
	wait(t, func() bool {
		return w.do("POST", "executions?identifier=abcd", body, "Test-Subject",
			"hostile").status == 503
	})
	small := `{"code":"1"}`
	if got := w.do("POST", "executions?identifier=abcd", small, "Test-Subject",
		"hostile"); got.status != 200 {
		t.Errorf("a small body of the same caller: %d %s", got.status, got.body)
	}
	other := strings.Replace(endpoint, "python", "Python2", 1)
	if got := w.raw("POST", other+"/executions?identifier=abcd", body, "Test-Subject",
		"honest"); got.status != 200 {
		t.Errorf("another caller in another pool: %d %s", got.status, got.body)
	}
}

// TestSlowReaders: callers who do not read large answers hold up themselves and, many of them,
// their pool, but never another's large answer, whose code has run by then.
func TestSlowReaders(t *testing.T) {
	w := newWorld(t, Options{})
	w.returns(agent.ExecuteResult{Outcome: agent.OK, Stdout: strings.Repeat("x", 20<<20)})
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for i := range 8 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		const body = `{"code":"1"}`
		fmt.Fprintf(conn, "POST %s/executions?identifier=slow-%d HTTP/1.1\r\nHost: x\r\n"+
			"Test-Subject: hostile-%d\r\nContent-Length: %d\r\n\r\n%s", endpoint, i, i%4, len(body),
			body)
	}
	// They hold as much as they may, when they have begun to get their answers or wait for their
	// turn.
	wait(t, func() bool { acquired, _ := w.counts(); return acquired == 8 })
	other := strings.Replace(endpoint, "python", "Python2", 1)
	started := time.Now()
	got := w.raw("POST", other+"/executions?identifier=abcd", `{"code":"1"}`, "Test-Subject",
		"honest")
	if got.status != 200 || len(got.body) < 20<<20 {
		t.Errorf("another caller in another pool: %d, %d bytes after %v", got.status, len(got.body),
			time.Since(started))
	}
	for _, c := range conns {
		c.Close()
	}
}

// TestAnswersComeBack: what a caller has taken of a large answer is memory again.
func TestAnswersComeBack(t *testing.T) {
	w := newWorld(t, Options{})
	const size = 32 << 20
	text := strings.Repeat("x", size)
	w.returns(agent.ExecuteResult{Outcome: agent.OK, Stdout: text})
	before := heap()
	resp, err := http.Post(w.url+endpoint+"/executions?identifier=abcd", "application/json",
		strings.NewReader(`{"code":"1"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n := grown(before, size+size/2); n < size/2 || n > size+size/2 {
		t.Errorf("%d MiB are held for an answer of %d MiB that nobody has read", n>>20, size>>20)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, size*3/4); err != nil {
		t.Fatal(err)
	}
	if n := grown(before, size/2); n > size/2 {
		t.Errorf("%d MiB are held for a quarter of an answer of %d MiB", n>>20, size>>20)
	}
	var rest bytes.Buffer
	if _, err := rest.ReadFrom(resp.Body); err != nil || rest.Len() < size/4 {
		t.Errorf("the rest: %d bytes, %v", rest.Len(), err)
	}
	runtime.KeepAlive(text)
}
