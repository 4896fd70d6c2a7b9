package agent_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// clientOf returns a client of a sandbox whose agent is h.
func clientOf(t *testing.T, h http.HandlerFunc) *agent.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c := agent.NewClient(func(ctx context.Context, _ int) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
	}, "secret")
	t.Cleanup(c.Close)
	return c
}

// takeOver makes a link of the connection of a request.
func takeOver(t *testing.T, w http.ResponseWriter) net.Conn {
	t.Helper()
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn,
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+agent.LinkProtocol+
			"\r\n"+agent.RecordsHeader+": 1\r\n\r\n")
	return conn
}

// clientSaying returns a client of an agent that answers every execution on a link with what
// frame writes, and every other request with what body does.
func clientSaying(t *testing.T, body, frame func(io.Writer)) *agent.Client {
	t.Helper()
	return clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/link" {
			body(w)
			return
		}
		conn := takeOver(t, w)
		defer conn.Close()
		frames := agent.NewFrameReader(conn, 1<<20)
		var req agent.ExecuteRequest
		for frames.Next(&req) == nil {
			frame(conn)
		}
	})
}

// linked is the client of an agent that counts its links, and answers what they send as answer
// writes. It is asked for nothing else, whose answer a caller that leaves would wait for.
func linked(t *testing.T, links *atomic.Int32,
	answer func(w io.Writer, code string)) *agent.Client {
	t.Helper()
	return clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/link" {
			t.Errorf("the agent is asked for %s", r.URL.Path)
			return
		}
		links.Add(1)
		conn := takeOver(t, w)
		defer conn.Close()
		frames := agent.NewFrameReader(conn, 1<<20)
		for {
			var req agent.ExecuteRequest
			if frames.Next(&req) != nil {
				return
			}
			answer(conn, req.Code)
		}
	})
}

// TestLink checks that executions share a connection, that faults leave it open, and that one
// which was given up is not answered with the answer to another.
func TestLink(t *testing.T) {
	var links atomic.Int32
	left := make(chan struct{})
	c := linked(t, &links, func(w io.Writer, code string) {
		a := agent.Answer{Result: &agent.ExecuteResult{Outcome: agent.OK, Text: code}}
		switch code {
		case "late":
			<-left
		case "fault":
			a = agent.Answer{Fault: agent.FaultOf(sandpool.Errorf(sandpool.Invalid, "", "code",
				"no"))}
		case "empty":
			a = agent.Answer{}
		}
		frame, err := agent.EncodeFrame(a)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(frame)
	})
	if err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		code  string
		fits  func(error) bool
		links int32
	}{
		{"a", nil, 1}, {"b", nil, 1},
		{"fault", func(err error) bool { return sandpool.ClassOf(err) == sandpool.Invalid }, 1},
		{"c", nil, 1},
		{"late", func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }, 1},
		{"d", nil, 2},
		{"empty", func(err error) bool { return err != nil }, 2},
		{"e", nil, 3},
	} {
		patience := time.Minute
		if tt.code == "late" {
			patience = 100 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		res, err := c.Execute(ctx, agent.ExecuteRequest{Code: tt.code})
		cancel()
		if tt.code == "late" {
			close(left)
		}
		if tt.fits == nil && (err != nil || res.Text != tt.code) || tt.fits != nil &&
			!tt.fits(err) || links.Load() != tt.links {
			t.Errorf("%s: %q, %v, %d links, want %d", tt.code, res.Text, err, links.Load(),
				tt.links)
		}
	}
}

// TestOversizedAnswers checks that a sandbox cannot make the host read without end,
// and that the largest answers that are asked for still come through.
func TestOversizedAnswers(t *testing.T) {
	type answer struct {
		before, unit string
		size         int
	}
	// An answer that nobody reads to its end is still being sent when the next one is asked for.
	var next atomic.Pointer[answer]
	send := func(w io.Writer, a *answer, after string) {
		_, _ = io.WriteString(w, a.before)
		for n := 0; n < a.size; n += 60000 {
			if _, err := io.WriteString(w, strings.Repeat(a.unit, 60000/len(a.unit))); err != nil {
				return
			}
		}
		_, _ = io.WriteString(w, after)
	}
	c := clientSaying(t, func(w io.Writer) { send(w, next.Load(), `"}`) }, func(w io.Writer) {
		a := next.Load()
		length := len(a.before) + (a.size+59999)/60000*(60000/len(a.unit)*len(a.unit)) + len(`"}}`)
		_, _ = w.Write(binary.BigEndian.AppendUint32(nil, uint32(length)))
		send(w, a, `"}}`)
	})
	request := agent.ExecuteRequest{Code: "1", MaxOutput: 1 << 20}
	execute := func() error { _, err := c.Execute(t.Context(), request); return err }
	for _, tt := range []struct {
		name, before, unit string
		size               int
		call               func() error
		fits               bool
	}{
		{"control characters", `{"result":{"outcome":"ok","stdout":"`, `\u0001`, 6 << 20, execute,
			true},
		{"an endless answer", `{"result":{"outcome":"ok","stdout":"`, "xxxxxx", 64 << 20, execute,
			false},
		{"a long description", `{"runtime":"`, "xxxxxx", 1 << 20, func() error {
			_, err := c.KernelInfo(t.Context())
			return err
		}, true},
		{"an endless description", `{"runtime":"`, "xxxxxx", 5 << 20, func() error {
			_, err := c.KernelInfo(t.Context())
			return err
		}, false},
		{"an endless name", `{"name":"`, "xxxxxx", 5 << 20, func() error {
			_, err := c.Stat(t.Context(), "a")
			return err
		}, false},
		{"an endless listing", `[{"name":"`, "xxxxxx", 33 << 20, func() error {
			_, err := c.List(t.Context(), "", true, nil)
			return err
		}, false},
		{"an endless event", `{"record":{"number":1,"stdout":"`, "xxxxxx", 125 << 20, func() error {
			return c.ExecuteStream(t.Context(), request, func(agent.Event) error { return nil })
		}, false},
	} {
		next.Store(&answer{tt.before, tt.unit, tt.size})
		err := tt.call()
		if tt.fits != (err == nil) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if !tt.fits && (err == nil || !strings.Contains(err.Error(), "larger than")) {
			t.Errorf("%s: %v, which does not say that the answer is too large", tt.name, err)
		}
	}
}

// TestManySmallThings checks that a sandbox cannot fill the host's memory with entries that are
// larger in memory than in JSON.
func TestManySmallThings(t *testing.T) {
	few := func(unit string) string { return strings.TrimSuffix(strings.Repeat(unit+",", 3), ",") }
	many := func(unit string) string {
		return strings.TrimSuffix(strings.Repeat(unit+",", 100_000),
			",")
	}
	keys := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"%d":"",`, i)
		}
		return strings.TrimSuffix(b.String(), ",")
	}
	var body string
	say := func(w io.Writer) { _, _ = io.WriteString(w, body) }
	c := clientSaying(t, say, func(w io.Writer) {
		_, _ = w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(body))))
		say(w)
	})
	execute := func() error {
		_, err := c.Execute(t.Context(), agent.ExecuteRequest{Code: "1"})
		return err
	}
	list := func() error { _, err := c.List(t.Context(), "", true, nil); return err }
	for _, tt := range []struct {
		name string
		call func() error
		body string
		fits bool
	}{
		{"displays", execute, `{"result":{"displays":[` + few("{}") + `],"value":null}}`, true},
		{"no displays", execute, `{"result":{"displays":null}}`, true},
		{"too many displays", execute, `{"result":{"displays":[` + many("{}") + `]}}`, false},
		{"displays that are no list", execute, `{"result":{"displays":{}}}`, false},
		{"representations", execute, `{"result":{"value":{` + keys(3) + `}}}`, true},
		{"too many representations", execute, `{"result":{"value":{` + keys(100_000) + `}}}`,
			false},
		{"too many of a display", execute, `{"result":{"displays":[{"data":{` + keys(100_000) +
			`}}]}}`, false},
		{"files", list, `[` + few("{}") + `]`, true},
		{"too many files", list, `[` + many("{}") + `]`, false},
	} {
		body = tt.body
		if err := tt.call(); tt.fits != (err == nil) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestOversizedHeader checks that the header of an answer is bounded too.
func TestOversizedHeader(t *testing.T) {
	c := clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X", strings.Repeat("x", 128<<10))
		_, _ = io.WriteString(w, "{}")
	})
	if _, err := c.Stat(t.Context(), "a"); err == nil {
		t.Error("a header of 128 KiB was read")
	}
}

// TestFaults checks what of a sandbox's error reaches the caller.
func TestFaults(t *testing.T) {
	var body string
	c := clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, body)
	})
	for _, tt := range []struct {
		name, body string
		class      sandpool.Class
		known      bool
		code       string
	}{
		{"of the agent", `{"class":"not found","code":"FileNotFound","message":"m"}`,
			sandpool.NotFound, true, "FileNotFound"},
		{"internal", `{"class":"internal","message":"m"}`, sandpool.Internal, true, ""},
		{"a long code", `{"class":"not found","code":"` + strings.Repeat("x", 65) + `"}`,
			sandpool.NotFound, true, ""},
		{"a code of other letters", `{"class":"not found","code":"a\r\nb"}`, sandpool.NotFound,
			true, ""},
		{"with advice",
			`{"class":"unavailable","code":"Busy","message":"m","retryAfter":5000000000}`,
			sandpool.Unavailable, true, "Busy"},
		{"of the pool: ended", `{"class":"ended","message":"m"}`, sandpool.Internal, false, ""},
		{"of the pool: full", `{"class":"full","message":"m"}`, sandpool.Internal, false, ""},
		{"of nobody", `{"class":"x","message":"m"}`, sandpool.Internal, false, ""},
	} {
		body = tt.body
		_, err := c.Stat(t.Context(), "a")
		var e *sandpool.Error
		if known := errors.As(err, &e); err == nil || known != tt.known ||
			sandpool.ClassOf(err) != tt.class {
			t.Errorf("%s: %v (%v)", tt.name, err, sandpool.ClassOf(err))
		} else if known && e.Code != tt.code {
			t.Errorf("%s: code %q, want %q", tt.name, e.Code, tt.code)
		} else if known && (e.RetryAfter == 5*time.Second) != strings.Contains(
			tt.body, "retryAfter") {
			t.Errorf("%s: try again after %v", tt.name, e.RetryAfter)
		}
	}
}

// TestLongFaults checks that the message of a fault is bounded, whichever way it comes.
func TestLongFaults(t *testing.T) {
	fault := agent.FaultOf(sandpool.Errorf(sandpool.Invalid, "", "", "first %s",
		strings.Repeat("é", 25<<10)))
	c := clientSaying(t, func(w io.Writer) {
		w.(http.ResponseWriter).WriteHeader(http.StatusBadRequest)
		if err := json.NewEncoder(w).Encode(fault); err != nil {
			t.Error(err)
		}
	}, func(w io.Writer) {
		frame, err := agent.EncodeFrame(agent.Answer{Fault: fault})
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(frame)
	})
	_, byLink := c.Execute(t.Context(), agent.ExecuteRequest{Code: "1"})
	_, byHTTP := c.Stat(t.Context(), "a")
	for name, err := range map[string]error{"link": byLink, "HTTP": byHTTP} {
		var e *sandpool.Error
		if !errors.As(err, &e) || !strings.HasPrefix(e.Message, "first é") ||
			!utf8.ValidString(e.Message) || len(e.Message) > 20<<10 {
			t.Errorf("%s: %.100v, %v", name, err, sandpool.ClassOf(err))
		}
	}
}

// TestIdleConnection checks that a sandbox which has waited for hours is reached by the
// connection that it has.
func TestIdleConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		c := agent.NewClient(func(context.Context, int) (net.Conn, error) {
			dials++
			host, guest := net.Pipe()
			go func() {
				r := bufio.NewReader(guest)
				for {
					if _, err := http.ReadRequest(r); err != nil {
						return
					}
					if _, err := io.WriteString(guest,
						"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
						return
					}
				}
			}()
			return host, nil
		}, "secret")
		defer c.Close()
		for range 3 {
			if _, err := c.Stat(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
			<-time.After(5 * time.Hour)
		}
		if dials != 1 {
			t.Errorf("%d connections were made, want 1", dials)
		}
	})
}

// TestAttach checks that executions take an attached connection, and one to the port once it is
// broken.
func TestAttach(t *testing.T) {
	saying := func(text string) func(io.Writer) {
		return func(w io.Writer) {
			frame, err := agent.EncodeFrame(agent.Answer{Result: &agent.ExecuteResult{
				Outcome: agent.OK, Text: text}})
			if err != nil {
				t.Error(err)
			}
			_, _ = w.Write(frame)
		}
	}
	c := clientSaying(t, func(io.Writer) {}, saying("port"))
	near, far := net.Pipe()
	defer near.Close()
	c.Attach(near)
	go func() {
		var req agent.ExecuteRequest
		if err := agent.NewFrameReader(far, 1<<20).Next(&req); err != nil {
			t.Error(err)
		}
		saying("channel")(far)
		_ = far.Close()
	}()
	if res, err := c.Execute(t.Context(), agent.ExecuteRequest{Code: "1"}); err != nil ||
		res.Text != "channel" {
		t.Errorf("over the channel: %q, %v", res.Text, err)
	}
	if res, err := c.Execute(t.Context(), agent.ExecuteRequest{Code: "1"}); err == nil {
		t.Errorf("over a channel that is broken: %q", res.Text)
	}
	if res, err := c.Execute(t.Context(), agent.ExecuteRequest{Code: "1"}); err != nil ||
		res.Text != "port" {
		t.Errorf("after it: %q, %v", res.Text, err)
	}
}

// TestLinks checks that each execution which waits in the agent has a link of its own, that few
// are kept afterwards, and the channel among them.
func TestLinks(t *testing.T) {
	var open atomic.Int32
	begin := make(chan struct{})
	answer := func(conn net.Conn, name string) {
		frames := agent.NewFrameReader(conn, 1<<20)
		for {
			var req agent.ExecuteRequest
			if frames.Next(&req) != nil {
				return
			}
			if req.Code == "wait" {
				<-begin
			}
			frame, err := agent.EncodeFrame(agent.Answer{Result: &agent.ExecuteResult{
				Outcome: agent.OK, Text: name}})
			if err != nil {
				t.Error(err)
			}
			_, _ = conn.Write(frame)
		}
	}
	c := clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
		open.Add(1)
		defer open.Add(-1)
		conn := takeOver(t, w)
		defer conn.Close()
		answer(conn, "port")
	})
	near, far := net.Pipe()
	c.Attach(near)
	go answer(far, "channel")
	results := make(chan string)
	const callers = 20
	for range callers {
		go func() {
			res, err := c.Execute(t.Context(), agent.ExecuteRequest{Code: "wait"})
			results <- fmt.Sprint(res.Text, err)
		}()
	}
	for deadline := time.Now().Add(time.Minute); open.Load() < callers-1 &&
		time.Now().Before(deadline); {
		runtime.Gosched()
	}
	close(begin)
	got := map[string]int{}
	for range callers {
		got[<-results]++
	}
	if got["channel<nil>"] != 1 || got["port<nil>"] != callers-1 {
		t.Errorf("answers: %v", got)
	}
	for deadline := time.Now().Add(time.Minute); open.Load() > 4 && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	if n := open.Load(); n != 4 {
		t.Errorf("%d links are kept, want 4", n)
	}
	for range 3 {
		if res, err := c.Execute(t.Context(), agent.ExecuteRequest{Code: "1"}); err != nil ||
			res.Text != "channel" {
			t.Errorf("afterwards: %q, %v", res.Text, err)
		}
	}
}
