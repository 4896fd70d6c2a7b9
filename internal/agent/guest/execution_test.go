package guest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// begin starts an execution that goes on without a caller.
func (s *sandbox) begin(t testing.TB, id, code string) {
	t.Helper()
	if _, err := s.Start(t.Context(), agent.StartRequest{ID: id,
		ExecuteRequest: agent.ExecuteRequest{Code: code, Timeout: time.Minute}}); err != nil {
		t.Fatal(err)
	}
}

// TestWithoutCaller: an execution goes on without a caller, is read live and from any event on, has
// its turn among the others, and can be canceled.
func TestWithoutCaller(t *testing.T) {
	s := start(t)
	s.begin(t, "one", "import time\nprint('first', flush=True)\ntime.sleep(.5)\n"+
		"display('shown')\nprint('last')\n6*7")
	s.begin(t, "two", "kept = 1\nwhile True: time.sleep(.01)")
	enough := errors.New("enough")
	var seen []agent.Record
	var text strings.Builder
	take := func(r agent.Record) error {
		seen = append(seen, r)
		text.WriteString(r.Stdout)
		if strings.HasSuffix(text.String(), "first\n") && len(seen) == 2 {
			if e, err := s.Execution(t.Context(), "two", nil); err != nil ||
				e.State != agent.ExecutionWaiting {
				t.Errorf("while the first runs, the second is %+v, %v", e, err)
			}
			return enough
		}
		return nil
	}
	if err := s.Follow(t.Context(), "one", 0, nil, take); !errors.Is(err, enough) ||
		seen[0].State != agent.ExecutionRunning {
		t.Fatalf("%v after %+v", err, seen)
	}
	if err := s.Follow(t.Context(), "one", seen[1].Number, nil, take); err != nil {
		t.Fatal(err)
	}
	last := seen[len(seen)-1]
	if text.String() != "first\nlast\n" || last.Execution == nil ||
		last.Execution.Result.Text != "42" || last.Execution.Result.Stdout != "" {
		t.Errorf("%q, and last %+v", text.String(), last.Execution)
	}
	for i, r := range seen {
		if r.Number != int64(i+1) {
			t.Errorf("event %d has the number %d", i+1, r.Number)
		}
	}
	e, err := s.Execution(t.Context(), "one", nil)
	if err != nil || e.State != agent.ExecutionEnded || e.Result.Stdout != "first\nlast\n" ||
		len(e.Result.Displays) != 1 || e.Events != last.Number {
		t.Errorf("afterwards: %+v, %v", e, err)
	}
	if _, err := s.Cancel(t.Context(), "two"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if e, err := s.Wait(ctx, "two"); err != nil || !e.Canceled || e.State != agent.ExecutionEnded {
		t.Errorf("canceled: %+v, %v", e, err)
	}
	if res := s.run(t, "kept"); res.Text != "1" {
		t.Errorf("the state of a canceled execution: %+v", res)
	}
	if all, err := s.Executions(t.Context()); err != nil || len(all) != 2 || all[0].ID != "one" ||
		all[1].Result != nil {
		t.Errorf("all: %+v, %v", all, err)
	}
	if _, err := s.Execution(t.Context(), "none", nil); sandpool.ClassOf(err) != sandpool.NotFound {
		t.Errorf("an unknown one: %v", err)
	}
}
