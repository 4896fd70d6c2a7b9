package guest_test

import (
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// TestInit: nothing answers before init, init is accepted once, and then only with
// the secret.
func TestInit(t *testing.T) {
	s := boot(t)
	calls := []string{"POST /execute", "POST /link", "POST /interrupt", "GET /metadata",
		"GET /processes", "POST /terminal", "GET /files", "GET /stat", "GET /file", "PUT /file",
		"DELETE /file", "POST /directory"}
	each := func(token string, want int) {
		t.Helper()
		for _, call := range calls {
			method, path, _ := strings.Cut(call, " ")
			if status, body := s.raw(t, method, path, token, "{}"); status != want {
				t.Errorf("%s with %q: %d %s, want %d", call, token, status, body, want)
			}
		}
	}
	each("", 503)
	each("secret", 503)
	secret := rand.Text()
	c := agent.NewClient(s.dial, secret)
	defer c.Close()
	for _, bad := range []agent.InitRequest{{}, {Secret: "short", Seed: make([]byte, 32)},
		{Secret: secret, Seed: make([]byte, 8)}} {
		_, err := c.Init(t.Context(), bad)
		if sandpool.ClassOf(err) != sandpool.Invalid {
			t.Errorf("init %+v: %v", bad, err)
		}
	}
	req := agent.InitRequest{Secret: secret, Seed: make([]byte, 32),
		Time: time.Now().Add(-time.Hour)}
	res, err := c.Init(t.Context(), req)
	if err != nil || res.Skew < time.Hour || res.Skew > time.Hour+time.Minute {
		t.Fatalf("init: %+v, %v", res, err)
	}
	if _, err := c.Init(t.Context(), req); sandpool.ClassOf(err) != sandpool.Conflict {
		t.Errorf("second init: %v", err)
	}
	each("", 401)
	each("wrong", 401)
	each(secret+"x", 401)
	s.Client = c
	if res := s.run(t, "In, len(Out), _"); res.Text != "(['', 'In, len(Out), _'], 0, '')" {
		t.Errorf("what users find of the warm-up: %s", res.Text)
	}
	for code, want := range map[string]string{
		"import sys; [k for k in dir(sys) if k.startswith('last_')]":                    "[]",
		"import linecache; len([k for k in linecache.cache if 'ipython' in k])":         "N",
		"len(get_ipython().compile._filename_map)":                                      "N",
		"get_ipython().SyntaxTB.last_syntax_error, get_ipython().last_execution_result": "(None, None)",
		"%debug": "",
		"%tb":    "",
	} {
		res := s.run(t, code)
		if want == "N" { // this cell and those before it
			want = s.run(t, "len(In) - 2").Text
		}
		if res.Text != want || strings.Contains(res.Stdout+res.Stderr, "1/0") ||
			res.Outcome != agent.OK {
			t.Errorf("what users find of the warm-up in %s: %q, %q, error %+v; want %q", code,
				res.Text, res.Stdout+res.Stderr, res.Error, want)
		}
	}
	meta, err := c.KernelInfo(t.Context())
	if err != nil || meta.Runtime != "python" || !strings.HasPrefix(meta.Version, "3.") ||
		len(meta.Packages) < 10 {
		t.Errorf("metadata: %+v, %v", meta, err)
	}
}

// TestChannel: on its standard input the agent answers executions without a secret, until
// that ends or does not hold what it should; its port serves on.
func TestChannel(t *testing.T) {
	for name, end := range map[string]func(*net.UnixConn) error{
		"an end": (*net.UnixConn).CloseWrite,
		"nonsense": func(conn *net.UnixConn) error {
			_, err := conn.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := socketPair(t)
			s := bootOn(t, far)
			_ = far.Close() // the agent has its own
			if err := near.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			answers := agent.NewFrameReader(near, 1<<20)
			for _, tt := range []struct {
				req  agent.ExecuteRequest
				want string
			}{
				{agent.ExecuteRequest{Code: "x = 6 * 7"}, ""}, {agent.ExecuteRequest{Code: "x"},
					"42"},
				{agent.ExecuteRequest{Timeout: -1}, "invalid"}, {
					agent.ExecuteRequest{Code: "x + 1"}, "43"},
			} {
				frame, err := agent.EncodeFrame(tt.req)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := near.Write(frame); err != nil {
					t.Fatal(err)
				}
				var a agent.Answer
				if err := answers.Next(&a); err != nil {
					t.Fatalf("%+v: %v", tt.req, err)
				}
				if got := textOf(a); got != tt.want {
					t.Errorf("%+v: %q, want %q", tt.req, got, tt.want)
				}
			}
			if err := end(near); err != nil {
				t.Fatal(err)
			}
			if n, err := near.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("after it the agent says %d bytes, %v; want the end of the file", n, err)
			}
			if status, body := s.raw(t, "GET", "/ready", "", ""); status != 200 {
				t.Errorf("its port says %d %s", status, body)
			}
		})
	}
}

// textOf returns the text of an answer's result, or the class of its fault.
func textOf(a agent.Answer) string {
	switch {
	case a.Fault != nil:
		return a.Fault.Class
	case a.Result != nil:
		return a.Result.Text
	}
	return "neither a result nor a fault"
}

// TestSeed: clones with different seeds differ, those with the same do not, and
// neither does a replaced kernel repeat its forerunner.
func TestSeed(t *testing.T) {
	draw := func(s *sandbox) string {
		return s.run(t, "import random, numpy as np; (random.random(), np.random.rand())").Text
	}
	var first, second [2]string
	for i, seed := range []byte{1, 2} {
		s := boot(t)
		s.Client = agent.NewClient(s.dial, "a secret of tests")
		defer s.Close()
		if _, err := s.Init(t.Context(), agent.InitRequest{Secret: "a secret of tests",
			Seed: []byte(strings.Repeat(string(rune(seed)), 32))}); err != nil {
			t.Fatal(err)
		}
		first[i] = draw(s)
		s.run(t, "import os; os._exit(0)")
		second[i] = draw(s)
	}
	all := map[string]bool{first[0]: true, first[1]: true, second[0]: true, second[1]: true}
	if len(all) != 4 || all[""] {
		t.Errorf("draws repeat: %q %q", first, second)
	}
}

// TestStream: output arrives while the cell runs, in order, and the result last.
func TestStream(t *testing.T) {
	s := start(t)
	var got []string
	// The cell goes on only when what it has put out has arrived.
	const code = `import os, sys, time
def arrived(name):
  while not os.path.exists(name): time.sleep(.01)
print('a'); arrived('1')
print('b', file=sys.stderr); arrived('2')
display({'text/plain': 'c'}, raw=True); arrived('3')
print('é'); 7`
	err := s.ExecuteStream(t.Context(), agent.ExecuteRequest{Code: code},
		func(ev agent.Event) error {
			switch {
			case ev.Stdout == "\n" || ev.Stderr == "\n": // print writes it by itself
				got[len(got)-1] += "\n"
			case ev.Stdout != "":
				got = append(got, "out "+ev.Stdout)
			case ev.Stderr != "":
				got = append(got, "err "+ev.Stderr)
			case ev.Display != nil:
				got = append(got, "display "+ev.Display.Data["text/plain"])
			case ev.Result != nil:
				got = append(got, fmt.Sprintf("result %s %q %q", ev.Result.Text, ev.Result.Stdout,
					ev.Result.Stderr))
			}
			return os.WriteFile(filepath.Join(s.data, strconv.Itoa(len(got))), nil, 0o600)
		})
	want := `["out a\n" "err b\n" "display c" "out é\n" "result 7 \"a\\né\\n\" \"b\\n\""]`
	if err != nil || fmt.Sprintf("%q", got) != want {
		t.Errorf("events %q, want %s; %v", got, want, err)
	}
}

// TestBounds: requests beyond the bounds are refused with the field that is at fault.
func TestBounds(t *testing.T) {
	s := start(t)
	for _, req := range []agent.ExecuteRequest{
		{Code: strings.Repeat("#", agent.MaxCode+1)},
		{Timeout: -1}, {MaxOutput: -1},
	} {
		_, err := s.Execute(t.Context(), req)
		if c := sandpool.ClassOf(err); c != sandpool.Invalid && c != sandpool.TooLarge {
			t.Errorf("code of %d, %v, %d: %v", len(req.Code), req.Timeout, req.MaxOutput, err)
		}
	}
	res, err := s.Execute(t.Context(), agent.ExecuteRequest{Code: "print('x' * 100)",
		MaxOutput: 10})
	if err != nil || !res.StdoutTruncated ||
		res.Stdout != "xxxxx\n[... 91 bytes left out ...]\nxxxx\n" {
		t.Errorf("bounded output: %q, %v", res.Stdout, err)
	}
}

// TestLargeCode: whatever code keeps the bound is run, however JSON writes it. It is the size that
// counts here, and not the time: under the race detector 96 MiB of JSON take minutes.
func TestLargeCode(t *testing.T) {
	s := start(t)
	for unit, n := range map[string]int{"<": agent.MaxCode, "\x01": agent.MaxCode} {
		n -= 32
		res := s.runFor(t, 10*time.Minute, "x = '"+strings.Repeat(unit, n)+"'\nlen(x)")
		if res.Text != fmt.Sprint(n) {
			t.Errorf("%d of %q: %q, error %+v", n, unit, res.Text, res.Error)
		}
	}
}
