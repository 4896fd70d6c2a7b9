package interpreter

import (
	"context"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// Processes is what an Agent does that keeps background processes; agent.Client describes it.
type Processes interface {
	StartProcess(ctx context.Context, r agent.ProcessRequest) (agent.BackgroundProcess, error)
	BackgroundProcesses(ctx context.Context) ([]agent.BackgroundProcess, error)
	BackgroundProcess(ctx context.Context, id string, wait time.Duration) (agent.BackgroundProcess,
		error)
	SignalProcess(ctx context.Context, id string, signal int) error
	RemoveProcess(ctx context.Context, id string) error
	ProcessLogs(ctx context.Context, id string, after int64, follow bool,
		emit func(agent.ProcessRecord) error) error
}

var _ Processes = (*agent.Client)(nil)

// inProcesses asks the agent something about background processes.
func inProcesses[T any](ctx context.Context, in *Interpreter, fn func(*call, Processes) (T,
	error)) (T, error) {
	return ask(ctx, in, agent.MaxBackgroundEnd+answerTime, func(c *call) (T, error) {
		p, ok := in.agent.(Processes)
		if !ok {
			var none T
			return none, sandpool.Errorf(sandpool.Unsupported, "", "process",
				"The session's sandbox runs no processes in the background.")
		}
		return fn(c, p)
	})
}

// StartProcess starts a process that goes on until it ends, or its session does.
func (in *Interpreter) StartProcess(ctx context.Context,
	r agent.ProcessRequest) (agent.BackgroundProcess, error) {
	return inProcesses(ctx, in, func(c *call, p Processes) (agent.BackgroundProcess, error) {
		return p.StartProcess(c.ctx, r)
	})
}

// Processes lists the background processes of the session, the oldest first.
func (in *Interpreter) Processes(ctx context.Context) ([]agent.BackgroundProcess, error) {
	return inProcesses(ctx, in, func(c *call, p Processes) ([]agent.BackgroundProcess, error) {
		return p.BackgroundProcesses(c.ctx)
	})
}

// Process returns a background process, once it has ended or wait is over.
func (in *Interpreter) Process(ctx context.Context, id string,
	wait time.Duration) (agent.BackgroundProcess, error) {
	return inProcesses(ctx, in, func(c *call, p Processes) (agent.BackgroundProcess, error) {
		return p.BackgroundProcess(c.ctx, id, wait)
	})
}

// SignalProcess sends a signal to a background process and its group.
func (in *Interpreter) SignalProcess(ctx context.Context, id string, signal int) error {
	_, err := inProcesses(ctx, in, func(c *call, p Processes) (struct{}, error) {
		return struct{}{}, p.SignalProcess(c.ctx, id, signal)
	})
	return err
}

// RemoveProcess ends a background process with all that it has started, and forgets it.
func (in *Interpreter) RemoveProcess(ctx context.Context, id string) error {
	_, err := inProcesses(ctx, in, func(c *call, p Processes) (struct{}, error) {
		return struct{}{}, p.RemoveProcess(c.ctx, id)
	})
	return err
}

// ProcessLogs calls emit with what a background process has put out after a record, and with
// follow with what is to come, until its end. An error of emit ends the call and is returned as it
// is.
func (in *Interpreter) ProcessLogs(ctx context.Context, id string, after int64, follow bool,
	emit func(agent.ProcessRecord) error) error {
	var own error
	_, err := inProcesses(ctx, in, func(c *call, p Processes) (struct{}, error) {
		if follow {
			c.pause() // it may say nothing for as long as it likes
		}
		return struct{}{}, p.ProcessLogs(c.ctx, id, after, follow,
			func(r agent.ProcessRecord) error {
				c.pause()
				own = emit(r)
				if !follow {
					c.renew(answerTime)
				}
				return own
			})
	})
	if own != nil {
		return own
	}
	return err
}
