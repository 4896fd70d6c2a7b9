package gateway

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/event"
)

// TestExecutionEvents: observers hear of each execution how it ended, and nothing that the
// code or a hostile agent chose.
func TestExecutionEvents(t *testing.T) {
	bus := event.New()
	w := newWorld(t, Options{Events: bus})
	var res agent.ExecuteResult
	w.execute = func(context.Context, *lease, agent.ExecuteRequest) (agent.ExecuteResult, error) {
		return res, nil
	}
	for _, outcome := range []agent.Outcome{agent.OK, agent.Failed, agent.TimeoutRestarted,
		agent.KernelDied, "whatever"} {
		res = agent.ExecuteResult{Outcome: outcome, Duration: time.Second,
			Error: &agent.ExecutionError{Name: "Pr1vate", Message: "Pr1vate"}}
		if got := w.do("POST", "executions?identifier=Pr1vate",
			`{"code":"Pr1vate"}`); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	var outcomes []string
	answered := 0
	for _, e := range bus.Recent(event.Query{}).Events {
		if e.Name == event.SessionAnswered {
			if e.Took <= 0 || e.Sandbox == "" || e.By != "" {
				t.Errorf("%+v", e)
			}
			answered++
			continue
		}
		outcomes = append(outcomes, e.Outcome)
		if e.Name != event.ExecutionEnded || e.By != "token:test" || e.Sandbox == "" ||
			e.Took != time.Second || e.Message != "" {
			t.Errorf("%+v", e)
		}
	}
	if answered != 1 {
		t.Errorf("%d of the executions were the first of their session, want 1", answered)
	}
	if want := []string{"ok", "error", "timeout-restarted", "kernel-died", "error"}; !slices.Equal(
		outcomes, want) {
		t.Errorf("outcomes %q, want %q", outcomes, want)
	}
}
