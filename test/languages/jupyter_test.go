package languages_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/need"
)

// jupyterImage returns an image with Jupyter kernels of others, which it builds the first time.
func jupyterImage(t *testing.T) image.Image {
	t.Helper()
	store, err := image.Open(filepath.Join(need.Data(t), "test-jupyter"))
	if err != nil {
		t.Fatal(err)
	}
	common, err := image.BuiltIn("python", image.Slim)
	if err != nil {
		t.Fatal(err)
	}
	base, err := fs.ReadFile(common.Files, "base.sh")
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{"base.sh": {Data: base}}
	for _, name := range []string{"debian.packages", "requirements.txt", "setup.sh"} {
		text, err := os.ReadFile(filepath.Join("testdata", "jupyter", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: text}
	}
	recipe := image.Recipe{Name: "jupyter", Files: files}
	if have, err := store.Resolve(recipe.Name); err == nil && have.Of(recipe) {
		return have
	}
	made, err := store.Build(t.Context(), recipe, nil)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// in runs code in the context of a kernel.
func in(t *testing.T, c *agent.Client, kernel, code string) agent.ExecuteResult {
	t.Helper()
	start := time.Now()
	res, err := c.Execute(t.Context(), agent.ExecuteRequest{Kernel: kernel, Code: code,
		Timeout: time.Minute})
	if err != nil {
		t.Fatalf("%s: execute %q: %v", kernel, code, err)
	}
	t.Logf("%s: %-40.40q %s after %v", kernel, code, res.Outcome, time.Since(start))
	return res
}

// newJupyter restores a sandbox of an image with kernels of others.
func newJupyter(t *testing.T) *agent.Client {
	t.Helper()
	c := newMachineOf(t, "shell", jupyterImage(t)).restore(t)
	all, err := c.Kernels(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, k := range all {
		names = append(names, k.Name)
	}
	if want := []string{"python", "shell", "bash", "ir", "python3", "xpython", "xpython-raw"}; !slices.Equal(names, want) {
		t.Errorf("the kernels are %q, want %q", names, want)
	}
	return c
}

// kernel is code for one kernel, and what comes of it.
type kernel struct {
	name                          string
	say, value, show, fail, input string
	loop                          string // "" of one that an interrupt ends
	valued, failed                string
}

// TestJupyterKernels: kernels that others have made run in a real sandbox, by the names of their
// kernelspecs, as ours do.
func TestJupyterKernels(t *testing.T) {
	c := newJupyter(t)
	const show = "from IPython.display import HTML; _ = display(HTML('<b>x</b>'))"
	for _, k := range []kernel{
		{name: "python3", say: "x = 6; print('hi')", value: "x * 7", show: show, fail: "1/0",
			input: "input('? ') + input()", loop: "while True: pass", valued: "42",
			failed: "ZeroDivisionError"},
		{name: "xpython", say: "x = 6; print('hi')", value: "x * 7", show: show, fail: "1/0",
			input: "input('? ') + input()", valued: "42", failed: "ZeroDivisionError"},
		// IRkernel shows a value as it shows everything else.
		{name: "ir", say: "x <- 6; cat('hi\n')", value: "x * 7", show: "IRdisplay::display_html('<b>x</b>')",
			fail: "stop('no')", input: "paste0(readline('? '), readline())", loop: "repeat {}",
			valued: "[1] 42", failed: "ERROR"},
		{name: "bash", say: "x=6; echo hi", fail: "ls /none", loop: "sleep 1000", failed: "Error"},
	} {
		t.Run(k.name, func(t *testing.T) {
			k.check(t, c)
			if err := c.DeleteContext(t.Context(), k.name); err != nil {
				t.Error(err)
			}
		})
	}
	if res := run(t, c, time.Minute, "ls -d /tmp/jupyter-*; pgrep -c -f jupyter"); res.Stdout != "0\n" {
		t.Errorf("what is left of the kernels: %q", res.Stdout)
	}
}

func (k kernel) check(t *testing.T, c *agent.Client) {
	if res := in(t, c, k.name, k.say); res.Outcome != agent.OK || res.Stdout != "hi\n" || res.Stderr != "" {
		t.Errorf("output: %+v, %+v", res, res.Error)
	}
	if k.value != "" {
		if res := in(t, c, k.name, k.value); text(res) != k.valued {
			t.Errorf("value: %+v", res)
		}
		if res := in(t, c, k.name, k.show); len(res.Displays) != 1 ||
			!strings.Contains(res.Displays[0].Data["text/html"], "<b>x</b>") {
			t.Errorf("display: %+v", res)
		}
	}
	res := in(t, c, k.name, k.fail)
	if res.Outcome != agent.Failed || res.Error == nil ||
		!strings.Contains(res.Error.Name, k.failed) || strings.Contains(res.Error.Traceback, "\x1b") {
		t.Errorf("error: %+v, %+v", res, res.Error)
	}
	if k.input != "" {
		res, err := c.Execute(t.Context(), agent.ExecuteRequest{Kernel: k.name, Code: k.input, Stdin: "a\nb\n"})
		if err != nil || !strings.Contains(text(res), "ab") || !strings.HasPrefix(res.Stdout, "? ") {
			t.Errorf("input: %+v, %+v, %v", res, res.Error, err)
		}
		if res := in(t, c, k.name, k.input); res.Outcome != agent.Failed {
			t.Errorf("input where there is none: %+v, %+v", res, res.Error)
		}
	}
	if k.loop != "" {
		res, err := c.Execute(t.Context(), agent.ExecuteRequest{Kernel: k.name, Code: k.loop,
			Timeout: time.Second})
		if err != nil || res.Outcome != agent.TimeoutInterrupted {
			t.Errorf("endless: %+v, %+v, %v", res, res.Error, err)
		}
		if res := in(t, c, k.name, k.say); res.Outcome != agent.OK || res.KernelRestarted || res.Stdout != "hi\n" {
			t.Errorf("after an interrupt: %+v, %+v", res, res.Error)
		}
	}
	_, err := c.Execute(t.Context(), agent.ExecuteRequest{Kernel: k.name, Code: k.say, Dir: "/tmp"})
	if sandpool.ClassOf(err) != sandpool.Invalid {
		t.Errorf("a directory of its own: %v", err)
	}
}

// text is the value of a cell, or what it showed last in its place.
func text(res agent.ExecuteResult) string {
	if n := len(res.Displays); res.Text == "" && n > 0 {
		return res.Displays[n-1].Data["text/plain"]
	}
	return res.Text
}

// TestJupyterMessages: what a kernel says comes in its order, as events and in the answer, and how
// a kernel ends is told.
func TestJupyterMessages(t *testing.T) {
	c := newJupyter(t)
	var events []string
	var res agent.ExecuteResult
	err := c.ExecuteStream(t.Context(), agent.ExecuteRequest{Kernel: "python3", Code: `
import sys
from IPython.display import display, update_display, clear_output, JSON
print("gone"); clear_output()
print("a", flush=True); print("b", file=sys.stderr, flush=True); print("c")
display(JSON({"k": [1]}), display_id="d"); print("e")
update_display("new", display_id="d")
"value"`}, func(ev agent.Event) error {
		switch {
		case ev.Stdout != "":
			events = printed(events, "out ", ev.Stdout)
		case ev.Stderr != "":
			events = printed(events, "err ", ev.Stderr)
		case ev.Display != nil:
			events = append(events, "display "+ev.Display.ID+ev.Display.Data["application/json"]+ev.Display.Data["text/plain"])
		case ev.Clear != nil:
			events = append(events, "clear")
		case ev.Result != nil:
			res = *ev.Result
		}
		return nil
	})
	want := []string{"out gone", "clear", "out a", "err b", "out c",
		`display d{"k": [1]}<IPython.core.display.JSON object>`, "out e", "display d'new'"}
	if err != nil || res.Text != "'value'" || !slices.Equal(events, want) {
		t.Errorf("events %q, want %q; %+v, %v", events, want, res, err)
	}
	res = in(t, c, "python3", "for i in range(10000): print(i)")
	if lines := strings.Count(res.Stdout, "\n"); res.StdoutTruncated || lines != 10000 {
		t.Errorf("much output: %d lines, truncated %v", lines, res.StdoutTruncated)
	}
	if res := in(t, c, "python3", "get_ipython().run_line_magic('pinfo', 'len')"); !strings.Contains(res.Stdout, "Return the number of items") {
		t.Errorf("help: %+v", res)
	}
	for code, want := range map[string]string{"import os; os._exit(3)": "code 3",
		"import os; os.kill(os.getpid(), 9)": "signal 9",
		"import ctypes; ctypes.string_at(0)": "signal 11"} {
		res := in(t, c, "python3", code)
		if res.Outcome != agent.KernelDied || !strings.Contains(res.Error.Message, want) {
			t.Errorf("%s: %+v, %+v", code, res, res.Error)
		}
	}
	// A kernel that the session has installed itself, and that takes interrupts as messages.
	run(t, c, time.Minute, `d=~/.local/share/jupyter/kernels; mkdir -p $d/{mine,broken,..odd}; cd $d; echo '{' >broken/kernel.json
mkfifo ..odd/kernel.json; sed '1a "interrupt_mode": "message", "env": {"WHERE": "${HOME}/x"},' /usr/local/share/jupyter/kernels/python3/kernel.json >mine/kernel.json
mkdir exits; echo '{"argv": ["sh", "-c", "echo no such thing >&2; exit 7"]}' >exits/kernel.json`)
	if res := in(t, c, "mine", "import os; os.environ['WHERE']"); res.Text != "'/home/sandbox/x'" {
		t.Errorf("a kernel of the session's own: %+v, %+v", res, res.Error)
	}
	over := make(chan agent.ExecuteResult)
	go func() { over <- in(t, c, "mine", "print('begun'); import time; time.sleep(100)") }()
	for begun := false; !begun; {
		all, err := c.Contexts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		begun = slices.ContainsFunc(all, func(one agent.Context) bool { return one.Name == "mine" && one.Running })
	}
	for ended := false; !ended; {
		if err := c.InterruptContext(t.Context(), "mine"); err != nil {
			t.Fatal(err)
		}
		select {
		case res := <-over:
			ended = true
			if res.Outcome != agent.Interrupted {
				t.Errorf("interrupted by a message: %+v, %+v", res, res.Error)
			}
		case <-time.After(500 * time.Millisecond):
		}
	}
	for name, want := range map[string]string{"none": "python3, xpython", "broken": "kernelspec", "exits": "no such thing"} {
		_, err := c.Execute(t.Context(), agent.ExecuteRequest{Kernel: name, Code: "1"})
		if sandpool.ClassOf(err) != sandpool.NotFound || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// printed adds what a kernel has printed to events. A busy kernel sends a line in pieces.
func printed(events []string, stream, text string) []string {
	text = strings.TrimSpace(text)
	if last := len(events) - 1; last >= 0 && strings.HasPrefix(events[last], stream) {
		events[last] += text
		return events
	}
	return append(events, stream+text)
}
