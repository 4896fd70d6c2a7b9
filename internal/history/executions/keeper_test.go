package executions_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/history/executions"
)

var python = sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "python"}

// world is a Keeper with a clock, and a pool that keeps for an hour.
type world struct {
	*executions.Keeper
	now time.Time
}

func newWorld(b executions.Bounds) *world {
	w := &world{now: time.Unix(1e9, 0)}
	w.Keeper = executions.New(b, func() time.Time { return w.now })
	w.Keep(python, &sandpool.History{Retention: time.Hour})
	return w
}

// ran is an execution of a caller that has ended.
func (w *world) ran(by string, in sandpool.Identifier, code string) {
	w.Begin(executions.Start{Pool: python, Identifier: in, By: by,
		Request: agent.ExecuteRequest{Code: code}}).End(executions.End{Outcome: "ok"})
}

// codes are those that are kept of an identifier.
func (w *world) codes(in sandpool.Identifier) (codes []string) {
	for _, e := range w.List(python, in, 0).Value {
		codes = append(codes, e.Code)
	}
	return codes
}

func TestExecution(t *testing.T) {
	w := newWorld(executions.Bounds{})
	e := w.Begin(executions.Start{Pool: sandpool.PoolID{Subscription: "S", ResourceGroup: "G",
		Name: "Python"}, Identifier: "chat", Sandbox: "sb1", ID: "op", By: "token:ann",
		Trace: "abc", Request: agent.ExecuteRequest{Code: "1/0", Kernel: "python", Context: "c"}})
	if l := w.List(python, "chat", 0); len(l.Value) != 1 || l.Value[0].Outcome != "" {
		t.Errorf("while it runs: %+v", l.Value)
	}
	e.End(executions.End{Outcome: "failed", Took: time.Second, Result: &agent.ExecuteResult{
		Stdout: "out \xff", Stderr: "err", Text: "42", StdoutTruncated: true,
		Displays: agent.Displays{{}, {}},
		Error:    &agent.ExecutionError{Name: "ZeroDivisionError", Message: "by zero"}}})
	e.End(executions.End{Outcome: "ok"}) // the first word counts
	l := w.List(python, "chat", 0)
	want := api.PastExecution{Number: 1, ID: "op", Sandbox: "sb1", By: "token:ann", TraceID: "abc",
		Kernel: "python", Context: "c", Code: "1/0", Began: "2001-09-09T01:46:40Z",
		Outcome: "failed", Seconds: 1, Stdout: "out \ufffd", Stderr: "err", Result: "42",
		Displays: 2, Error: "ZeroDivisionError: by zero", Cut: []string{"stdout"}}
	if got := l.Value[0]; fmt.Sprint(got) != fmt.Sprint(want) || l.RetentionSeconds != 3600 {
		t.Errorf("kept:\n%+v\nwant:\n%+v", got, want)
	}
	if n := len(w.List(python, "chat", 1).Value); n != 0 {
		t.Errorf("after the last there are %d", n)
	}
	if n := len(w.List(python, "other", 0).Value); n != 0 {
		t.Errorf("another identifier has %d", n)
	}
}

// TestNoAnswer: what is behind an error is not for users.
func TestNoAnswer(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&sandpool.Error{Message: "The session ended.", Err: errors.New("/host/path")},
			"The session ended."},
		{fmt.Errorf("read: %w", context.Canceled), "Its caller left before it had ended."},
		{errors.New("dial /host/path"), "The server has no answer of it."},
	} {
		w := newWorld(executions.Bounds{})
		w.Begin(executions.Start{Pool: python, Identifier: "a"}).End(executions.End{
			Outcome: "aborted", Err: c.err, Result: &agent.ExecuteResult{Stdout: "not its own"}})
		if got := w.List(python, "a", 0).Value[0]; got.Error != c.want || got.Stdout != "" {
			t.Errorf("%v: %+v", c.err, got)
		}
	}
}

// TestLongTexts: of a long text the beginning is kept, whole letters of it.
func TestLongTexts(t *testing.T) {
	w := newWorld(executions.Bounds{})
	long := strings.Repeat("ä€", 1<<20)
	w.Begin(executions.Start{Pool: python, Identifier: "a", ID: long, By: long,
		Request: agent.ExecuteRequest{Args: []string{"echo", long}, Kernel: long, Context: long}}).
		End(executions.End{Outcome: "ok", Result: &agent.ExecuteResult{Stdout: long, Stderr: long,
			Text: long, Error: &agent.ExecutionError{Name: "E", Message: "why", Traceback: long}}})
	got := w.List(python, "a", 0).Value[0]
	fields := []string{got.ID, got.By, got.Kernel, got.Context, got.Code, got.Stdout, got.Stderr,
		got.Result, got.Error}
	for _, text := range fields {
		if len(text) > 16<<10 || !utf8.ValidString(text) || strings.Contains(text, "\ufffd") {
			t.Errorf("a text has %d bytes, valid: %t", len(text), utf8.ValidString(text))
		}
	}
	if !strings.HasPrefix(got.Error, "E: why\n") || len(got.Cut) != len(fields) {
		t.Errorf("the error is %.20q, cut are %v", got.Error, got.Cut)
	}
	if _, bytes := w.Kept(); bytes > 64<<10 {
		t.Errorf("one execution takes %d bytes", bytes)
	}
}

// TestAge: an execution is kept for a while after its end, whether or not anybody asks.
func TestAge(t *testing.T) {
	w := newWorld(executions.Bounds{})
	running := w.Begin(executions.Start{Pool: python, Identifier: "a"})
	w.ran("ann", "b", "x")
	w.now = w.now.Add(50 * time.Minute)
	running.End(executions.End{Outcome: "ok"})
	w.now = w.now.Add(20 * time.Minute)
	w.Sweep()
	if n, _ := w.Kept(); n != 1 || len(w.codes("b")) != 0 {
		t.Errorf("%d are kept, of the old session %v", n, w.codes("b"))
	}
	w.Keep(python, &sandpool.History{Retention: time.Minute}) // from now on
	if got := w.codes("a"); len(got) != 0 {
		t.Errorf("kept for longer than the pool wants: %v", got)
	}
	if n, bytes := w.Kept(); n != 0 || bytes != 0 {
		t.Errorf("%d executions and %d bytes are left", n, bytes)
	}
}

// TestRun: sweeping ends with its context, and of no Keeper there is none.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := executions.New(executions.Bounds{}, nil)
		k.Keep(python, &sandpool.History{Retention: time.Minute})
		k.Begin(executions.Start{Pool: python, Identifier: "a"}).End(executions.End{})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		if err := k.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if n, _ := k.Kept(); n != 0 {
			t.Errorf("%d are kept", n)
		}
	})
	var none *executions.Keeper
	if err := none.Run(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestOff: a pool that keeps nothing has nothing, also of what began before.
func TestOff(t *testing.T) {
	w := newWorld(executions.Bounds{})
	w.ran("ann", "a", "before")
	running := w.Begin(executions.Start{Pool: python, Identifier: "a"})
	w.Keep(python, nil)
	running.End(executions.End{Outcome: "ok", Result: &agent.ExecuteResult{Stdout: "late"}})
	w.ran("ann", "a", "by a lease of before")
	w.Keep(python, &sandpool.History{Retention: time.Hour})
	if n, bytes := w.Kept(); n != 0 || bytes != 0 || len(w.codes("a")) != 0 {
		t.Errorf("%d executions with %d bytes: %v", n, bytes, w.codes("a"))
	}
	w.ran("ann", "a", "after")
	w.ran("ann", "b", "other")
	w.Forget(python, "a")
	w.Forget(python, "none")
	w.Forget(sandpool.PoolID{Name: "none"}, "a")
	if len(w.codes("a")) != 0 || len(w.codes("b")) != 1 {
		t.Errorf("after one was forgotten: %v, %v", w.codes("a"), w.codes("b"))
	}
}

// TestFlood: a caller who sends very much, in one session or in thousands, takes nothing of another
// who holds less; nor does a pool.
func TestFlood(t *testing.T) {
	w := newWorld(executions.Bounds{All: 256 << 10, Pool: 128 << 10, Session: 64 << 10})
	for i := range 5 {
		w.ran("bob", "bobs", fmt.Sprint(i))
	}
	node := sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "node"}
	w.Keep(node, &sandpool.History{Retention: time.Hour})
	for i := range 2000 {
		w.ran("eve", "eves", strings.Repeat("x", i))
		w.ran("eve", sandpool.Identifier(fmt.Sprint("eve-", i)), "1")
		w.Begin(executions.Start{Pool: node, Identifier: "a", By: "eve"})
		w.Begin(executions.Start{Pool: node, Identifier: sandpool.Identifier(fmt.Sprint(i)),
			By: fmt.Sprint(i)})
	}
	if got := w.codes("bobs"); !slices.Equal(got, []string{"0", "1", "2", "3", "4"}) {
		t.Errorf("of bob's are kept %v", got)
	}
	if _, bytes := w.Kept(); bytes > 256<<10 || bytes < 128<<10 {
		t.Errorf("%d bytes are kept", bytes)
	}
	w.Keep(python, nil)
	w.Keep(node, nil)
	if n, bytes := w.Kept(); n != 0 || bytes != 0 {
		t.Errorf("%d executions with %d bytes are left", n, bytes)
	}
}

// TestMany: one session's list is bounded, and its newest executions are there.
func TestMany(t *testing.T) {
	w := newWorld(executions.Bounds{})
	for i := range 700 {
		w.ran("ann", "a", fmt.Sprint(i))
	}
	got := w.codes("a")
	if len(got) != 500 || got[499] != "699" {
		t.Errorf("%d are kept, the last is %s", len(got), got[len(got)-1])
	}
}

// TestShared: what one identifier has is bounded for all of its callers together, and whoever
// floods it loses what is its own.
func TestShared(t *testing.T) {
	w := newWorld(executions.Bounds{})
	w.ran("bob", "a", "bob's")
	for i := range 600 {
		w.ran(fmt.Sprint("eve-", i%2), "a", "1")
	}
	got := w.codes("a")
	if len(got) != 500 || got[0] != "bob's" {
		t.Errorf("%d are kept, the first is %s", len(got), got[0])
	}
	for i := range 600 {
		w.ran(fmt.Sprint("eve-", i%2), "a", strings.Repeat("x", 10<<10))
	}
	if got = w.codes("a"); got[0] != "bob's" {
		t.Errorf("%d are kept, the first is %s", len(got), got[0])
	}
	if _, bytes := w.Kept(); bytes > 1<<20 {
		t.Errorf("one identifier has %d bytes", bytes)
	}
}

// TestLongRun: code that runs for longer than executions are kept is there when it has ended, and
// keeps nothing there that ended before; one whose end nobody tells goes at last.
func TestLongRun(t *testing.T) {
	w := newWorld(executions.Bounds{})
	running := w.Begin(executions.Start{Pool: python, Identifier: "a",
		Request: agent.ExecuteRequest{Code: "long"}})
	w.ran("", "a", "short")
	w.now = w.now.Add(2 * time.Hour)
	w.Sweep()
	if got := w.codes("a"); !slices.Equal(got, []string{"long"}) {
		t.Errorf("while it runs there are %v", got)
	}
	running.End(executions.End{Outcome: "ok", Result: &agent.ExecuteResult{Stdout: "done"}})
	if l := w.List(python, "a", 0).Value; len(l) != 1 || l[0].Stdout != "done" {
		t.Errorf("after its end: %+v", l)
	}
	w.Begin(executions.Start{Pool: python, Identifier: "b"})
	w.now = w.now.Add(26 * time.Hour)
	w.Sweep()
	if n, _ := w.Kept(); n != 0 {
		t.Errorf("%d are kept", n)
	}
}

// TestLongQuery: the text that an identifier is a part of is not kept with it.
func TestLongQuery(t *testing.T) {
	w := newWorld(executions.Bounds{})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const many, long = 100, 1 << 20
	for i := range many {
		query := fmt.Sprint("chat-", i) + "&" + strings.Repeat("x", long)
		identifier, _, _ := strings.Cut(query, "&")
		w.ran("ann", sandpool.Identifier(identifier), "1")
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if more := int64(after.HeapAlloc) - int64(before.HeapAlloc); more > many*long/4 {
		t.Errorf("%d short executions keep %d bytes", many, more)
	}
	runtime.KeepAlive(w)
}

// TestNewOwner: whoever asks for what follows a number of the pool's last owner gets all there is.
func TestNewOwner(t *testing.T) {
	w := newWorld(executions.Bounds{})
	w.ran("ann", "a", "first")
	if n := len(w.List(python, "a", 1).Value); n != 0 {
		t.Errorf("after the last there are %d", n)
	}
	if n := len(w.List(python, "a", 2).Value); n != 1 {
		t.Errorf("after one that there was none of there are %d", n)
	}
}

// TestSums: whatever happens in whatever order, what is kept is within the bounds, and in the end
// nothing is left.
func TestSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(executions.Bounds{All: 40 << 10, Pool: 30 << 10, Session: 9 << 10})
		pools := []sandpool.PoolID{python, {Name: "b"}}
		var open []*executions.Entry
		number := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "n") }
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			id := pools[number(2)]
			who := sandpool.Identifier(fmt.Sprint(number(4)))
			switch number(8) {
			case 0:
				w.Keep(id, &sandpool.History{Retention: time.Duration(number(9)+1) * time.Second})
			case 1:
				if number(4) == 0 {
					w.Keep(id, nil)
				}
			case 2:
				w.Forget(id, who)
			case 3:
				w.now = w.now.Add(time.Second)
			case 4:
				if len(open) > 0 {
					open[number(len(open))].End(executions.End{Outcome: "ok",
						Result: &agent.ExecuteResult{Stdout: strings.Repeat("o", number(9000))}})
				}
			default:
				open = append(open, w.Begin(executions.Start{Pool: id, Identifier: who,
					By:      fmt.Sprint(number(3)),
					Request: agent.ExecuteRequest{Code: strings.Repeat("c", number(5000))}}))
			}
			n, bytes := w.Kept()
			listed := 0
			for _, id := range pools {
				for i := range 4 {
					listed += len(w.List(id, sandpool.Identifier(fmt.Sprint(i)), 0).Value)
				}
			}
			if bytes > 40<<10 || listed > n {
				t.Fatalf("%d are kept, %d listed, %d bytes", n, listed, bytes)
			}
		}
		for _, id := range pools {
			w.Keep(id, nil)
		}
		if n, bytes := w.Kept(); n != 0 || bytes != 0 {
			t.Fatalf("%d executions with %d bytes are left", n, bytes)
		}
	})
}
