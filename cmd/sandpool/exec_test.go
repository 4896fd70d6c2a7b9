package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
	"github.com/sandpool/sandpool/cmd/sandpool/exec"
)

// failed is the answer to code that did not end well.
func failed(stderr, name, message string, lost bool) string {
	var e api.Execution
	e.Status, e.Result.Stderr = api.StatusFailed, stderr
	e.Result.ErrorName, e.Result.ErrorMessage, e.Result.StateLost = name, message, lost
	e.Error = &api.ExecutionErrorBody{Error: api.ExecutionError{Code: name, Message: message}}
	text, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestExecSaysWhatIsLeft(t *testing.T) {
	const (
		memory  = "Execution aborted: out of memory. The session's variables and files are lost."
		timeout = "Timed out after 1 s. The code was interrupted; variables and files are kept."
		note    = "ran in a session of its own, deleted now; --session NAME or --keep keeps " +
			"variables and files\n"
	)
	aborted, late := failed("x\n"+memory, "Aborted", memory, true), failed(timeout, "Timeout",
		timeout, false)
	for _, tt := range []struct {
		name, execution string
		args            []string
		want            string // stderr
	}{
		{"out of memory, named", aborted, []string{"--session", "abcd"}, "x\n" + memory + "\n"},
		{"out of memory, its own", aborted, nil, "x\nExecution aborted: out of memory.\n"},
		{"out of memory, to keep", aborted, []string{"--keep"}, "x\n" + memory + "\n"},
		{"timeout, named", late, []string{"--session", "abcd"}, timeout + "\n"},
		{"timeout, its own", late, nil, note + "Timed out after 1 s.\n"},
		{"an exception after a restart", failed("Traceback\nE: a. b", "E", "a. b", true),
			[]string{"--session", "abcd"},
			"Traceback\nE: a. b\nthe session's variables are lost; its files remain\n"},
		{"an exception", failed("Traceback\nE: a. b", "E", "a. b", false), nil, note +
			"Traceback\nE: a. b\n"},
	} {
		f := &fakeServer{execution: tt.execution, gone: true}
		got := command(t, f, "", append([]string{"exec", "1"}, tt.args...)...)
		if got.code != console.ExitNegative || got.stderr != tt.want {
			t.Errorf("%s: exit code %d, stderr\n%swant\n%s", tt.name, got.code, got.stderr, tt.want)
		}
	}
	var out exec.Output
	got := command(t, &fakeServer{execution: aborted}, "", "exec", "1", "--session", "abcd", "-o",
		"json")
	if err := json.Unmarshal([]byte(got.stdout), &out); err != nil || out.Kept {
		t.Errorf("%+v, %v; want a session that is not kept", got, err)
	}
}

func TestExecExitCodeOfSystemExit(t *testing.T) {
	for value, want := range map[string]int{"": 0, "None": 0, "0": 0, "1": 1, "3": 3, "255": 255,
		"256": 1, "-1": 1, "no": 1} {
		f := &fakeServer{execution: failed("warned\nSystemExit: "+value, "SystemExit", value,
			false)}
		got := command(t, f, "", "exec", "1", "--session", "abcd")
		if got.code != want || !strings.HasPrefix(got.stderr, "warned\n") ||
			strings.Contains(got.stderr, "SystemExit") != (want != 0) {
			t.Errorf("SystemExit(%s): %+v, want exit code %d", value, got, want)
		}
	}
}

func TestExecShowsDisplaysInOrder(t *testing.T) {
	f := &fakeServer{execution: `{"status":"Succeeded","result":{"stdout":"out","executionResult":5,
		"displayData":[{"text/plain":"one"},{"text/html":"<b>"},{"text/plain":"two\nlines"}]}}`}
	if got := command(t, f, "", "exec", "1", "--session",
		"abcd"); got.stdout != "out\none\ntwo\nlines\n5\n" {
		t.Errorf("%+v", got)
	}
}

func TestExecShowsTheOutputWithoutItsFigures(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := &fakeServer{execution: ok}
	if got := command(t, f, "", "exec", "1", "--figures", file); got.code != console.ExitUsage ||
		len(f.calls) > 0 {
		t.Errorf("a file for a directory: %+v, calls %q", got, f.calls)
	}
	f = &fakeServer{
		execution: `{"status":"Succeeded","result":{"stdout":"out","executionResult":"","images":[{"type":"image","format":"png","base64_data":"!"}]}}`}
	if got := command(t, f, "", "exec", "1", "--figures", filepath.Join(dir, "new",
		"dir")); got.code != console.ExitTrouble || got.stdout != "out" {
		t.Errorf("%+v", got)
	}
}

func TestInterruptEndsReadingStdin(t *testing.T) {
	srv := httptest.NewServer(&fakeServer{})
	defer srv.Close()
	t.Setenv("SANDPOOL_ENDPOINT", srv.URL)
	t.Setenv("SANDPOOL_TOKEN", "t")
	for _, args := range [][]string{{"exec"}, {"exec", "-"}, {"files", "upload", "-", "--as", "x",
		"--session", "abcd"}} {
		ctx, cancel := context.WithCancel(t.Context())
		stdin, _ := io.Pipe() // nothing ever comes
		reader := stdinRead{Reader: stdin, then: cancel}
		var stderr bytes.Buffer
		if code := run(ctx, args, reader, io.Discard, &stderr); code != console.ExitTrouble ||
			stderr.String() != "sandpool: interrupted\n" {
			t.Errorf("%q: exit code %d, stderr %s", args, code, &stderr)
		}
		cancel()
	}
}

// stdinRead calls then when it is read, and goes on waiting.
type stdinRead struct {
	io.Reader
	then func()
}

func (s stdinRead) Read(p []byte) (int, error) {
	s.then()
	return s.Reader.Read(p)
}

// TestExecPrintsAValueOnce: a value that has other representations is displayed as well; its text
// is printed once.
func TestExecPrintsAValueOnce(t *testing.T) {
	const bundle = `{"text/plain":"   a\n0  1","text/html":"<table>"}`
	for displays, want := range map[string]string{
		bundle:                         "   a\n0  1\n",
		bundle + "," + bundle:          "   a\n0  1\n   a\n0  1\n",
		`{"text/plain":"x"},` + bundle: "x\n   a\n0  1\n",
		bundle + `,{"text/plain":"x"}`: "   a\n0  1\nx\n   a\n0  1\n",
		`{"text/plain":"   a\n0  1"}`:  "   a\n0  1\n   a\n0  1\n",
	} {
		f := &fakeServer{
			execution: `{"status":"Succeeded","result":{"executionResult":"   a\n0  1","displayData":[` + displays + `]}}`}
		if got := command(t, f, "", "exec", "df"); got.stdout != want {
			t.Errorf("%s: printed %q, want %q", displays, got.stdout, want)
		}
	}
}
