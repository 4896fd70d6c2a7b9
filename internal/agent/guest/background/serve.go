package background

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// maxRequest bounds a request in JSON, which makes six bytes of a control character.
const maxRequest = 6*agent.MaxCode + 64<<10

// readTime is how long the host may take for one record. Its own caller may be slow.
const readTime = 2 * time.Minute

// Register adds the registry's part of the protocol by handle, which sees to it that only the host
// calls. check says whether a request may go on, and makes its directory absolute.
func (g *Registry) Register(handle func(pattern string, fn func(http.ResponseWriter,
	*http.Request) error), config func() Config, check func(*agent.ProcessRequest) error) {
	handle("POST /background", func(w http.ResponseWriter, r *http.Request) error {
		var req agent.ProcessRequest
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(
			&req); err != nil {
			return &sandpool.Error{Class: sandpool.Invalid, Target: "body",
				Message: "The request is not the JSON it should be.", Err: err}
		}
		if err := check(&req); err != nil {
			return err
		}
		p, err := g.Start(config(), req)
		return answer(w, p, err)
	})
	handle("GET /background", func(w http.ResponseWriter, _ *http.Request) error {
		return answer(w, g.List(), nil)
	})
	handle("GET /background/one", func(w http.ResponseWriter, r *http.Request) error {
		wait, err := strconv.Atoi(r.URL.Query().Get("wait"))
		if err != nil || wait < 0 || wait > int(agent.MaxBackgroundEnd.Milliseconds()) {
			return sandpool.Errorf(sandpool.Invalid, "", "wait", "wait is no time in its bounds.")
		}
		ctx, cancel := context.WithTimeout(r.Context(), time.Duration(wait)*time.Millisecond)
		defer cancel()
		p, err := g.Get(r.URL.Query().Get("id"), ctx.Done())
		return answer(w, p, err)
	})
	handle("POST /background/signal", func(w http.ResponseWriter, r *http.Request) error {
		signal, err := strconv.Atoi(r.URL.Query().Get("signal"))
		if err != nil || signal < 1 || signal > 64 {
			return sandpool.Errorf(sandpool.Invalid, "", "signal", "signal is no signal.")
		}
		if err := g.Signal(r.URL.Query().Get("id"), syscall.Signal(signal)); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
	handle("DELETE /background", func(w http.ResponseWriter, r *http.Request) error {
		if err := g.Remove(config(), r.URL.Query().Get("id")); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
	handle("GET /background/logs", g.logs)
}

// logs sends records as they come. It waits for a host that does not read, and nothing else does.
func (g *Registry) logs(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	after, err := strconv.ParseInt(query.Get("after"), 10, 64)
	if err != nil || after < 0 {
		return sandpool.Errorf(sandpool.Invalid, "", "after",
			"after is not the number of a record.")
	}
	control := http.NewResponseController(w)
	begun := false
	err = g.Read(query.Get("id"), after, query.Get("follow") != "", r.Context().Done(),
		func(rec agent.ProcessRecord) error {
			if err := control.SetWriteDeadline(time.Now().Add(readTime)); err != nil {
				return fmt.Errorf("set the write deadline: %w", err)
			}
			frame, err := agent.EncodeFrame(rec)
			if err != nil {
				return err
			}
			begun = true
			_, err = w.Write(frame)
			return errors.Join(err, control.Flush())
		})
	_ = control.SetWriteDeadline(time.Time{})
	if begun && err != nil {
		panic(http.ErrAbortHandler) // so that the host does not take it for the whole
	}
	return err
}

// answer writes a result as JSON, or passes its error on.
func answer(w http.ResponseWriter, v any, err error) error {
	if err != nil {
		return err
	}
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // a client that is gone needs no answer
	return nil
}

// shown is the command line as lists have it.
func shown(req agent.ProcessRequest) []string {
	line := req.Args
	if req.Shell != "" {
		line = []string{req.Shell}
	}
	var out []string
	left := agent.MaxCommand
	for _, a := range line {
		a = strings.ToValidUTF8(a[:min(len(a), left)], "\uFFFD")
		left = max(0, left-len(a)-1) // one that is empty is one, too
		if out = append(out, a); left == 0 || len(out) == agent.MaxArguments {
			break
		}
	}
	return out
}
