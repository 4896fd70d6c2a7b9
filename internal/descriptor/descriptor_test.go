package descriptor

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestRaise: the process has the limit that Raise says, and its children do not.
func TestRaise(t *testing.T) {
	childLimit := func() string {
		out, err := exec.Command("sh", "-c", "ulimit -n").Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	before := childLimit()
	limit, err := Raise()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok &&
			strings.Fields(rest)[0] != strconv.FormatUint(limit, 10) {
			t.Errorf("Raise says %d, the kernel %s", limit, rest)
		}
	}
	if after := childLimit(); after != before {
		t.Errorf("children may open %s files, before it were %s", after, before)
	}
}

func TestShare(t *testing.T) {
	for limit, want := range map[uint64]int{0: fewest, 256: 64, 20_000: 5_000, Wanted: most} {
		if got := Share(limit); got != want {
			t.Errorf("of %d descriptors connections get %d, want %d", limit, got, want)
		}
	}
}

// TestConns: silent connections give way to those with requests, which nothing ends.
func TestConns(t *testing.T) {
	const most = 4
	goOn := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter,
		r *http.Request) {
		if r.URL.Path == "/slow" {
			<-goOn
		}
		_, _ = io.WriteString(w, "served")
	}))
	conns := NewConns(most)
	watched := make(chan struct{}, 100)
	server.Config.ConnState = func(c net.Conn, s http.ConnState) {
		conns.Watch(c, s)
		if s == http.StateActive {
			watched <- struct{}{}
		}
	}
	server.Start()
	defer server.Close()
	addr := server.Listener.Addr().String()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	get := func(c net.Conn, path string) {
		if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	served := func(c net.Conn) {
		t.Helper()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Errorf("a request: %v", err)
			return
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "served" {
			t.Errorf("a request: %q, %v", body, err)
		}
	}
	var busy []net.Conn
	for range most - 1 {
		c := dial()
		get(c, "/slow")
		<-watched
		busy = append(busy, c)
	}
	first := dial()
	for range 50 {
		dial()
	}
	if _, err := first.Read(make([]byte, 1)); err == nil {
		t.Error("the connection that was silent for longest says something")
	}
	last := dial()
	get(last, "/")
	served(last)
	get(last, "/") // once more, on the connection that was idle
	served(last)
	close(goOn)
	for _, c := range busy {
		served(c)
	}
	conns.mu.Lock()
	defer conns.mu.Unlock()
	if len(conns.conns) > most || conns.idle.Len() > most {
		t.Errorf("%d connections are counted, %d without a request", len(conns.conns),
			conns.idle.Len())
	}
}
