package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
)

// running returns the pod of a sandbox that runs, as far as the copy knows.
func (e *Engine) running(h sandbox.Handle) (*rest.Pod, error) {
	p := e.pods.peek(h.ID)
	if _, over := exitOf(p); over {
		return nil, ended(h.ID)
	}
	var own handle
	if len(h.Data) > 0 && (json.Unmarshal(h.Data, &own) != nil || own.UID != p.Metadata.UID) {
		return nil, ended(h.ID)
	}
	if p.Status.PodIP == "" {
		return nil, sandpool.Errorf(sandpool.Unavailable, "", "port",
			"The sandbox %q has no address yet.", h.ID)
	}
	return p, nil
}

// Dial implements sandbox.Runtime. It asks nobody but the copy, so it works while the API server is
// away.
func (e *Engine) Dial(ctx context.Context, h sandbox.Handle, port int) (net.Conn, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	p, err := e.running(h)
	if err != nil {
		return nil, err
	}
	if port == sandbox.Channel {
		return nil, sandpool.Errorf(sandpool.Conflict, "", "port", "The sandbox %q has no channel.",
			h.ID)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(p.Status.PodIP, strconv.Itoa(port)))
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if _, gone := e.running(h); sandpool.ClassOf(gone) == sandpool.Ended {
			return nil, gone
		}
		refused := sandpool.Errorf(sandpool.Unavailable, "", "port",
			"Nothing listens on port %d of sandbox %q.", port, h.ID)
		refused.Err = err
		return nil, refused
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("a connection by TCP is a %T", conn), conn.Close())
	}
	return e.track(h, &stream{TCPConn: tcp, engine: e, id: h.ID})
}

// track remembers a stream, which is to end with its sandbox.
func (e *Engine) track(h sandbox.Handle, s *stream) (net.Conn, error) {
	e.mu.Lock()
	if e.streams[h.ID] == nil {
		e.streams[h.ID] = map[*stream]bool{}
	}
	e.streams[h.ID][s] = true
	e.mu.Unlock()
	if _, err := e.running(h); err != nil { // it may have ended just before
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Exec implements sandbox.Executor.
func (e *Engine) Exec(ctx context.Context, h sandbox.Handle,
	p sandbox.Program) (sandbox.ProgramResult, error) {
	if len(p.Args) == 0 || p.Args[0] == "" {
		return sandbox.ProgramResult{}, invalid("args", "The command line names no program.")
	}
	if len(p.Env) > 0 || p.Dir != "" && p.Dir != "/" {
		return sandbox.ProgramResult{}, unsupported("env",
			"A program in a pod has the environment and the folder of the first process.")
	}
	if _, err := e.running(h); err != nil {
		return sandbox.ProgramResult{}, err
	}
	code, output, err := e.exec(ctx, h.ID, p.Args)
	if err != nil {
		if _, gone := e.running(h); sandpool.ClassOf(gone) == sandpool.Ended {
			return sandbox.ProgramResult{}, gone
		}
	}
	if errors.Is(err, rest.ErrNotStarted) {
		err = &sandpool.Error{Class: sandpool.Invalid, Target: "args",
			Message: fmt.Sprintf("The program %q cannot be started.", p.Args), Err: err}
	}
	return sandbox.ProgramResult{Code: code, Output: output}, err
}

// exec runs a program in the sandbox's container.
func (e *Engine) exec(ctx context.Context, id sandbox.ID, args []string) (int, string, error) {
	p := e.pods.peek(id)
	if p == nil {
		return 0, "", ended(id)
	}
	return e.cfg.Client.Exec(ctx, p.Metadata.Namespace, podName(id), containerName, args)
}
