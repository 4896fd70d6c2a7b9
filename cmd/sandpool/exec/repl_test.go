package exec

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// liveServer answers cells by events: those of the cell's own text, or made here.
type liveServer struct {
	interrupted chan struct{}
	mu          sync.Mutex
	cells       []string
	deleted     int
	canceled    int
}

func (s *liveServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/metadata"):
		fmt.Fprint(w, `{"jupyterKernel":{"name":"ipython"}}`)
	case strings.HasSuffix(path, "/contexts"):
		fmt.Fprint(w, `{"value":[{"name":"default","kernel":"python"}]}`)
	case strings.HasSuffix(path, "/stopSession"):
		s.mu.Lock()
		s.deleted++
		s.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	case strings.HasSuffix(path, "/contexts/default/interrupt"):
		s.interrupted <- struct{}{}
	case r.Method == http.MethodDelete:
		s.mu.Lock()
		s.canceled++
		s.mu.Unlock()
	default:
		var req api.ExecuteRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil || req.Code == nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		s.cells = append(s.cells, *req.Code)
		s.mu.Unlock()
		s.answer(w, r, *req.Code)
	}
}

func (s *liveServer) answer(w http.ResponseWriter, r *http.Request, code string) {
	n := 0
	say := func(e api.ExecutionEvent) {
		n++
		e.Sequence = int64(n)
		if err := json.NewEncoder(w).Encode(e); err != nil {
			panic(http.ErrAbortHandler)
		}
		_ = http.NewResponseController(w).Flush()
	}
	result := api.Execution{ID: "e", SessionID: "first", Status: api.StatusSucceeded}
	result.Result.ExecutionResult = json.RawMessage(`"value"`)
	fail := func(name, message string) {
		result.Status, result.Result.ExecutionResult = api.StatusFailed, nil
		result.Result.Stderr = "Traceback\n" + name + ": " + message
		result.Result.ErrorName, result.Result.ErrorMessage = name, message
		result.Error = &api.ExecutionErrorBody{Error: api.ExecutionError{Code: name,
			Message: message}}
	}
	text, _ := strings.CutSuffix(code, "\n")
	if text == "wait" {
		say(api.ExecutionEvent{Type: api.EventStatus, Status: api.StatusNotStarted})
		say(api.ExecutionEvent{Type: api.EventStdout, Text: "waits\n"})
		<-r.Context().Done()
		return
	}
	say(api.ExecutionEvent{Type: api.EventStatus, Status: api.StatusRunning})
	switch text {
	case "sleep":
		say(api.ExecutionEvent{Type: api.EventStdout, Text: "sleeps"})
		select {
		case <-s.interrupted:
			fail("KeyboardInterrupt", "")
		case <-r.Context().Done():
			return
		}
	case "stubborn":
		say(api.ExecutionEvent{Type: api.EventStdout, Text: "stays\n"})
		select {
		case <-s.interrupted:
			say(api.ExecutionEvent{Type: api.EventStdout, Text: "no\n"})
		case <-r.Context().Done():
			return
		}
		<-r.Context().Done()
		return
	case "raise":
		fail("ValueError", "\x1b]52;c;eA==\x07no")
	case "exit()":
		fail("SystemExit", "3")
	case "attack":
		say(api.ExecutionEvent{Type: api.EventStdout, Text: "\x1b]52;c;cm0=\x07\x1b[31mred\x1b["})
		say(api.ExecutionEvent{Type: api.EventStdout, Text: "6n"})
		say(api.ExecutionEvent{Type: api.EventStderr, Text: "\x1b]0;title\x07err\n"})
		say(api.ExecutionEvent{Type: api.EventDisplay,
			Data: map[string]string{"text/plain": "\x1b[2Jshown"}})
		result.Result.ExecutionResult = json.RawMessage(`"\u001b_Ga=T;AAAA\u001b\\\u009b2Jlast"`)
	case "later":
		result.SessionID = "second"
	case "plot":
		say(api.ExecutionEvent{Type: api.EventDisplay,
			Data: map[string]string{"image/png": picture(2)}})
		result.Result.ExecutionResult = nil
	}
	say(api.ExecutionEvent{Type: api.EventResult, Execution: result})
}

// picture is a PNG.
func picture(size int) string {
	var out bytes.Buffer
	if err := png.Encode(&out, image.NewGray(image.Rect(0, 0, size, size))); err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(out.Bytes())
}

// person is somebody at a terminal that runs the command.
type person struct {
	t      *testing.T
	master *os.File
	code   chan int
	mu     sync.Mutex
	shown  []byte
	more   chan struct{}
	seen   int
}

// sit starts the command in a terminal.
func sit(t *testing.T, server http.Handler, c *Cmd) *person {
	t.Helper()
	master, slave := openPTY(t)
	srv := httptest.NewServer(server)
	t.Cleanup(srv.Close)
	c.Interactive, c.Pool = true, "python"
	if c.Figures == "" {
		c.Figures = t.TempDir()
	}
	for _, name := range []string{"TERM", "TERM_PROGRAM", "LC_TERMINAL", "KITTY_WINDOW_ID", "TMUX"} {
		if name != "KITTY_WINDOW_ID" || c.Context != "kitty" {
			if name == "TERM" && c.Context == "sixel" {
				continue
			}
			t.Setenv(name, "")
		}
	}
	p := &person{t: t, master: master, code: make(chan int, 1), more: make(chan struct{}, 1)}
	a := &console.App{Stdin: slave, Stdout: slave, Stderr: slave}
	a.Endpoint, a.Token, a.Output = srv.URL, "t", "table"
	go func() {
		p.code <- a.Report(c.Run(t.Context(), a))
		slave.Close()
	}()
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			p.mu.Lock()
			p.shown = append(p.shown, buf[:n]...)
			p.mu.Unlock()
			select {
			case p.more <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
	return p
}

func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "terminal")
	t.Cleanup(func() { master.Close() })
	slave, err = os.OpenFile("/dev/pts/"+strconv.FormatUint(uint64(number), 10),
		os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

func (p *person) types(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.master, text); err != nil {
		p.t.Fatal(err)
	}
}

// sees waits for text behind what was seen before, and returns what stands before it.
func (p *person) sees(text string) string {
	p.t.Helper()
	late := time.After(20 * time.Second)
	for {
		p.mu.Lock()
		rest := string(p.shown[p.seen:])
		p.mu.Unlock()
		if before, _, ok := strings.Cut(rest, text); ok {
			p.seen += len(before) + len(text)
			return before
		}
		select {
		case <-p.more:
		case <-late:
			p.t.Fatalf("the terminal does not show %q but %q", text, rest)
		}
	}
}

// leaves waits for the end of the command.
func (p *person) leaves(want int) {
	p.t.Helper()
	select {
	case code := <-p.code:
		if code != want {
			p.t.Errorf("exit code %d, want %d", code, want)
		}
	case <-time.After(20 * time.Second):
		p.t.Fatal("the command does not end")
	}
}

func TestConversation(t *testing.T) {
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	file := filepath.Join(state, "sandpool", "history-python")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("older\x1b[2J\n"+strings.Repeat("x\ny\n", mostLines)),
		0o644); err != nil {
		t.Fatal(err)
	}
	s := &liveServer{interrupted: make(chan struct{}, 1)}
	p := sit(t, s, &Cmd{})
	p.sees("python in session exec-")
	p.sees(">>> ")
	p.types("1\r")
	p.sees("\nvalue\r\n")
	p.sees(">>> ")
	p.types("def f():\r")
	p.sees("... ")
	p.types("\tpass\r")
	p.sees("... ")
	p.types("\r")
	p.sees("value")
	p.types("gone [\r")
	p.sees("... ")
	p.types("gone\x03")
	p.sees(">>> ")
	p.types("\x1b[A\x1b[A\x1b[A\x1b[A\r") // four lines back
	p.sees("value")
	p.types("\x1b[200~a = 1\r\rb = [\x1b[201~]\r") // pasted, with an empty line
	p.sees("value")
	p.sees(">>> ")
	p.types("\x04")
	p.leaves(console.ExitDone)
	if want := []string{"1\n", "def f():\n    pass\n\n", "1\n", "a = 1\n\nb = []\n"}; strings.Join(
		s.cells, "|") != strings.Join(want, "|") || s.deleted != 1 {
		t.Errorf("cells %q, want %q; %d sessions were deleted", s.cells, want, s.deleted)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the history: %v, %v", info, err)
	}
	h, err := openHistory("python")
	if err != nil || h.Len() != mostLines || h.At(0) != "b = []" || h.At(1) != "a = 1" {
		t.Errorf("the history has %d lines, %q and %q the last: %v", h.Len(), h.At(0), h.At(1), err)
	}
}

func TestCtrlC(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	s := &liveServer{interrupted: make(chan struct{}, 1)}
	p := sit(t, s, &Cmd{Session: "mine-1"})
	p.sees(">>> ")
	p.types("sleep\r")
	p.sees("sleeps")
	p.types("\x03")
	p.sees("\nTraceback\r\nKeyboardInterrupt")
	p.sees(">>> ")
	p.types("wait\r") // for another one, which is not interrupted
	p.sees("waits")
	p.types("\x03")
	p.sees("canceled")
	p.sees(">>> ")
	p.types("stubborn\r")
	p.sees("stays")
	p.types("\x03")
	p.sees("no")
	p.types("\x03")
	p.sees("canceled")
	p.sees(">>> ")
	p.types("exit()\r")
	p.leaves(3)
	if s.canceled != 2 || s.deleted != 0 || len(s.interrupted) != 0 {
		t.Errorf("%d were canceled, %d deleted, %d interrupts are left", s.canceled, s.deleted,
			len(s.interrupted))
	}
}

// TestHostileOutput has a session attack the terminal.
func TestHostileOutput(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	s := &liveServer{}
	p := sit(t, s, &Cmd{Session: "mine-1"})
	p.sees(">>> ")
	p.types("attack\r")
	if shown := p.sees(">>> "); shown != "attack\r\r\n\x1b[31mrederr\r\nshown\r\n\x1b[0mlast\r\n" {
		t.Errorf("the terminal got %q", shown)
	}
	p.types("raise\r")
	if shown := p.sees(">>> "); strings.Contains(shown, "\x1b") ||
		!strings.Contains(shown, "ValueError: no") {
		t.Errorf("the terminal got %q", shown)
	}
	p.types("\x04")
	p.leaves(console.ExitDone)
}

// TestBeganAnew: a session that ended while somebody thought is not taken for the one of before.
func TestBeganAnew(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	p := sit(t, &liveServer{}, &Cmd{Session: "mine-1"})
	for _, cell := range []string{"1", "2", "later"} {
		p.sees(">>> ")
		p.types(cell + "\r")
		if shown := p.sees("value"); strings.Contains(shown, "began it anew") != (cell == "later") {
			t.Errorf("%s: %q", cell, shown)
		}
	}
	p.types("\x04")
	p.leaves(console.ExitDone)
}

func TestFigures(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	dir := t.TempDir()
	p := sit(t, &liveServer{}, &Cmd{Session: "mine-1", Figures: dir})
	p.sees(">>> ")
	p.types("plot\r")
	p.sees("saved " + filepath.Join(dir, "figure-1.png"))
	p.types("exit\r")
	p.leaves(console.ExitDone)
	t.Setenv("KITTY_WINDOW_ID", "1")
	p = sit(t, &liveServer{}, &Cmd{Session: "mine-1", Figures: dir, Context: "kitty", Kernel: "python"})
	p.sees(">>> ")
	p.types("plot\r")
	p.sees("\x1b_Ga=T,f=100,q=2,m=0;")
	p.sees(">>> ")
	p.types("\x04")
	p.leaves(console.ExitDone)
	if names, err := filepath.Glob(dir + "/*"); err != nil || len(names) != 1 {
		t.Errorf("%q, %v", names, err)
	}
}

// TestSixels: a terminal that is asked and says so gets sixels; what it says is not typed, and what
// begins like it is.
func TestSixels(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("TERM", "xterm")
	for said, want := range map[string]string{"\x1b[?62;4;22c": "\x1bP0;0;8q", "\x1b[?62;22c": "saved ",
		"\x1b[?64;44;14c": "saved ", "\x1b[?4;4x": "saved "} {
		p := sit(t, &liveServer{}, &Cmd{Session: "mine-1", Context: "sixel", Kernel: "python"})
		p.sees(askFeatures)
		p.sees(">>> ")
		p.types("pl" + said + "ot\r") // the line editor drops sequences that it does not know
		p.sees(want)
		p.sees(">>> ")
		p.types("\x04")
		p.leaves(console.ExitDone)
	}
}

// TestSixelWidth: a session's figure of few pixels, all in one row, does not cost the terminal's
// side half a gigabyte.
func TestSixelWidth(t *testing.T) {
	for width, want := range map[int]bool{widestSixels: true, widestSixels + 1: false,
		2 << 20: false} {
		var out bytes.Buffer
		err := showSixel(&out, image.NewGray(image.Rect(0, 0, width, 1)))
		if (err == nil) != want || (out.Len() > 0) != want {
			t.Errorf("%d pixels wide: %d bytes, %v", width, out.Len(), err)
		}
	}
}

func TestGraphics(t *testing.T) {
	huge := picture(4097)
	for env, want := range map[string]string{"": "", "TERM=xterm-256color": "",
		"TERM=xterm-kitty": "\x1b_G", "KITTY_WINDOW_ID=3": "\x1b_G", "TERM_PROGRAM=ghostty": "\x1b_G",
		"TERM_PROGRAM=iTerm.app": "\x1b]1337;", "TERM_PROGRAM=WezTerm": "\x1b]1337;",
		"LC_TERMINAL=iTerm2": "\x1b]1337;", "KITTY_WINDOW_ID=3 TMUX=a": "",
		"LC_TERMINAL=iTerm2 TERM=screen-256color": ""} {
		g := graphicsOf(func(name string) string {
			for _, pair := range strings.Fields(env) {
				if value, ok := strings.CutPrefix(pair, name+"="); ok {
					return value
				}
			}
			return ""
		})
		for _, bad := range []api.Image{{}, {Data: "!"}, {Data: "aGVsbG8="},
			{Data: huge}, {Format: "png", Data: picture(1)[:60]}} {
			var out bytes.Buffer
			if err := g.show(&out, bad); err == nil || out.Len() > 0 {
				t.Errorf("%s: %q is shown as %q", env, bad.Format, &out)
			}
		}
		// What follows the picture in the session's bytes does not reach the terminal.
		data, err := base64.StdEncoding.DecodeString(picture(9))
		if err != nil {
			t.Fatal(err)
		}
		evil := base64.StdEncoding.EncodeToString(append(data, "evil evil evil"...))
		var out bytes.Buffer
		err = g.show(&out, api.Image{Data: evil})
		if (err == nil) != (want != "") || !strings.HasPrefix(out.String(), want) ||
			strings.Contains(out.String(), evil[len(evil)-12:]) {
			t.Errorf("%s: %q, %v; want %q", env, &out, err, want)
		}
	}
}
