package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
	"github.com/sandpool/sandpool/cmd/sandpool/exec"
)

// fakeServer is a server whose cells all end alike; it remembers what it was asked.
type fakeServer struct {
	execution string // body of every answer to executions
	status    int    // of it; 0 is 200
	code      string // of the last execution
	timeout   int    // of the last execution, in seconds
	gone      bool   // sessions have ended before they are deleted
	calls     []string
}

func (f *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, rest, _ := strings.Cut(r.URL.Path, "/sessionPools/")
	f.calls = append(f.calls, r.Method+" "+rest)
	switch {
	case strings.HasSuffix(rest, "/executions"):
		var req api.ExecuteRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err == nil && req.Code != nil {
			f.code = *req.Code
			if req.TimeoutInSeconds != nil {
				f.timeout, _ = strconv.Atoi(req.TimeoutInSeconds.String())
			}
		}
		if f.status != 0 {
			w.WriteHeader(f.status)
		}
		fmt.Fprint(w, f.execution)
	case strings.HasSuffix(rest, "/.management/stopSession") && f.gone:
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w,
			`{"error":{"code":"SessionWithIdentifierNotFound","message":"There is no session."}}`)
	case strings.HasSuffix(rest, "/.management/stopSession"):
		w.WriteHeader(http.StatusNoContent)
	default:
		http.NotFound(w, r)
	}
}

// TestTimes: a time on the command line is a number of seconds, or has units.
func TestTimes(t *testing.T) {
	for text, want := range map[string]int{"2": 2, "2.0": 2, "90": 90, "3s": 3, "2m": 120, "": 0,
		"two": 0, "-1": 0, "1e400": 0, "NaN": 0} {
		f := &fakeServer{execution: ok}
		got := command(t, f, "", "exec", "1", "--timeout", text)
		if want == 0 && (got.code != console.ExitUsage ||
			!strings.Contains(got.stderr, "timeout")) || want > 0 &&
			(got.code != console.ExitDone || f.timeout != want) {
			t.Errorf("--timeout %q: %d s, %+v; want %d s", text, f.timeout, got, want)
		}
	}
}

// outcome is what a command left behind.
type outcome struct {
	code           int
	stdout, stderr string
}

// command runs the command line against f, with stdin.
func command(t *testing.T, f http.Handler, stdin string, args ...string) outcome {
	t.Helper()
	if f != nil {
		srv := httptest.NewServer(f)
		t.Cleanup(srv.Close)
		t.Setenv("SANDPOOL_ENDPOINT", srv.URL)
		t.Setenv("SANDPOOL_TOKEN", "t")
	}
	t.Setenv("SANDPOOL_CONFIG", filepath.Join(t.TempDir(), "none.yaml"))
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(stdin), &stdout, &stderr)
	return outcome{code, stdout.String(), stderr.String()}
}

const ok = `{"status":"Succeeded","result":{"stdout":"hi","stderr":"warned","executionResult":"'x'"}}`

func TestExecPutsEachThingInItsPlace(t *testing.T) {
	f := &fakeServer{execution: ok}
	got := command(t, f, "", "exec", "print('hi'); 'x'")
	if got.code != console.ExitDone || got.stdout != "hi\n'x'\n" ||
		!strings.HasPrefix(got.stderr, "warned\n") && !strings.Contains(got.stderr, "\nwarned\n") {
		t.Errorf("%+v", got)
	}
	if f.code != "print('hi'); 'x'" {
		t.Errorf("the server got %q", f.code)
	}
	if want := []string{"POST python/executions",
		"POST python/.management/stopSession"}; strings.Join(f.calls, ",") != strings.Join(
		want, ",") {
		t.Errorf("calls = %q, want %q", f.calls, want)
	}
}

func TestExecKeepsWhatIsNamed(t *testing.T) {
	for _, args := range [][]string{{"--session", "mine"}, {"--identifier", "mi+ne"}, {"--keep"}} {
		f := &fakeServer{execution: ok}
		got := command(t, f, "", append([]string{"exec", "1"}, args...)...)
		if got.code != console.ExitDone || len(f.calls) != 1 {
			t.Errorf("%q: %+v, calls %q; want one call", args, got, f.calls)
		}
	}
}

func TestExecSource(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.py")
	if err := os.WriteFile(file, []byte("from file"), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "code")
	if err := os.WriteFile(plain, []byte("from plain"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want string // code that the server gets; "" means a usage error
	}{
		{[]string{"-c", "6*7"}, "6*7"},
		{nil, "from stdin"},
		{[]string{"-"}, "from stdin"},
		{[]string{file}, "from file"},
		{[]string{plain}, "from plain"},
		{[]string{"print(6*7)"}, "print(6*7)"},
		{[]string{"open('x.py')"}, "open('x.py')"},
		{[]string{"22/7"}, "22/7"},
		{[]string{"foo/bar.txt"}, ""},
		{[]string{"/nonexistent/file"}, ""},
		{[]string{"-c", ""}, ""},
		{[]string{filepath.Join(dir, "typo.py")}, ""},
		{[]string{file, "-c", "1"}, ""},
		{[]string{"1", "--timeout", "-1s"}, ""},
		{[]string{"1", "--keep", "--session", "abcd"}, ""},
		{[]string{dir}, "error"},
	} {
		f := &fakeServer{execution: ok}
		got := command(t, f, "from stdin", append([]string{"exec"}, tt.args...)...)
		switch {
		case tt.want == "error":
			if got.code == console.ExitDone || len(f.calls) > 0 {
				t.Errorf("%q: %+v, calls %q; want an error before any call", tt.args, got, f.calls)
			}
		case tt.want == "" && (got.code != console.ExitUsage || len(f.calls) > 0):
			t.Errorf("%q: %+v, calls %q; want exit code 2 and no call", tt.args, got, f.calls)
		case tt.want != "" && f.code != tt.want:
			t.Errorf("%q: the server got %q, want %q", tt.args, f.code, tt.want)
		}
	}
}

func TestExecFails(t *testing.T) {
	f := &fakeServer{
		execution: `{"status":"Failed","result":{"stdout":"","stderr":"Traceback: boom","executionResult":""},"error":{"error":{"code":"ValueError","message":"boom"}}}`}
	if got := command(t, f, "", "exec", "1/0"); got.code != console.ExitNegative ||
		got.stdout != "" || !strings.Contains(got.stderr, "Traceback: boom\n") {
		t.Errorf("%+v", got)
	}
	f = &fakeServer{status: http.StatusForbidden,
		execution: `{"error":{"code":"AuthorizationFailed","message":"needs role session-executor","traceId":"abc"}}`}
	if got := command(t, f, "", "exec", "1"); got.code != console.ExitTrouble ||
		!strings.Contains(got.stderr, "needs role session-executor") ||
		strings.Contains(got.stderr, "abc") {
		t.Errorf("%+v", got)
	}
}

func TestExecInAFailedPool(t *testing.T) {
	f := &fakeServer{status: http.StatusServiceUnavailable,
		execution: `{"error":{"code":"SessionPoolFailed","message":"no","traceId":"abc"}}`}
	got := command(t, f, "", "exec", "1")
	if got.code != console.ExitTrouble || !strings.Contains(got.stderr, "sandpool pool status") ||
		!strings.Contains(got.stderr, "abc") {
		t.Errorf("%+v", got)
	}
}

const png = `{"type":"image","format":"png","base64_data":"aGVsbG8="}`

func TestExecSavesFigures(t *testing.T) {
	dir := t.TempDir()
	taken := filepath.Join(dir, "figure-1.png")
	if err := os.WriteFile(taken, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	// The format comes from the sandbox: it must not lead out of the directory.
	evil := `{"type":"image","format":"/../../evil","base64_data":"aGVsbG8="}`
	f := &fakeServer{execution: `{"status":"Succeeded","result":{"executionResult":` + png +
		`,"images":[` + png + `,` + evil + `]}}`}
	got := command(t, f, "", "exec", "plot()", "--figures", dir, "-o", "json")
	var out exec.Output
	if err := json.Unmarshal([]byte(got.stdout), &out); err != nil {
		t.Fatalf("stdout is not one JSON document: %v\n%s", err, got.stdout)
	}
	want := []string{filepath.Join(dir, "figure-2.png"), filepath.Join(dir, "figure-3.bin")}
	if strings.Join(out.Figures, ",") != strings.Join(want, ",") || string(out.Result) != `""` {
		t.Errorf("figures = %q, result %s; want %q", out.Figures, out.Result, want)
	}
	for name, content := range map[string]string{taken: "mine", want[0]: "hello",
		want[1]: "hello"} {
		if b, err := os.ReadFile(name); err != nil || string(b) != content {
			t.Errorf("%s holds %q, %v; want %q", name, b, err, content)
		}
	}
	if !strings.Contains(got.stderr, "saved "+want[0]) {
		t.Errorf("stderr does not name the figure: %s", got.stderr)
	}
}

func TestWhereTheServerIsKnownFrom(t *testing.T) {
	got := command(t, nil, "", "pool", "list")
	if got.code != console.ExitUsage || !strings.Contains(got.stderr, "sandpool serve") ||
		!strings.Contains(got.stderr, "none.yaml") {
		t.Errorf("without any configuration: %+v", got)
	}
	t.Setenv("SANDPOOL_ENDPOINT", "http://127.0.0.1:1")
	if got := command(t, nil, "", "pool", "list"); got.code != console.ExitUsage ||
		!strings.Contains(got.stderr, "token") {
		t.Errorf("without a token: %+v", got)
	}
	t.Setenv("SANDPOOL_TOKEN", "t")
	if got := command(t, nil, "", "pool", "list"); got.code != console.ExitTrouble ||
		!strings.Contains(got.stderr, "sandpool serve") {
		t.Errorf("without a server: %+v", got)
	}
}

func TestWhatToDoWithoutAnAnswer(t *testing.T) {
	secure := httptest.NewUnstartedServer(&fakeServer{})
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // a handshake that fails is no news
	secure.StartTLS()
	defer secure.Close()
	plain := httptest.NewServer(&fakeServer{})
	defer plain.Close()
	t.Setenv("SANDPOOL_TOKEN", "t")
	for endpoint, want := range map[string]string{
		secure.URL: "SSL_CERT_FILE", strings.Replace(plain.URL, "http:", "https:", 1): "http://",
		"http://127.0.0.1:1": "Is the server running?",
	} {
		t.Setenv("SANDPOOL_ENDPOINT", endpoint)
		got := command(t, nil, "", "pool", "list")
		if got.code != console.ExitTrouble || !strings.Contains(got.stderr, want) ||
			strings.Contains(got.stderr, "running?") != strings.Contains(want, "running?") {
			t.Errorf("%s: %+v, want %q", endpoint, got, want)
		}
	}
}

func TestFileTokenStaysWithItsServer(t *testing.T) {
	var auth string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth = r.Header.Get("Authorization")
		_, _ = io.WriteString(w, `{"value":[]}`)
	}))
	defer srv.Close()
	conf := filepath.Join(t.TempDir(), "client.yaml")
	if err := os.WriteFile(conf, []byte("endpoint: "+srv.URL+"\ntoken: from-file\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SANDPOOL_CONFIG", conf)
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"pool", "list", "-o", "json"}, nil, &stdout,
		&stderr); code != 0 || auth != "Bearer from-file" || stdout.String() != "[]\n" {
		t.Errorf("exit %d, Authorization %q, stdout %q, stderr %s", code, auth, stdout.String(),
			stderr.String())
	}
	if code := run(t.Context(), []string{"pool", "list", "--endpoint", "http://127.0.0.1:1"}, nil,
		io.Discard, io.Discard); code != console.ExitUsage {
		t.Errorf("the file's token went to another endpoint: exit %d", code)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"bogus"}, {"exec", "--bogus"}, {"session", "show"},
		{"pool", "create"},
		{"pool", "show", "a", "--name", "b"}, {"files", "upload", "-", "--session", "abcd"}, {
			"token", "create", "x", "--role", "king"},
		{"pool", "update", "abc"}, {"pool", "update", "abc", "--no-wait"}, {"pool", "create", "abc",
			"--cpu", "nan"}} {
		if got := command(t, &fakeServer{}, "", args...); got.code != console.ExitUsage ||
			got.stdout != "" || got.stderr == "" {
			t.Errorf("%q: %+v; want exit code 2 and a message on stderr", args, got)
		}
	}
	for _, args := range [][]string{{"exec", "1"}, {"files", "list"}, {"session", "delete"}} {
		for _, name := range []string{"wei rd", "weiü", "abc", ""} {
			f := &fakeServer{}
			got := command(t, f, "", append(args, "--session", name)...)
			if got.code != console.ExitUsage || !strings.Contains(got.stderr, "identifier") ||
				len(f.calls) > 0 {
				t.Errorf("%q --session %q: %+v, calls %q; want exit code 2 and no call", args, name,
					got, f.calls)
			}
		}
	}
	if got := command(t, nil, "", "exec", "--help"); got.code != console.ExitDone ||
		got.stdout == "" {
		t.Errorf("--help: %+v", got)
	}
}

func TestPoolFlagsReachTheServer(t *testing.T) {
	var body map[string]any
	f := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w,
			`{"error":{"code":"SessionPoolNotSupported","message":"no custom containers","details":[{"code":"x","target":"properties.secrets","message":"no secrets"}]}}`)
	})
	got := command(t, f, "", "pool", "create", "--name", "web", "--container-type",
		"CustomContainer", "--image", "i", "--target-port", "80",
		"--env-vars", "A=1", "--env-vars", "B=secretref:s", "--secrets", "s=v", "--registry-server",
		"r", "--registry-password", "pw",
		"--max-sessions", "-1", "--ready-sessions", "0", "--cooldown-period", "300",
		"--network-status", "EgressEnabled",
		"--cpu", "0.5", "--memory", "1.0Gi", "--environment", "e", "--mi-system-assigned")
	if got.code != console.ExitTrouble || !strings.Contains(got.stderr, "no custom containers") ||
		!strings.Contains(got.stderr, "no secrets") {
		t.Errorf("%+v", got)
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"image":"i"`, `"targetPort":80`, `"secretRef":"s"`,
		`"server":"r"`, `"passwordSecretRef":"registry-password"`,
		`"readySessionInstances":0`, `"maxConcurrentSessions":-1`, `"cooldownPeriodInSeconds":300`,
		`"status":"EgressEnabled"`, `"cpu":0.5`,
		`"memory":"1.0Gi"`, `"environmentId":"e"`, `"SystemAssigned"`} {
		if !strings.Contains(string(text), part) {
			t.Errorf("the server did not get %s: %s", part, text)
		}
	}
}

func TestTablesCannotSteerTheTerminal(t *testing.T) {
	f := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w,
			`{"value":[{"name":"\u001b[2Jx","type":"file","sizeInBytes":1,"lastModifiedAt":"now"}]}`)
	})
	if got := command(t, f, "", "files", "list", "--session", "abcd"); strings.Contains(got.stdout,
		"\x1b") || !strings.Contains(got.stdout, "?[2Jx") {
		t.Errorf("%+v", got)
	}
}

func TestDownloadOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	to := filepath.Join(dir, "a.txt")
	if err := os.WriteFile(to, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "theirs") })
	if got := command(t, f, "", "files", "download", "a.txt", "--session", "abcd", "--to",
		to); got.code != console.ExitUsage {
		t.Errorf("%+v", got)
	}
	for place, want := range map[string]string{filepath.Join(dir, "none",
		"x"): "there is no directory", dir: "is a directory"} {
		got := command(t, f, "", "files", "download", "a.txt", "--session", "abcd", "--to", place,
			"--force")
		if got.code != console.ExitUsage || !strings.Contains(got.stderr, want) {
			t.Errorf("--to %s: %+v, want %q", place, got, want)
		}
	}
	if got := command(t, f, "", "files", "download", "a\x1b\nb", "--session", "abcd", "--to",
		filepath.Join(dir, "x\x1b\ny")); strings.Contains(got.stderr, "\x1b") {
		t.Errorf("%+v", got)
	}
	if err := os.Remove(filepath.Join(dir, "x\x1b\ny")); err != nil {
		t.Fatal(err)
	}
	if got := command(t, f, "", "files", "download", "a.txt", "--session", "abcd", "--to", to,
		"--force"); got.code != console.ExitDone {
		t.Errorf("--force: %+v", got)
	}
	entries, err := os.ReadDir(dir)
	if b, rerr := os.ReadFile(to); rerr != nil || string(b) != "theirs" || err != nil ||
		len(entries) != 1 {
		t.Errorf("holds %q, %v; directory %v, %v", b, rerr, entries, err)
	}
	if got := command(t, f, "", "files", "download", "a.txt", "--session", "abcd", "--to",
		"-"); got.stdout != "theirs" {
		t.Errorf("to stdout: %+v", got)
	}
}

// TestPackOverwritesNothing: an archive takes the place of another file only when it is told to.
func TestPackOverwritesNothing(t *testing.T) {
	to := filepath.Join(t.TempDir(), "a.tar")
	f := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "packed") })
	for _, tt := range []struct {
		before string
		flags  []string
		code   int
		after  string
	}{
		{"", nil, console.ExitDone, "packed"},
		{"mine", nil, console.ExitUsage, "mine"},
		{"mine", []string{"--force"}, console.ExitDone, "packed"},
	} {
		if tt.before != "" {
			if err := os.WriteFile(to, []byte(tt.before), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got := command(t, f, "", append([]string{"files", "pack", to, "--session", "abcd"},
			tt.flags...)...)
		if text, err := os.ReadFile(to); got.code != tt.code || err != nil ||
			string(text) != tt.after {
			t.Errorf("%q over %q: %+v; it holds %q, %v", tt.flags, tt.before, got, text, err)
		}
	}
}

func TestBadConfigurationIsUsage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("listen: foo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--listen", "foo"}, {"--config", file},
		{"--public-url", "foo"}} {
		got := command(t, nil, "", append([]string{"serve", "--data-dir", t.TempDir()}, args...)...)
		if got.code != console.ExitUsage || !strings.Contains(got.stderr, `is "foo"; use `) {
			t.Errorf("%q: %+v; want exit code 2 and what to use", args, got)
		}
	}
}
