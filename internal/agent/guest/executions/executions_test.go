package executions

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/guest/output"
)

var errCut = errors.New("cut off")

// printing is a cell that prints lines, as many as its code is long.
func printing(_ context.Context, req agent.ExecuteRequest, f *output.Feed) (agent.ExecuteResult,
	error) {
	f.Begin()
	var all strings.Builder
	for i := range len(req.Code) {
		line := fmt.Sprintln("line", i)
		all.WriteString(line)
		f.Stdout()([]byte(line))
		if i%7 == 0 {
			f.Display(agent.Display{Data: agent.Bundle{"text/plain": fmt.Sprint(i)}})
		}
		if i%50 == 0 {
			runtime.Gosched()
		}
	}
	return agent.ExecuteResult{Outcome: agent.OK, Stdout: all.String()}, nil
}

// TestBreaks: a reader that is cut off anywhere, again and again, loses nothing and gets nothing
// twice.
func TestBreaks(t *testing.T) {
	var g Registry
	breaks := 0
	for n := 0; breaks < 10_000; n++ {
		id := fmt.Sprint("e", n)
		req := agent.StartRequest{ID: id, ExecuteRequest: agent.ExecuteRequest{
			Code: strings.Repeat("x", 500), MaxOutput: 1 << 20}}
		if _, err := g.Start(t.Context(), req, printing); err != nil {
			t.Fatal(err)
		}
		var readers sync.WaitGroup
		var mu sync.Mutex
		for range 3 {
			readers.Go(func() {
				var text strings.Builder
				shown, last := 0, int64(0)
				for {
					left := rand.IntN(20)
					err := g.Read(t.Context(), id, last, func(r agent.Record) error {
						if left--; left < 0 {
							return errCut
						}
						if r.Number != last+1 {
							t.Errorf("event %d comes after %d", r.Number, last)
						}
						last = r.Number
						text.WriteString(r.Stdout)
						if r.Display != nil {
							shown++
						}
						return nil
					})
					if err == nil {
						break
					}
					if !errors.Is(err, errCut) {
						t.Error(err)
						break
					}
					mu.Lock()
					breaks++
					mu.Unlock()
				}
				e, err := g.Get(id)
				if err != nil || e.Result == nil || e.Result.Stdout != text.String() ||
					shown != 72 || e.Events != last {
					t.Errorf("%s: %d bytes and %d displays in %d events, of %+v, %v", id,
						text.Len(), shown, last, e.State, err)
				}
			})
		}
		readers.Wait()
	}
}

func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Registry
		turn := make(chan struct{})
		run := func(ctx context.Context, _ agent.ExecuteRequest,
			f *output.Feed) (agent.ExecuteResult, error) {
			select {
			case <-turn:
			case <-ctx.Done():
				return agent.ExecuteResult{}, ctx.Err()
			}
			f.Begin()
			<-ctx.Done()
			return agent.ExecuteResult{Outcome: agent.Failed}, nil
		}
		state := func(id string) agent.Execution {
			t.Helper()
			synctest.Wait()
			e, err := g.Get(id)
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		for _, id := range []string{"a", "b"} {
			if _, err := g.Start(t.Context(), agent.StartRequest{ID: id}, run); err != nil {
				t.Fatal(err)
			}
		}
		if e := state("a"); e.State != agent.ExecutionWaiting {
			t.Errorf("at first: %+v", e)
		}
		if _, err := g.Start(t.Context(), agent.StartRequest{ID: "a"}, run); sandpool.ClassOf(
			err) != sandpool.Conflict {
			t.Errorf("the same id again: %v", err)
		}
		if _, err := g.Start(t.Context(), agent.StartRequest{ID: "a/b"}, run); sandpool.ClassOf(
			err) != sandpool.Invalid {
			t.Errorf("an id with a slash: %v", err)
		}
		if _, err := g.Cancel("b"); err != nil {
			t.Fatal(err)
		}
		if e := state("b"); e.State != agent.ExecutionEnded || !e.Canceled || e.Fault == nil ||
			e.Result != nil {
			t.Errorf("canceled before it ran: %+v", e)
		}
		close(turn)
		if e := state("a"); e.State != agent.ExecutionRunning || e.Started.IsZero() {
			t.Errorf("in its turn: %+v", e)
		}
		ended := make(chan agent.Execution, 1)
		go func() {
			e, err := g.Wait(t.Context(), "a")
			if err != nil {
				t.Error(err)
			}
			ended <- e
		}()
		if _, err := g.Cancel("a"); err != nil {
			t.Fatal(err)
		}
		if e := <-ended; e.State != agent.ExecutionEnded || !e.Canceled {
			t.Errorf("canceled: %+v", e)
		}
		if err := g.Read(t.Context(), "a", 99, nil); sandpool.ClassOf(err) != sandpool.Invalid {
			t.Errorf("after the end: %v", err)
		}
	})
}

// TestBounds: what has ended is kept within bounds, and what runs is never forgotten.
func TestBounds(t *testing.T) {
	var g Registry
	ctx, end := context.WithCancel(t.Context())
	defer end()
	stays := func(context.Context, agent.ExecuteRequest, *output.Feed) (agent.ExecuteResult,
		error) {
		<-ctx.Done()
		return agent.ExecuteResult{}, nil
	}
	if _, err := g.Start(t.Context(), agent.StartRequest{ID: "stays"}, stays); err != nil {
		t.Fatal(err)
	}
	large := func(context.Context, agent.ExecuteRequest, *output.Feed) (agent.ExecuteResult,
		error) {
		return agent.ExecuteResult{Stdout: strings.Repeat("x", 8<<20)}, nil
	}
	for i := range 2 * agent.MaxExecutions {
		id := fmt.Sprint("e", i)
		if _, err := g.Start(t.Context(), agent.StartRequest{ID: id}, large); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Wait(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	list := g.List()
	if len(list) > 5 || list[0].ID != "stays" ||
		list[len(list)-1].ID != fmt.Sprint("e", 2*agent.MaxExecutions-1) ||
		g.bytes > agent.MaxRecord {
		t.Errorf("%d executions with %d bytes are kept: %+v", len(list), g.bytes, list)
	}
	if _, err := g.Get("e0"); sandpool.ClassOf(err) != sandpool.NotFound {
		t.Errorf("the first: %v", err)
	}
	for i := range agent.MaxExecutions + 1 {
		_, err := g.Start(t.Context(), agent.StartRequest{ID: fmt.Sprint("s", i)}, stays)
		if i == agent.MaxExecutions && sandpool.ClassOf(err) != sandpool.Unavailable {
			t.Errorf("one more than may run: %v", err)
		}
	}
}
