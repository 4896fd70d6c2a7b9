package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// served starts an agent that is h, behind the protocol's real client.
func (w *world) served(h http.HandlerFunc) {
	server := httptest.NewServer(h)
	w.t.Cleanup(server.Close)
	w.agent = server.Listener.Addr().String()
}

// TestUploadsReachTheAgentWholeOrNotAtAll checks what the agent sees of uploads
// that end badly, and that the call after each works.
func TestUploadsReachTheAgentWholeOrNotAtAll(t *testing.T) {
	const limit = 4 << 20
	w := newWorldOf(t, Options{MaxUpload: limit}, nil)
	type seen struct {
		n   int64
		err error
	}
	arrived := make(chan seen, 1)
	w.served(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("path") == "refused" {
			control := http.NewResponseController(rw)
			_ = control.EnableFullDuplex() // the answer comes while the upload goes on
			_, _ = io.CopyN(io.Discard, r.Body, 1000)
			agent.WriteError(rw, sandpool.Errorf(sandpool.Conflict, "IsADirectory", "path",
				"There is a directory."))
			_ = control.Flush()
			_, _ = io.Copy(io.Discard, r.Body)
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		arrived <- seen{n, err}
		if err == nil {
			_, _ = io.WriteString(rw, `{"name":"a","path":"a","type":"file"}`)
		}
	})
	whole, kind := fileForm("a", strings.Repeat("x", limit))
	large, largeKind := fileForm("a", strings.Repeat("x", limit+1))
	refused, refusedKind := fileForm("refused", strings.Repeat("x", limit))
	for _, tt := range []struct {
		name, body, kind  string
		status            int
		reaches, complete bool
	}{
		{"whole", whole, kind, 200, true, true},
		{"too large", large, largeKind, 413, true, false},
		{"whole again", whole, kind, 200, true, true},
		{"refused in the middle", refused, refusedKind, 409, false, false},
		{"cut off", whole[:limit/2], kind, 400, true, false},
		{"whole once more", whole, kind, 200, true, true},
	} {
		got := w.do("POST", "files?identifier=abcd", tt.body, "Content-Type", tt.kind)
		if got.status != tt.status {
			t.Errorf("%s: %d %s, want %d", tt.name, got.status, got.body, tt.status)
		}
		if !tt.reaches {
			continue
		}
		select {
		case s := <-arrived:
			if (s.err == nil) != tt.complete || tt.complete && s.n != limit {
				t.Errorf("%s: the agent read %d bytes and %v", tt.name, s.n, s.err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: the upload did not reach the agent; the answer was %d %s", tt.name,
				got.status, got.body)
		}
	}
	if acquired, released := w.counts(); acquired != released {
		t.Errorf("acquired %d leases, released %d", acquired, released)
	}
}

// TestAgentThatAnswersEarly checks that an agent which was taken over cannot have the
// form read from two sides, which could end the server.
func TestAgentThatAnswersEarly(t *testing.T) {
	const limit = 32 << 20 // more than sockets hold
	w := newWorldOf(t, Options{MaxUpload: limit}, nil)
	answered := make(chan struct{})
	w.served(func(rw http.ResponseWriter, _ *http.Request) {
		conn, body, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		const praise = `{"name":"a","path":"a","type":"file"}`
		_, _ = fmt.Fprintf(conn,
			"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s",
			len(praise), praise)
		for n := 0; err == nil && n < limit/2; n += 4 << 10 {
			// the host goes on to read the form meanwhile
			_, err = io.CopyN(io.Discard, body, 4<<10)
		}
		<-answered // the file cannot have been sent whole
	})
	form, kind := fileForm("a", strings.Repeat("x", limit))
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			if got := w.do("POST", "files?identifier=abcd", form, "Content-Type",
				kind); got.status != 503 {
				t.Errorf("the answer is %d %s, want 503", got.status, got.body)
			}
		})
	}
	callers.Wait()
	close(answered)
}

// TestDownloadThroughTheAgent checks that ranges are the agent's to cut, and that
// a content cut short is not taken for a whole one.
func TestDownloadThroughTheAgent(t *testing.T) {
	w := newWorldOf(t, Options{}, nil)
	w.served(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("path") == "short" {
			rw.Header().Set("Content-Length", "1000000")
			_, _ = rw.Write(make([]byte, 500000))
			panic(http.ErrAbortHandler)
		}
		http.ServeContent(rw, r, "a.txt", newLease(w, "abcd").session.CreatedAt,
			bytes.NewReader([]byte("0123456789")))
	})
	got := w.do("GET", "files/a.txt/content?identifier=abcd", "", "Range", "bytes=2-4")
	if got.status != 206 || got.body != "234" || got.header.Get("Content-Range") != "bytes 2-4/10" {
		t.Errorf("range: %d %q %v", got.status, got.body, got.header)
	}
	resp, err := http.Get(w.url + endpoint + "/files/short/content?identifier=abcd")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("content that was cut short arrived as %d whole bytes", n)
	}
}

// TestExecuteThroughTheAgent checks the request that reaches the agent.
func TestExecuteThroughTheAgent(t *testing.T) {
	w := newWorldOf(t, Options{}, nil)
	var req agent.ExecuteRequest
	w.served(func(rw http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn,
			"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+
				agent.LinkProtocol+"\r\n\r\n")
		if err := agent.NewFrameReader(conn, 1<<20).Next(&req); err != nil {
			t.Error(err)
		}
		frame, err := agent.EncodeFrame(agent.Answer{Result: &agent.ExecuteResult{Outcome: agent.OK,
			HasValue: true, Text: "2"}})
		if err != nil {
			t.Error(err)
		}
		_, _ = conn.Write(frame)
	})
	got := w.do("POST", "executions?identifier=abcd",
		`{"code":"1+1","timeoutInSeconds":7,"outputStreamsMaxLength":99}`)
	if got.status != 200 || !reflect.DeepEqual(req, agent.ExecuteRequest{Code: "1+1",
		Timeout: 7 * time.Second, MaxOutput: 99}) {
		t.Errorf("answer %d %s; the agent got %+v", got.status, got.body, req)
	}
}
