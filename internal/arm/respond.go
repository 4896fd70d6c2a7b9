package arm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/fault"
	"github.com/sandpool/sandpool/internal/reply"
)

// statusClientGone is written when the caller has gone away; nobody reads it, but
// access logs show it (the number is nginx's).
const statusClientGone = 499

// OwnHeader is in every answer that the server gives instead of a container, with the error's code.
// A container's answer never has it, whatever the container sends.
const OwnHeader = "X-Sandpool-Error"

// Responder turns the errors of handlers into answers.
type Responder struct {
	// Log gets what callers do not see: internal errors and causes. Required.
	Log *slog.Logger
	// FullStatus is the status of class Full, 404 or 429; zero means 404.
	FullStatus int
	// Path returns what of a request's path may be written down; nil means LoggedPath.
	Path func(r *http.Request) string
	// Failed hears of every error that is answered, with the answer's status; nil means that
	// nobody does.
	Failed func(r *http.Request, status int, e *sandpool.Error)
}

// Handle returns a handler that calls fn and writes the error it returns, if
// any. A panic of fn is an internal error. An error after the answer has begun
// cannot be told to the caller any more: it is logged and the connection is cut, so that
// nobody takes half an answer for a whole one.
func (rs *Responder) Handle(fn func(w http.ResponseWriter, r *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := reply.Of(w)
		defer func() {
			switch p := recover(); {
			case p == nil:
			case p == http.ErrAbortHandler:
				panic(p)
			default:
				rs.fail(out, r, &panicError{value: p, stack: debug.Stack()})
			}
		}()
		if err := fn(out, r); err != nil {
			rs.fail(out, r, err)
		}
	})
}

// fail ends a request whose handler has failed.
func (rs *Responder) fail(w *reply.Writer, r *http.Request, err error) {
	if w.Status == 0 {
		rs.Error(w, r, err)
		return
	}
	rs.log(r, err, 0)
	panic(http.ErrAbortHandler)
}

// NotFound answers requests that no route takes.
func (rs *Responder) NotFound() http.Handler {
	return rs.Handle(func(_ http.ResponseWriter, r *http.Request) error {
		return sandpool.Errorf(sandpool.NotFound, "InvalidResourcePath", r.URL.Path,
			"There is nothing at %s %q.", r.Method, r.URL.Path)
	})
}

// Error writes err as the answer to r. Handlers return their errors to Handle;
// middleware calls Error.
func (rs *Responder) Error(w http.ResponseWriter, r *http.Request, err error) {
	e := classify(err)
	status := fault.Status(e.Class, e.Code, rs.FullStatus)
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		status = statusClientGone
	}
	rs.log(r, err, status)
	if rs.Failed != nil {
		rs.Failed(r, status, e)
	}
	detail := body(e)
	detail.TraceID = TraceID(r.Context())
	if e.Class == sandpool.Internal {
		detail.Message = fmt.Sprintf(
			"The server met an error. Its log says more under trace id %s.", detail.TraceID)
		detail.Details, detail.Target = []api.ErrorDetail{}, ""
	}
	h := w.Header()
	h.Set("X-Ms-Error-Code", detail.Code)
	h.Set(OwnHeader, detail.Code)
	if wait := cmp.Or(max(e.RetryAfter, 0), fault.RetryAfter(e.Class)); wait > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	}
	// A handler may have prepared these for the answer that it did not give.
	for _, k := range []string{"Content-Length", "Content-Encoding", "Content-Disposition", "Etag",
		"Last-Modified"} {
		h.Del(k)
	}
	h.Set("Cache-Control", "no-store")
	_ = WriteJSON(w, status, api.ErrorBody{Error: detail}) // a caller that is gone needs no answer
}

// classify returns err as an Error.
func classify(err error) *sandpool.Error {
	var e *sandpool.Error
	if errors.As(err, &e) {
		return e
	}
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &big):
		return tooLarge(big.Limit)
	case errors.Is(err, context.DeadlineExceeded):
		return &sandpool.Error{Class: sandpool.Unavailable,
			Message: "The server did not finish the request in time. Try again.", Err: err}
	}
	return &sandpool.Error{Class: sandpool.Internal, Err: err}
}

func tooLarge(limit int64) *sandpool.Error {
	return sandpool.Errorf(sandpool.TooLarge, "", "",
		"The request body is larger than the %d bytes that are allowed here.", limit)
}

// body renders e and its details for the caller.
func body(e *sandpool.Error) api.ErrorDetail {
	d := api.ErrorDetail{Code: e.Code, Message: e.Message, Target: e.Target,
		Details: []api.ErrorDetail{}}
	class := fault.Code(e.Class)
	switch {
	case !isCode(d.Code) || e.Class == sandpool.Internal:
		d.Code = class
	case d.Code != class:
		d.InnerError = &api.InnerError{Code: class}
	}
	if d.Message == "" {
		d.Message = e.Class.String()
	}
	for _, sub := range e.Details {
		d.Details = append(d.Details, body(sub))
	}
	return d
}

// isCode reports whether s may stand in a header as an error code.
func isCode(s string) bool {
	return s != "" && strings.IndexFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9')
	}) < 0
}
