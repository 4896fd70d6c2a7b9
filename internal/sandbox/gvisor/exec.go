package gvisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/sentry/control"
	"gvisor.dev/gvisor/pkg/sentry/kernel/auth"
	"gvisor.dev/gvisor/pkg/urpc"
	"gvisor.dev/gvisor/runsc/boot"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// handle is what Handle.Data holds. Sandboxes of earlier versions have no more than the first
// two fields.
type handle struct {
	Version int           `json:"v"`
	Engine  string        `json:"engine"`
	UID     uint32        `json:"uid,omitempty"`
	GID     uint32        `json:"gid,omitempty"`
	Groups  []uint32      `json:"groups,omitempty"`
	Stop    unix.Signal   `json:"stop,omitempty"`
	Grace   time.Duration `json:"grace,omitempty"`
}

func newHandle(id sandbox.ID, p *prepared) (sandbox.Handle, error) {
	data, err := json.Marshal(handle{Version: 1, Engine: "gvisor", UID: p.user.UID, GID: p.user.GID,
		Groups: p.user.Groups,
		Stop:   p.stop, Grace: p.template.Grace})
	return sandbox.Handle{ID: id, Data: data}, err
}

// readHandle reads what it can: a sandbox must be stopped whatever its handle says.
func readHandle(h sandbox.Handle) (own handle, err error) {
	if len(h.Data) == 0 {
		return own, errors.New("the handle is empty")
	}
	return own, json.Unmarshal(h.Data, &own)
}

// askToEnd gives the first process of b its stop signal and waits for its end, as long as the
// template grants it.
func (e *Engine) askToEnd(ctx context.Context, b *process, h sandbox.Handle) {
	own, err := readHandle(h)
	if err != nil || own.Grace <= 0 || own.Stop == 0 || b.ended() {
		return
	}
	b.stopping.Store(true)
	ctx, cancel := context.WithTimeout(ctx, own.Grace)
	defer cancel()
	err = e.call(ctx, b.id, boot.ContMgrSignal, &boot.SignalArgs{CID: string(b.id),
		Signo: int32(own.Stop), Mode: boot.DeliverToProcess}, nil)
	if err != nil {
		e.log.Debug("the stop signal did not arrive", "sandbox", b.id, "error", err)
		return
	}
	select {
	case <-b.done:
	case <-ctx.Done():
	}
}

// logPage is how much of a log is returned if the caller names no limit.
const logPage = 64 << 10

// ReadLog implements sandbox.LogReader.
func (e *Engine) ReadLog(ctx context.Context, id sandbox.ID, q sandbox.LogQuery) (sandbox.LogPage,
	error) {
	if err := checkID(id); err != nil {
		return sandbox.LogPage{}, err
	}
	lines, start, next, err := e.logs.Read(ctx, id, max(0, q.From), max(q.Limit, logPage), q.Follow)
	return sandbox.LogPage{Sandbox: id, Lines: lines, Start: start, Next: next}, err
}

// lastBytes is how much of a log goes into an error.
const lastBytes = 2 << 10

// lastWords is the end of what the first process of id wrote. What it wrote last may be on its way
// still, so the end of a process is waited for, for a moment.
func (e *Engine) lastWords(ctx context.Context, id sandbox.ID, t sandbox.Template) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deathWait)
	defer cancel()
	var all sandbox.LogPage
	b := e.process(id)
	for follow := b != nil && b.ended(); ; {
		page, err := e.ReadLog(ctx, id, sandbox.LogQuery{From: all.Next, Limit: 2 << 20,
			Follow: follow})
		if err != nil || len(page.Lines) == 0 {
			return all.Tail(t, lastBytes)
		}
		all.Lines, all.Next = append(all.Lines, page.Lines...), page.Next
	}
}

// Exec implements sandbox.Executor.
func (e *Engine) Exec(ctx context.Context, h sandbox.Handle,
	p sandbox.Program) (sandbox.ProgramResult, error) {
	own, err := readHandle(h)
	if err != nil {
		return sandbox.ProgramResult{}, fmt.Errorf("run a program in %q: %w", h.ID, err)
	}
	b := e.process(h.ID)
	if b == nil {
		return sandbox.ProgramResult{}, sandpool.Errorf(sandpool.Ended, "", "",
			"The sandbox %s does not run.", h.ID)
	}
	result, err := e.exec(ctx, b, own, p)
	if err != nil && ctx.Err() == nil && b.ended() {
		return result, ended(b.id, b.exit)
	}
	return result, err
}

func (e *Engine) exec(ctx context.Context, b *process, who handle,
	p sandbox.Program) (result sandbox.ProgramResult, err error) {
	if len(p.Args) == 0 {
		return result, invalid("args", "The command line is empty.")
	}
	if p.Dir == "" {
		p.Dir = "/"
	}
	said, err := console()
	if err != nil {
		return result, err
	}
	defer said.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil {
		return result, err
	}
	defer null.Close()
	groups := make([]auth.KGID, 0, len(who.Groups))
	for _, g := range who.Groups {
		groups = append(groups, auth.KGID(g))
	}
	var pid int32
	err = e.call(ctx, b.id, boot.ContMgrExecuteAsync, &control.ExecArgs{
		Argv: p.Args, Envv: p.Env, WorkingDirectory: p.Dir, ContainerID: string(b.id),
		KUID: auth.KUID(who.UID), KGID: auth.KGID(who.GID), ExtraKGIDs: groups,
		NoNewPrivileges: true, Capabilities: &auth.TaskCapabilities{},
		FilePayload: control.FilePayload{
			FilePayload: urpc.FilePayload{Files: []*os.File{null, said, said}}, GuestFDs: []int{0,
				1, 2}},
	}, &pid)
	if err != nil {
		if ctx.Err() != nil {
			return result, context.Cause(ctx)
		}
		return result, &sandpool.Error{Class: sandpool.Invalid, Code: "ProgramNotStarted",
			Target:  "args",
			Message: fmt.Sprintf("The program %.120q cannot be started.", p.Args[0]), Err: err}
	}
	var status uint32
	if err := e.call(ctx, b.id, boot.ContMgrWaitPID, &boot.WaitPIDArgs{PID: pid, CID: string(b.id)},
		&status); err != nil {
		if ctx.Err() != nil {
			e.killProgram(ctx, b, pid)
		}
		return result, err
	}
	ws := unix.WaitStatus(status)
	if result.Code = ws.ExitStatus(); ws.Signaled() {
		result.Code = 128 + int(ws.Signal())
	}
	result.Output = tail(said, consoleSize)
	return result, nil
}

// killProgram ends a program for whose end nobody waits any more.
func (e *Engine) killProgram(ctx context.Context, b *process, pid int32) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deathWait)
	defer cancel()
	err := e.call(ctx, b.id, boot.ContMgrSignal, &boot.SignalArgs{CID: string(b.id), PID: pid,
		Signo: int32(unix.SIGKILL), Mode: boot.DeliverToProcess}, nil)
	if err != nil {
		e.log.Debug("a program that takes too long cannot be killed", "sandbox", b.id, "error", err)
	}
}
