package agent_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// TestHostileTerminal: whatever an agent sends, the host reads no more than a frame and
// takes for the end of a shell only what says so.
func TestHostileTerminal(t *testing.T) {
	const upgraded = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " +
		agent.TerminalProtocol + "\r\n\r\n"
	var answer string
	c := clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, answer)
	})
	data := func(s string) string {
		var b bytes.Buffer
		if err := agent.NewTerminalWriter(&b).Send(agent.TerminalData, []byte(s)); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	long := strings.Repeat("x", agent.MaxTerminalData)
	for _, tt := range []struct {
		name, answer, output string
		exit                 *agent.TerminalExit
		opens                bool
	}{
		{"honest", upgraded + data("a") + data("b") + "\x02\x00\x00\x00\x02\x07\x00", "ab",
			&agent.TerminalExit{Code: 7}, true},
		{"more than a header holds", upgraded + strings.Repeat(data(long), 5) +
			"\x02\x00\x00\x00\x02\x00\x09", strings.Repeat(long, 5), &agent.TerminalExit{Signal: 9},
			true},
		{"data after the end", upgraded + "\x02\x00\x00\x00\x02\x07\x00" + data("late"), "",
			&agent.TerminalExit{Code: 7}, true},
		{"no end", upgraded + data("a"), "a", nil, true},
		{"half a frame", upgraded + data("a") + "\x00\x00\x00\x00\x05ab", "a", nil, true},
		{"half a head", upgraded + data("a") + "\x02\x00", "a", nil, true},
		{"an endless frame", upgraded + data("a") + "\x00\xff\xff\xff\xff", "a", nil, true},
		{"an empty frame", upgraded + data("a") + "\x00\x00\x00\x00\x00", "a", nil, true},
		{"a size", upgraded + "\x01\x00\x00\x00\x04\x00\x01\x00\x01", "", nil, true},
		{"an end of no meaning", upgraded + "\x02\x00\x00\x00\x01\x00", "", nil, true},
		{"an unknown kind", upgraded + "\x03\x00\x00\x00\x02\x00\x00", "", nil, true},
		{"no answer", "", "", nil, false},
		{"no upgrade", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", nil, false},
		{"another protocol", strings.Replace(upgraded, agent.TerminalProtocol, agent.LinkProtocol,
			1), "", nil, false},
		{"an endless header", "HTTP/1.1 101 Switching Protocols\r\nX: " +
			strings.Repeat("x", 128<<10), "", nil, false},
	} {
		answer = tt.answer
		term, err := c.Terminal(t.Context(), agent.TerminalSize{Columns: 80, Rows: 24})
		if (err == nil) != tt.opens {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err != nil {
			continue
		}
		out, err := io.ReadAll(term)
		exit, ended := term.Exit()
		if string(out) != tt.output || ended != (tt.exit != nil) || (err == nil) != ended ||
			ended && exit != *tt.exit {
			t.Errorf("%s: %d bytes, %+v %v, %v", tt.name, len(out), exit, ended, err)
		}
		if err := term.Close(); err != nil {
			t.Error(err)
		}
		if _, err := term.Write([]byte("x")); err == nil {
			t.Errorf("%s: input after the end", tt.name)
		}
	}
}

// TestHostileProcesses: neither the bytes of a list nor their number are the agent's to choose.
func TestHostileProcesses(t *testing.T) {
	var body string
	c := clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, body)
	})
	for _, tt := range []struct {
		name, body string
		n          int
		fits       bool
	}{
		{"honest", `[{"pid":1,"command":"\u0000é"},{"pid":2}]`, 2, true},
		{"empty", `[]`, 0, true},
		{"as many as can be", "[" + strings.Repeat("{},", agent.MaxProcesses-1) + "{}]",
			agent.MaxProcesses, true},
		{"too many", "[" + strings.Repeat("{},", agent.MaxProcesses) + "{}]", 0, false},
		{"too long", `[{"command":"` + strings.Repeat("x", 8<<20) + `"}]`, 0, false},
		{"not a list", `{"pid":1}`, 0, false},
		{"nothing", ``, 0, false},
	} {
		body = tt.body
		all, err := c.Processes(t.Context())
		if (err == nil) != tt.fits || len(all) != tt.n {
			t.Errorf("%s: %d processes, %v", tt.name, len(all), err)
		}
	}
}

// TestTerminalFrames: a frame larger than readers take is not sent.
func TestTerminalFrames(t *testing.T) {
	var b bytes.Buffer
	err := agent.NewTerminalWriter(&b).Send(agent.TerminalData, make([]byte, agent.MaxTerminalData+
		1))
	if err == nil || b.Len() > 0 {
		t.Errorf("%d bytes sent, %v", b.Len(), err)
	}
	for _, size := range []agent.TerminalSize{{Columns: 1, Rows: 1000}, {Columns: 300, Rows: 2}} {
		if got, err := agent.DecodeTerminalSize(size.Encode()); got != size || err != nil {
			t.Errorf("%+v became %+v, %v", size, got, err)
		}
	}
	if _, err := agent.DecodeTerminalSize([]byte{0, 0, 0, 1}); sandpool.ClassOf(
		err) != sandpool.Invalid {
		t.Errorf("no columns: %v", err)
	}
}

func FuzzTerminalReader(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x01a\x02\x00\x00\x00\x02\x07\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := agent.NewTerminalReader(iotest.OneByteReader(bytes.NewReader(data)))
		var again bytes.Buffer
		w := agent.NewTerminalWriter(&again)
		for {
			kind, body, err := r.Next()
			if errors.Is(err, io.EOF) && again.Len() != len(data) {
				t.Errorf("%d of %d bytes were frames", again.Len(), len(data))
			}
			if err != nil {
				break
			}
			if err := w.Send(kind, body); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(data, again.Bytes()) {
			t.Error("the frames are not those that were sent")
		}
	})
}
