package gateway

import (
	"cmp"
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/gateway/body"
	"github.com/sandpool/sandpool/internal/gateway/wire"
	"github.com/sandpool/sandpool/internal/interpreter"
)

// maxProcessBody bounds the body of a call that starts a process.
const maxProcessBody = 256 << 10

// startProcess starts a process in the background. The session is made if there is none.
func (g *Gateway) startProcess(c *call) error {
	data, err := io.ReadAll(body.New(c.w, http.MaxBytesReader(c.w, c.r.Body, maxProcessBody),
		g.options.Stall))
	if err != nil {
		return sandpool.Errorf(sandpool.TooLarge, wire.CodeValidation, "body",
			"The request's body has more than %d bytes, or did not come. Upload data as a file.",
			maxProcessBody)
	}
	var want api.ProcessRequest
	if err := arm.Unmarshal(data, &want); err != nil {
		return arm.BodyError(err)
	}
	if want.ID == "" {
		want.ID = strings.ToLower(rand.Text())
	}
	if want.Traceparent {
		want.Env = c.withTrace(want.Env)
	}
	return g.use(c, func(ctx context.Context, in *interpreter.Interpreter) error {
		p, err := in.StartProcess(ctx, agent.ProcessRequest{ID: want.ID, Args: want.Command,
			Shell: want.ShellCommand, Env: want.Env, Dir: want.WorkingDirectory,
			Stdin: want.Stdin})
		if err != nil {
			return err
		}
		return arm.WriteJSON(c.w, http.StatusCreated, wire.Process(p))
	})
}

// listProcesses lists the background processes of a session.
func (g *Gateway) listProcesses(c *call) error {
	return g.inside(c, func(in *interpreter.Interpreter, _ string) error {
		all, err := in.Processes(c.r.Context())
		if err != nil {
			return err
		}
		list := api.Processes{Value: make([]api.Process, len(all))}
		for i, p := range all {
			list.Value[i] = wire.Process(p)
		}
		return arm.WriteJSON(c.w, http.StatusOK, list)
	})
}

// getProcess describes a background process, once it has ended or the caller will wait no longer.
func (g *Gateway) getProcess(c *call) error {
	wait, err := c.number("wait", 0, 0, int(agent.MaxBackgroundEnd/time.Second))
	if err != nil {
		return err
	}
	return g.inside(c, func(in *interpreter.Interpreter, name string) error {
		ctx, cancel := g.whileServing(c.r.Context())
		defer cancel()
		p, err := in.Process(ctx, name, time.Duration(wait)*time.Second)
		if err != nil {
			return err
		}
		return arm.WriteJSON(c.w, http.StatusOK, wire.Process(p))
	})
}

// signalProcess sends the signal that the query names.
func signalProcess(in *interpreter.Interpreter, r *http.Request, name string) error {
	signal, err := agent.ParseSignal(cmp.Or(r.URL.Query().Get("signal"), "TERM"))
	if err != nil {
		return err
	}
	return in.SignalProcess(r.Context(), name, signal)
}

func removeProcess(in *interpreter.Interpreter, r *http.Request, name string) error {
	return in.RemoveProcess(r.Context(), name)
}

// processLogs sends what a background process has put out, and with follow what it puts out until
// its end. A caller that was cut off goes on after the last event that it has.
func (g *Gateway) processLogs(c *call) error {
	after, err := c.after()
	if err != nil {
		return err
	}
	follow, err := c.flag(api.FollowParameter)
	if err != nil {
		return err
	}
	return g.inside(c, func(in *interpreter.Interpreter, name string) error {
		ctx, cancel := g.whileServing(c.r.Context())
		defer cancel()
		return g.events(c, func(send func(id int64, kind string, v any) error) error {
			return in.ProcessLogs(ctx, name, after, follow,
				func(r agent.ProcessRecord) error {
					for _, e := range wire.ProcessEvents(r) {
						if err := send(e.Sequence, e.Type, e); err != nil {
							return err
						}
					}
					return nil
				})
		})
	})
}
