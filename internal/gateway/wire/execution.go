package wire

import (
	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
)

// Asynchronous is how executions say that they go on without a caller.
const Asynchronous = "Asynchronous"

// Pending is an execution without its result.
func Pending(e agent.Execution, of About) api.PendingExecution {
	p := api.PendingExecution{ID: of.Operation, Identifier: string(of.Identifier),
		SessionID:     string(of.Sandbox),
		ExecutionType: Asynchronous, Status: statusOf(e), CreatedAt: Stamp(e.Created),
		Context: e.Context}
	if !e.Started.IsZero() {
		p.StartedAt = Stamp(e.Started)
	}
	if !e.Ended.IsZero() {
		p.EndedAt = Stamp(e.Ended)
	}
	if e.Fault != nil && !e.Canceled {
		p.Error = &api.ExecutionErrorBody{Error: api.ExecutionError{Code: "Aborted",
			Message: e.Fault.Message}}
	}
	return p
}

// statusOf is the status of an execution.
func statusOf(e agent.Execution) string {
	switch {
	case e.State == agent.ExecutionWaiting:
		return api.StatusNotStarted
	case e.State == agent.ExecutionRunning:
		return api.StatusRunning
	case e.Canceled:
		return api.StatusCanceled
	case e.Outcome == agent.OK:
		return api.StatusSucceeded
	}
	return api.StatusFailed
}

// Ended is an execution with its result, if there is one.
func Ended(e agent.Execution, of About) any {
	if e.Result == nil {
		return Pending(e, of)
	}
	full := New(AnswerOf(*e.Result, e.Timeout), of).(api.Execution)
	full.ExecutionType = Asynchronous
	if e.Canceled {
		full.Status = api.StatusCanceled
	}
	return full
}

// EventOf is a record in the words of the wire.
func EventOf(r agent.Record, of About) api.ExecutionEvent {
	ev := api.ExecutionEvent{Sequence: r.Number}
	switch {
	case r.Execution != nil:
		ev.Type, ev.Execution = api.EventResult, Ended(*r.Execution, of)
		ev.Status = statusOf(*r.Execution)
		if full, ok := ev.Execution.(api.Execution); ok {
			ev.Status = full.Status
		}
	case r.State != "":
		ev.Type, ev.Status = api.EventStatus, statusOf(agent.Execution{State: r.State})
	case r.Display != nil:
		ev.Type, ev.Data, ev.DisplayID = api.EventDisplay, r.Display.Data, r.Display.ID
	case r.Clear != nil:
		ev.Type, ev.Wait = api.EventClear, r.Clear.Wait
	case r.Stderr != "":
		ev.Type, ev.Text = api.EventStderr, r.Stderr
	default:
		ev.Type, ev.Text = api.EventStdout, r.Stdout
	}
	return ev
}

// LostEvents are those of an execution that was not begun, since its session was lost before: why,
// on standard error, and that it failed.
func LostEvents(lost *sandpool.Error, of About) []api.ExecutionEvent {
	full := New(AbortedBy(lost, 0), of).(api.Execution)
	full.ExecutionType = Asynchronous
	why := full.Result.Stderr
	full.Result.Stderr = "" // the event before is what it held
	return []api.ExecutionEvent{
		{Sequence: 1, Type: api.EventStderr, Text: why},
		{Sequence: 2, Type: api.EventResult, Status: full.Status, Execution: full},
	}
}

// Context describes a context.
func Context(c agent.Context) api.Context {
	v := api.Context{Name: c.Name, Kernel: c.Kernel, Running: c.Running, Waiting: c.Waiting}
	if !c.Created.IsZero() {
		v.CreatedAt = Stamp(c.Created)
	}
	return v
}

// Process is a background process.
func Process(p agent.BackgroundProcess) api.Process {
	v := api.Process{ID: p.ID, PID: p.PID, Command: p.Command, Status: api.StatusRunning,
		CreatedAt: Stamp(p.Created), ExitCode: p.ExitCode, Signal: p.Signal}
	if !p.Ended.IsZero() {
		v.Status, v.EndedAt = api.ProcessExited, Stamp(p.Ended)
	}
	return v
}

// ProcessEvents is a record of a background process in the words of the wire.
func ProcessEvents(r agent.ProcessRecord) []api.ProcessEvent {
	var all []api.ProcessEvent
	if r.Lost > 0 {
		all = append(all, api.ProcessEvent{Type: api.EventLost, Lost: r.Lost})
	}
	switch {
	case r.Process != nil:
		p := Process(*r.Process)
		all = append(all, api.ProcessEvent{Sequence: r.Number, Type: api.EventStatus, Process: &p})
	case r.Stderr != "":
		all = append(all, api.ProcessEvent{Sequence: r.Number, Type: api.EventStderr,
			Text: r.Stderr})
	default:
		all = append(all, api.ProcessEvent{Sequence: r.Number, Type: api.EventStdout,
			Text: r.Stdout})
	}
	return all
}
