package gateway

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/fault"
	"github.com/sandpool/sandpool/internal/gateway/live"
	"github.com/sandpool/sandpool/internal/gateway/terminal"
	"github.com/sandpool/sandpool/internal/gateway/wire"
	"github.com/sandpool/sandpool/internal/interpreter"
)

// inside calls fn with the name of the context or the terminal in the call's path and the
// interpreter of its session, which must be there.
func (g *Gateway) inside(c *call, fn func(in *interpreter.Interpreter,
	name string) error) error {
	name := c.name
	c.name = "" // else a session that is not there would be one without the execution of that name
	return g.existing(c, func(in *interpreter.Interpreter, _ wire.About) error {
		return fn(in, name)
	})
}

// listContexts lists the contexts of a session.
func (g *Gateway) listContexts(c *call) error {
	return g.inside(c, func(in *interpreter.Interpreter, _ string) error {
		all, err := in.Contexts(c.r.Context())
		if err != nil {
			return err
		}
		list := api.Contexts{Value: make([]api.Context, len(all))}
		for i, one := range all {
			list.Value[i] = wire.Context(one)
		}
		return arm.WriteJSON(c.w, http.StatusOK, list)
	})
}

// listKernels lists the kernels that code of a session can name. The session is made if there is
// none: what kernels there are is for its sandbox to say.
func (g *Gateway) listKernels(c *call) error {
	return g.use(c, func(ctx context.Context, in *interpreter.Interpreter) error {
		all, err := in.Kernels(ctx)
		if err != nil {
			return err
		}
		list := api.Kernels{Value: make([]api.Kernel, len(all))}
		for i, k := range all {
			list.Value[i] = api.Kernel{Name: k.Name, DisplayName: k.DisplayName,
				Language: k.Language, Jupyter: k.Jupyter}
		}
		return arm.WriteJSON(c.w, http.StatusOK, list)
	})
}

// getContext describes one context.
func (g *Gateway) getContext(c *call) error {
	return g.inside(c, func(in *interpreter.Interpreter, name string) error {
		all, err := in.Contexts(c.r.Context())
		if err != nil {
			return err
		}
		for _, one := range all {
			if one.Name == name {
				return arm.WriteJSON(c.w, http.StatusOK, wire.Context(one))
			}
		}
		return sandpool.Errorf(sandpool.NotFound, "ContextNotFound", "context",
			"The session has no context %q. PUT makes it.", clip(name))
	})
}

// maxContextBody bounds the body of a call that makes a context.
const maxContextBody = 4 << 10

// makeContext starts a kernel in a context of its own. The session is made if there is none.
func (g *Gateway) makeContext(c *call) error {
	body, err := io.ReadAll(newSteady(c.w, http.MaxBytesReader(c.w, c.r.Body, maxContextBody),
		g.options.Stall))
	if err != nil {
		return sandpool.Errorf(sandpool.Invalid, codeValidation, "body",
			`The request's body is not small JSON such as {"kernel":"shell"}.`)
	}
	var want api.ContextRequest
	if len(strings.TrimSpace(string(body))) > 0 {
		if err := arm.Unmarshal(body, &want); err != nil {
			return badBody(err)
		}
	}
	if err := agent.CheckName("context", c.name); err != nil {
		return err
	}
	return g.use(c, func(ctx context.Context, in *interpreter.Interpreter) error {
		if want.Kernel == "" {
			all, err := in.Contexts(ctx)
			if err != nil {
				return err
			}
			want.Kernel = all[0].Kernel
		}
		made, err := in.MakeContext(ctx, c.name, want.Kernel)
		if err != nil {
			return err
		}
		return arm.WriteJSON(c.w, http.StatusOK, wire.Context(made))
	})
}

// changeInside is an operation on a context or a terminal that answers with nothing.
func changeInside(do func(*interpreter.Interpreter, *http.Request, string) error) func(*Gateway,
	*call) error {
	return func(g *Gateway, c *call) error {
		return g.inside(c, func(in *interpreter.Interpreter, name string) error {
			if err := do(in, c.r, name); err != nil {
				return err
			}
			c.w.WriteHeader(http.StatusNoContent)
			return nil
		})
	}
}

func deleteContext(in *interpreter.Interpreter, r *http.Request, name string) error {
	return in.DeleteContext(r.Context(), name)
}

func restartContext(in *interpreter.Interpreter, r *http.Request, name string) error {
	return in.RestartContext(r.Context(), name)
}

func interruptContext(in *interpreter.Interpreter, r *http.Request, name string) error {
	return in.InterruptContext(r.Context(), name)
}

// terminal views the terminal that the call's path names over a WebSocket.
func (g *Gateway) terminal(c *call) error {
	if err := terminal.Wanted(c.w, c.r); err != nil {
		return err
	}
	columns, err := c.query.Get("columns")
	if err != nil {
		return err
	}
	rows, err := c.query.Get("rows")
	if err != nil {
		return err
	}
	size, err := terminal.Size(columns, rows)
	if err != nil {
		return err
	}
	identifier, err := c.identifier()
	if err != nil {
		return err
	}
	lease, err := g.pools.Acquire(c.r.Context(), c.pool, identifier)
	if err != nil {
		return err
	}
	defer lease.Release()
	t, err := g.within.Of(lease).Terminal(c.r.Context(), c.name, size)
	if err != nil {
		return err
	}
	ctx, cancel := g.whileServing(c.r.Context())
	defer cancel()
	defer context.AfterFunc(lease.Context(), cancel)()
	terminal.Carry(ctx, c.w, c.r, t, g.options.Stall)
	return nil
}

// listTerminals lists the terminals of a session.
func (g *Gateway) listTerminals(c *call) error {
	return g.inside(c, func(in *interpreter.Interpreter, _ string) error {
		all, err := in.Terminals(c.r.Context())
		if err != nil {
			return err
		}
		list := api.Terminals{Value: make([]api.Terminal, len(all))}
		for i, t := range all {
			list.Value[i] = api.Terminal{Name: t.Name, PID: t.PID, CreatedAt: wire.Stamp(t.Created),
				Columns: t.Columns, Rows: t.Rows, Viewers: t.Viewers}
		}
		return arm.WriteJSON(c.w, http.StatusOK, list)
	})
}

func endTerminal(in *interpreter.Interpreter, r *http.Request, name string) error {
	return in.EndTerminal(r.Context(), name)
}

// maxProcessBody bounds the body of a call that starts a process.
const maxProcessBody = 256 << 10

// startProcess starts a process in the background. The session is made if there is none.
func (g *Gateway) startProcess(c *call) error {
	body, err := io.ReadAll(newSteady(c.w, http.MaxBytesReader(c.w, c.r.Body, maxProcessBody),
		g.options.Stall))
	if err != nil {
		return sandpool.Errorf(sandpool.TooLarge, codeValidation, "body",
			"The request's body has more than %d bytes, or did not come. Upload data as a file.",
			maxProcessBody)
	}
	var want api.ProcessRequest
	if err := arm.Unmarshal(body, &want); err != nil {
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
	s, err := c.query.Get("wait")
	if err != nil {
		return err
	}
	most := int(agent.MaxBackgroundEnd / time.Second)
	wait, bad := strconv.Atoi(cmp.Or(s, "0"))
	if bad != nil || wait < 0 || wait > most {
		return sandpool.Errorf(sandpool.Invalid, codeValidation, "wait",
			"The query parameter 'wait' is %q; use seconds, at most %d.", clip(s), most)
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
	follow, err := c.query.Get(api.FollowParameter)
	if err != nil {
		return err
	}
	return g.inside(c, func(in *interpreter.Interpreter, name string) error {
		ctx, cancel := g.whileServing(c.r.Context())
		defer cancel()
		return g.events(c, func(send func(id int64, kind string, v any) error) error {
			return in.ProcessLogs(ctx, name, after, follow == "true",
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

// events sends what run says as a stream in the form that the caller wants, lines if it has not
// said. An error before the first event is the answer; after it, it is the last event.
func (g *Gateway) events(c *call,
	run func(send func(id int64, kind string, v any) error) error) error {
	form := cmp.Or(live.Wanted(c.r), live.Lines)
	control := http.NewResponseController(c.w)
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	begun, gone := false, false
	send := func(id int64, kind string, v any) error {
		b, err := form.EncodeAs(id, kind, v)
		if err != nil {
			return err
		}
		if !begun {
			form.Header(c.w.Header())
		}
		begun = true
		err = g.push(c, control, b)
		gone = err != nil
		return err
	}
	err := run(send)
	select {
	case <-g.over:
		if errors.Is(err, context.Canceled) {
			err = sandpool.Errorf(sandpool.Unavailable, "", "",
				"The server is stopping. Continue after the last event that you have.")
		}
	default:
	}
	if err == nil || !begun || gone || c.r.Context().Err() != nil {
		return err
	}
	e := asError(err)
	if e == nil || e.Class == sandpool.Internal {
		return err
	}
	return send(0, api.EventError, api.ExecutionEvent{Type: api.EventError,
		Error: &api.ErrorDetail{Code: cmp.Or(e.Code, fault.Code(e.Class)), Message: e.Message,
			Details: []api.ErrorDetail{}}})
}

// page reads how large a page of a list the caller wants, and after which path; 0 means that it has
// not said.
func (c *call) page() (size int, after string, err error) {
	s, err := c.query.Get("pageSize")
	if err != nil {
		return 0, "", err
	}
	token, err := c.query.Get("skipToken")
	if err != nil || s == "" && token == "" {
		return 0, "", err
	}
	size, bad := strconv.Atoi(cmp.Or(s, strconv.Itoa(agent.MaxEntries)))
	if bad != nil || size < 1 || size > agent.MaxEntries {
		return 0, "", sandpool.Errorf(sandpool.Invalid, codeValidation, "pageSize",
			"The query parameter 'pageSize' is %q; use 1 to %d.", clip(s), agent.MaxEntries)
	}
	path, bad := base64.RawURLEncoding.DecodeString(token)
	if bad != nil {
		return 0, "", sandpool.Errorf(sandpool.Invalid, codeValidation, "skipToken",
			"The query parameter 'skipToken' is not from a nextLink.")
	}
	return size, string(path), nil
}

// nextPage is the absolute URL of the page after a path.
func (g *Gateway) nextPage(c *call, after string) string {
	base := g.options.PublicURL
	if base == "" {
		base = arm.BaseURL(c.r)
	}
	query := c.r.URL.Query()
	for name := range query {
		if strings.EqualFold(name, "skipToken") {
			query.Del(name)
		}
	}
	query.Set("skipToken", base64.RawURLEncoding.EncodeToString([]byte(after)))
	return base + c.r.URL.EscapedPath() + "?" + query.Encode()
}

// watchFiles tells what happens beneath a directory, as a stream, for as long as the caller reads
// and the session lasts.
func (g *Gateway) watchFiles(c *call) error {
	dir, err := c.directory()
	if err != nil {
		return err
	}
	return g.use(c, func(ctx context.Context, in *interpreter.Interpreter) error {
		ctx, cancel := g.whileServing(ctx)
		defer cancel()
		return g.events(c, func(send func(id int64, kind string, v any) error) error {
			number := int64(0)
			return in.Watch(ctx, dir, func(e agent.FileEvent) error {
				number++
				return send(number, string(e.Type), wire.FileEvent(number, e))
			})
		})
	})
}

// whileServing is ctx until the server stops, which waits for its requests.
func (g *Gateway) whileServing(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-g.over:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
