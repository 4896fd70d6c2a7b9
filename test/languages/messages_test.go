package languages_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// samples are code of one kernel, for what Jupyter's own test of kernels asks of each: see
// jupyter_kernel_test. Completion, inspection and history are no part of a stream.
type samples struct {
	kernel  string
	hello   string            // prints "hello, world"
	stderr  string            // prints "test" to standard error
	fails   string            // is an error
	error   string            // its name
	results map[string]string // code, and its value
	shows   map[string]string // a MIME type, and code that shows a display of it
	clear   string            // forgets the output
	input   string            // prints the line that it reads
	// order prints a, b to standard error, shows an HTML c, and prints d, 50 times. The streams of
	// a command are two pipes, between which no order is kept, as natively.
	order  string
	open   string // is not complete
	silent string // has neither output nor a value
}

var kernels = []samples{
	{
		kernel: "python", hello: "print('hello, world')",
		stderr: "import sys; print('test', file=sys.stderr)",
		fails:  "raise KeyError('k')", error: "KeyError",
		results: map[string]string{"6*7": "42", "'a' 'b'": "'ab'", "1;2\n3": "3",
			"[i for i in range(3)]": "[0, 1, 2]", "x = 1; x": "1"},
		shows: map[string]string{
			"text/html":  "from IPython.display import HTML, display; display(HTML('<b>test</b>'))",
			"text/latex": "from IPython.display import Math, display; display(Math('\\\\frac{1}{2}'))",
			"image/png": "import base64; from IPython.display import Image, display; display(Image(" +
				"base64.b64decode('iVBORw0KGgo='), format='png'))",
			"application/json": "from IPython.display import JSON, display; display(JSON({'a': 1}))",
		},
		clear: "from IPython.display import clear_output; clear_output()",
		input: "print(input())",
		order: "import sys; from IPython.display import HTML, display\nfor i in range(50): " +
			"print('a'); print('b', file=sys.stderr); display(HTML('c')); print('d')",
		open: "def f(:", silent: "y = 3",
	},
	{
		kernel: "node", hello: "console.log('hello, world')", stderr: "console.error('test')",
		fails: "throw new RangeError('r')", error: "RangeError",
		results: map[string]string{"6*7": "42", "'a' + 'b'": "'ab'", "1;2\n3": "3",
			"[0, 1, 2].map(i => i)": "[ 0, 1, 2 ]", "let x = 1; x": "1"},
		shows: map[string]string{
			"text/html":        "display.html('<b>test</b>')",
			"text/latex":       "display.latex('\\\\frac{1}{2}')",
			"image/png":        "display.png(Buffer.from('iVBORw0KGgo=', 'base64'))",
			"application/json": "display.json({a: 1})",
		},
		clear: "display.clear()",
		input: "console.log(require('fs').readFileSync(0, 'utf8').trim())",
		order: "for (let i = 0; i < 50; i++) { console.log('a'); console.error('b'); " +
			"display.html('c'); console.log('d') }",
		open: "function f( {", silent: "let y = 3",
	},
	{
		kernel: "shell", hello: "echo hello, world", stderr: "echo test >&2",
		results: map[string]string{}, shows: map[string]string{},
		input: "read line; echo $line",
		open:  "if true; then", silent: "y=3",
	},
}

// TestMessages: what Jupyter's own test of kernels asks of each kernel holds for ours, over their
// stream: what is printed, shown, valued and raised comes as what it is, in its order, and the
// answer comes last and once.
func TestMessages(t *testing.T) {
	for _, k := range kernels {
		t.Run(k.kernel, func(t *testing.T) {
			c := newMachine(t, k.kernel).restore(t)
			k.prints(t, c)
			k.fail(t, c)
			k.values(t, c)
			k.displays(t, c)
			k.ordered(t, c)
		})
	}
}

// stream runs code and returns its events before the result as words, and the result.
func stream(t *testing.T, c *agent.Client, code, stdin string) ([]string, agent.ExecuteResult) {
	t.Helper()
	var events []string
	var results []agent.ExecuteResult
	err := c.ExecuteStream(t.Context(), agent.ExecuteRequest{Code: code, Stdin: stdin,
		Timeout: time.Minute}, func(ev agent.Event) error {
		switch {
		case len(results) > 0:
			t.Errorf("%q: after its result comes %+v", code, ev)
		case ev.Stdout != "":
			events = append(events, "out "+strings.TrimSpace(ev.Stdout))
		case ev.Stderr != "":
			events = append(events, "err "+strings.TrimSpace(ev.Stderr))
		case ev.Clear != nil:
			events = append(events, "clear")
		case ev.Display != nil:
			for mime, data := range ev.Display.Data {
				if mime != "text/plain" {
					events = append(events, "display "+mime+" "+strings.TrimSpace(data))
				}
			}
		case ev.Result != nil:
			results = append(results, *ev.Result)
		}
		return nil
	})
	if err != nil || len(results) != 1 {
		t.Fatalf("%q: %d results, %v", code, len(results), err)
	}
	return events, results[0]
}

// prints checks what is written to the streams, and what is read.
func (k samples) prints(t *testing.T, c *agent.Client) {
	for code, want := range map[string][]string{k.hello: {"out hello, world"},
		k.stderr: {"err test"}, k.silent: nil} {
		if events, res := stream(t, c, code, ""); !slices.Equal(events, want) || res.Text != "" ||
			res.Outcome != agent.OK {
			t.Errorf("%q: events %q, want %q; %+v", code, events, want, res)
		}
	}
	if events, res := stream(t, c, k.input, "a line\n"); !slices.Equal(events,
		[]string{"out a line"}) {
		t.Errorf("%q: events %q; %+v", k.input, events, res)
	}
}

// fail checks errors, among them those of code that is not complete.
func (k samples) fail(t *testing.T, c *agent.Client) {
	for code, name := range map[string]string{k.fails: k.error, k.open: ""} {
		if code == "" {
			continue
		}
		events, res := stream(t, c, code, "")
		says := res.Error != nil && strings.Contains(res.Error.Name+res.Error.Message, name) ||
			len(events) > 0 && strings.HasPrefix(events[0], "err ")
		if res.Text != "" || !says || res.Error != nil && len(events) != 0 {
			t.Errorf("%q: events %q; %+v, %+v", code, events, res, res.Error)
		}
	}
}

// values checks the values of cells.
func (k samples) values(t *testing.T, c *agent.Client) {
	for code, want := range k.results {
		if events, res := stream(t, c, code, ""); res.Text != want || len(events) != 0 {
			t.Errorf("%q: %q, want %q; events %q, %+v", code, res.Text, want, events, res.Error)
		}
	}
}

// displays checks what is shown, and what is forgotten.
func (k samples) displays(t *testing.T, c *agent.Client) {
	for mime, code := range k.shows {
		if events, res := stream(t, c, code, ""); len(events) != 1 ||
			!strings.HasPrefix(events[0], "display "+mime+" ") {
			t.Errorf("%q: events %q, want a display of %s; %+v", code, events, mime, res.Error)
		}
	}
	if k.clear != "" {
		if events, res := stream(t, c, k.clear, ""); !slices.Equal(events, []string{"clear"}) {
			t.Errorf("%q: events %q; %+v", k.clear, events, res.Error)
		}
	}
}

// ordered checks that what goes different ways comes in the order in which it was sent.
func (k samples) ordered(t *testing.T, c *agent.Client) {
	if k.order == "" {
		return
	}
	events, res := stream(t, c, k.order, "")
	got := strings.Join(events, " ")
	for _, old := range []string{"out ", "err ", "display text/html ", " ", "\n"} {
		got = strings.ReplaceAll(got, old, "")
	}
	if got != strings.Repeat("abcd", 50) {
		t.Errorf("%q: %s; %+v", k.order, got, res.Error)
	}
}
