// Package languages measures what code of each language costs in sessions, in contexts of sessions,
// in plain processes, and in a Jupyter server with ipykernel: the same work by turns, so that all
// meet the same conditions.
package languages

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/bench"
)

// Options say how much to measure.
type Options struct {
	// N is how many samples of what is short are taken, and Large how many of what is large.
	N, Large int
	// Megabytes is how much is printed, uploaded and downloaded.
	Megabytes int
	// Progress hears what is under way.
	Progress func(step, detail string)
}

// A language is code of it. Each piece prints what it has to say.
type language struct {
	name  string
	kind  sandpool.ContainerType
	one   string // prints 2
	now   string // prints the time in nanoseconds since 1970, just read
	clock string // sets the clock that now reads, if it has to be; it runs before
	flood string // prints so many megabytes
	// loop runs in a process what it reads, a line of JSON or of the language itself, and prints a
	// line "\0" after each.
	loop []string
	json bool
}

func all(megabytes int) []language {
	return []language{
		{"python", sandpool.PythonLTS, "print(1 + 1)",
			"import time; print(time.time_ns(), flush=True)", "",
			fmt.Sprintf("b = 'x' * 1048575\nfor _ in range(%d): print(b)", megabytes),
			[]string{"python3", "-c", "import sys, json\ng = {}\nfor l in sys.stdin: exec(json.loads(l), g); print('\\0', flush=True)"},
			true},
		// The clock of Node.js has milliseconds, of which one that has just begun is exact; its
		// stopwatch is finer. A loop right before the print would be compiled meanwhile by a
		// thread that wants the same core.
		{"node", sandpool.NodeLTS, "console.log(1 + 1)",
			"console.log(Math.round((performance.now() + globalThis.began) * 1000) + '000')",
			"globalThis.began = 0; for (let i = 0, t; i < 5; i++) { t = Date.now(); " +
				"while (Date.now() === t); globalThis.began = Math.max(globalThis.began, " +
				"Date.now() - performance.now()) }; console.log(2)",
			fmt.Sprintf("for (let i = 0; i < %d; i++) console.log('x'.repeat(1048575))", megabytes),
			[]string{"node", "-e", "require('readline').createInterface({input: process.stdin})" +
				".on('line', (l) => { require('vm').runInThisContext(JSON.parse(l)); " +
				"console.log('\\0') })"},
			true},
		{"shell", sandpool.Shell, "echo $((1 + 1))", "echo ${EPOCHREALTIME/[.,]/}000", "",
			fmt.Sprintf("printf -v b '%%65535s' x; for ((i = 0; i < %d; i++)); do echo \"$b\"; "+
				"done", 16*megabytes),
			[]string{"bash", "-c", `while IFS= read -r l; do eval "$l"; printf '\0\n'; done`}, false},
	}
}

// A side is one way to have code run.
type side interface {
	label() string
	// fresh runs a piece in a session, process or kernel that is made for it, and ends that; of it
	// counts what it takes until the answer, which it returns.
	fresh(ctx context.Context, code string) (time.Duration, error)
	// run runs a piece in the one that is there, and calls first with the first output.
	run(ctx context.Context, code string, first func(text string)) error
	put(ctx context.Context, body []byte) error
	get(ctx context.Context) (int64, error)
	close(ctx context.Context) error
}

// Run measures. The folder is for files of its own.
func Run(ctx context.Context, c *client.Client, dir string, o Options) (_ []bench.Measure,
	err error) {
	var found []bench.Measure
	for _, l := range all(o.Megabytes) {
		sides, err := sidesOf(ctx, c, dir, l, o)
		if err == nil {
			var rows []bench.Measure
			rows, err = measure(ctx, l, sides, o)
			found = append(found, rows...)
		}
		for _, s := range sides {
			err = errors.Join(err, s.close(context.WithoutCancel(ctx)))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.name, err)
		}
	}
	return found, nil
}

// sidesOf starts the sides of a language; those that it returns are to be closed, also if it fails.
func sidesOf(ctx context.Context, c *client.Client, dir string, l language, o Options) ([]side,
	error) {
	o.Progress("languages", "start "+l.name)
	ours, err := newSession(ctx, c, l, "")
	if err != nil {
		return nil, err
	}
	sides := []side{ours}
	if l.kind == sandpool.PythonLTS {
		within, err := newSession(ctx, c, l, "beside")
		if err != nil {
			return sides, err
		}
		j, err := newJupyter(ctx, dir)
		if err != nil {
			return append(sides, within), err
		}
		sides = append(sides, within, j)
	}
	p, err := newProcess(ctx, dir, l)
	if err != nil {
		return sides, err
	}
	return append(sides, p), nil
}

// series are the samples of one row.
type series struct {
	name, unit, how string
	values          []float64
}

// measure takes the samples of all sides by turns.
func measure(ctx context.Context, l language, sides []side, o Options) ([]bench.Measure, error) {
	rows := make([][6]series, len(sides))
	for i, s := range sides {
		name := l.name + ", " + s.label() + ": "
		size := fmt.Sprintf("%d MB", o.Megabytes)
		rows[i] = [6]series{
			{name + "new, to the answer of 1+1", "ms", "made for it; its end does not count", nil},
			{name + "1+1", "ms", "in the one that is there, read as a stream", nil},
			{name + "first byte of a stream", "ms", "from before the print to the reader", nil},
			{name + size + " of stdout", "MB/s", "printed, to the end", nil},
			{name + "upload of " + size, "MB/s", "one file", nil},
			{name + "download of " + size, "MB/s", "one file", nil},
		}
	}
	body := make([]byte, o.Megabytes<<20)
	for i := range body {
		body[i] = byte(rand.Uint32())
	}
	for n := range max(o.N, o.Large) {
		for i, s := range sides {
			o.Progress(l.name, s.label())
			var err error
			if n < o.N {
				err = short(ctx, l, s, &rows[i])
			}
			if n < o.Large && err == nil {
				err = large(ctx, l, s, &rows[i], body)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.label(), err)
			}
		}
	}
	var found []bench.Measure
	for _, r := range rows {
		for _, s := range r {
			if len(s.values) > 0 {
				found = append(found, bench.Summarise(s.name, s.unit, s.how, s.values))
			}
		}
	}
	return found, nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func short(ctx context.Context, l language, s side, rows *[6]series) error {
	took, err := s.fresh(ctx, l.one)
	if err != nil {
		return fmt.Errorf("a new one: %w", err)
	}
	rows[0].values = append(rows[0].values, ms(took))
	begin, text := time.Now(), ""
	if err := s.run(ctx, l.one, func(out string) { text = out }); err != nil || text != "2\n" {
		return fmt.Errorf("1+1 is %q: %w", text, err)
	}
	rows[1].values = append(rows[1].values, ms(time.Since(begin)))
	if l.clock != "" {
		if err := s.run(ctx, l.clock, func(string) {}); err != nil {
			return fmt.Errorf("set the clock: %w", err)
		}
	}
	var printed, came time.Time
	err = s.run(ctx, l.now, func(out string) {
		came = time.Now()
		var at int64
		if _, err := fmt.Sscan(out, &at); err == nil {
			printed = time.Unix(0, at)
		}
	})
	if err != nil || printed.IsZero() {
		return fmt.Errorf("the time that is printed: %w", err)
	}
	rows[2].values = append(rows[2].values, ms(came.Sub(printed)))
	return nil
}

func large(ctx context.Context, l language, s side, rows *[6]series, body []byte) error {
	size := float64(len(body)) / (1 << 20)
	rate := func(row int, begin time.Time) {
		rows[row].values = append(rows[row].values, size/time.Since(begin).Seconds())
	}
	begin := time.Now()
	if err := s.run(ctx, l.flood, func(string) {}); err != nil {
		return fmt.Errorf("much output: %w", err)
	}
	rate(3, begin)
	begin = time.Now()
	if err := s.put(ctx, body); err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	rate(4, begin)
	begin = time.Now()
	n, err := s.get(ctx)
	if err != nil || n != int64(len(body)) {
		return fmt.Errorf("download: %d bytes, %w", n, err)
	}
	rate(5, begin)
	return nil
}
