package executions

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// maxRequest bounds a request in JSON, which makes six bytes of a control character.
const maxRequest = 6*agent.MaxCode + 64<<10

// Register adds the registry's part of the protocol by handle, which sees to it that only the host
// calls. check puts in the defaults of a request and checks its bounds.
func (g *Registry) Register(handle func(pattern string, fn func(http.ResponseWriter,
	*http.Request) error),
	check func(*agent.ExecuteRequest) error, run Runner) {
	handle("POST /executions", func(w http.ResponseWriter, r *http.Request) error {
		var req agent.StartRequest
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(
			&req); err != nil {
			return &sandpool.Error{Class: sandpool.Invalid, Target: "body",
				Message: "The request is not the JSON it should be.", Err: err}
		}
		if err := check(&req.ExecuteRequest); err != nil {
			return err
		}
		e, err := g.Start(r.Context(), req, run)
		return answer(w, e, err)
	})
	handle("GET /executions", func(w http.ResponseWriter, _ *http.Request) error {
		return agent.WriteJSON(w, g.List())
	})
	handle("DELETE /execution", func(w http.ResponseWriter, r *http.Request) error {
		e, err := g.Cancel(r.URL.Query().Get("id"))
		return answer(w, e, err)
	})
	handle("GET /execution/end", func(w http.ResponseWriter, r *http.Request) error {
		e, err := g.Wait(r.Context(), r.URL.Query().Get("id"))
		return answer(w, e, err)
	})
	handle("GET /execution", func(w http.ResponseWriter, r *http.Request) error {
		e, err := g.Get(r.URL.Query().Get("id"))
		if err != nil {
			return err
		}
		return write(w, e)
	})
	handle("GET /execution/events", g.events)
}

// events sends records as they come. It waits for a host that does not read, and nothing else does.
func (g *Registry) events(w http.ResponseWriter, r *http.Request) error {
	after, err := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
	if err != nil || after < 0 {
		return sandpool.Errorf(sandpool.Invalid, "", "after",
			"after is not the number of an event.")
	}
	control := http.NewResponseController(w)
	begun := false
	err = g.Read(r.Context(), r.URL.Query().Get("id"), after, func(rec agent.Record) error {
		if err := control.SetWriteDeadline(time.Now().Add(readTime)); err != nil {
			return fmt.Errorf("set the write deadline: %w", err)
		}
		begun = true
		return errors.Join(write(w, rec), control.Flush())
	})
	_ = control.SetWriteDeadline(time.Time{})
	if begun && err != nil {
		panic(http.ErrAbortHandler) // so that the host does not take it for the whole
	}
	return err
}

// readTime is how long the host may take for one record. Its own caller may be slow.
const readTime = 2 * time.Minute

func write(w http.ResponseWriter, v any) error {
	frame, err := agent.EncodeFrame(v)
	if err != nil {
		return err
	}
	_, err = w.Write(frame)
	return err
}

// answer passes err on, and otherwise writes v.
func answer(w http.ResponseWriter, v any, err error) error {
	if err != nil {
		return err
	}
	return agent.WriteJSON(w, v)
}
