package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/fault"
	"github.com/sandpool/sandpool/internal/gateway/live"
)

const (
	// allAnswers is of large answers on their way to callers, in bytes. A pool has poolAnswers of
	// it, and a caller callerAnswers.
	allAnswers    = 384 << 20
	poolAnswers   = 128 << 20
	callerAnswers = 64 << 20
	// largeAnswer is what an answer may have without waiting for room.
	largeAnswer = 4 << 20
	// answerTime is how long a large answer waits for room.
	answerTime = 30 * time.Second
	// piece is what of a stream is written at a time, for which its caller has the stall limit.
	piece = 64 << 10
)

// deliver sends an answer, which counts against its caller's part as far as it has not been taken.
func (g *Gateway) deliver(c *call, status int, b *arm.Answer) error {
	if b.Size() <= largeAnswer {
		return b.Send(c.w, status, nil)
	}
	share := g.answers.Share(c.Holder(""))
	defer share.Release()
	wait, cancel := context.WithTimeout(c.r.Context(), answerTime)
	defer cancel()
	if err := share.Take(wait, b.Size()); err != nil {
		if gone := c.r.Context().Err(); gone != nil {
			return context.Cause(c.r.Context())
		}
		return &sandpool.Error{Class: sandpool.Unavailable, Err: err,
			Message: "Too many large answers wait to be read, of this caller, the pool or the " +
				"server. What was asked for is done. Read them, and write large results to files " +
				"in /mnt/data and download them."}
	}
	return b.Send(c.w, status, func() { share.Keep(b.Size()) })
}

// describe sets the headers of a file's content. It was written by code that
// nobody has reviewed, so a browser must never run it as a page of this server.
func describe(h http.Header, content *agent.Content, file string) {
	for name, values := range content.Header {
		h[name] = values
	}
	if content.Status == http.StatusRequestedRangeNotSatisfiable {
		h.Set("Content-Length", "0")
		h.Del("Content-Type")
	}
	h.Set("Content-Disposition", mime.FormatMediaType("attachment",
		map[string]string{"filename": path.Base(file)}))
	h.Set("Content-Security-Policy", "sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
}

// pour copies r to the caller, who must take each piece within the stall limit.
func (g *Gateway) pour(c *call, r io.Reader) error {
	control := http.NewResponseController(c.w)
	// The server sets no deadline of its own for the connection's next answer.
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	buf := make([]byte, 64<<10)
	for {
		n, readErr := r.Read(buf)
		if n > 0 {
			if err := control.SetWriteDeadline(time.Now().Add(g.options.Stall)); err != nil &&
				!errors.Is(err, http.ErrNotSupported) {
				return arm.NotTaken(err)
			}
			if _, err := c.w.Write(buf[:n]); err != nil {
				return arm.NotTaken(err)
			}
		}
		switch {
		case errors.Is(readErr, io.EOF):
			return nil
		case readErr != nil:
			return &sandpool.Error{Class: sandpool.Unavailable,
				Message: "The file's content ended early.", Err: readErr}
		}
	}
}

// stream is an answer that goes out in pieces, as they come.
type stream struct {
	g       *Gateway
	c       *call
	form    live.Form
	control *http.ResponseController
	begun   bool // the caller has a part of it
	gone    bool // the caller takes no more
}

// stream returns an answer of the form, which must be closed.
func (g *Gateway) stream(c *call, form live.Form) *stream {
	return &stream{g: g, c: c, form: form, control: http.NewResponseController(c.w)}
}

// close leaves the connection's next answer without the deadline of this one.
func (s *stream) close() { _ = s.control.SetWriteDeadline(time.Time{}) }

// send writes a piece, which counts against its caller's part of memory while it is large and has
// not been taken. With more, the next piece is there already, and takes the end of this one along.
func (s *stream) send(b []byte, more bool) error {
	if !s.begun {
		s.form.Header(s.c.w.Header())
		s.begun = true
	}
	err := s.push(b, more)
	s.gone = err != nil
	return err
}

func (s *stream) push(b []byte, more bool) error {
	g, c := s.g, s.c
	if len(b) > largeAnswer {
		share := g.answers.Share(c.Holder(""))
		defer share.Release()
		wait, cancel := context.WithTimeout(c.r.Context(), answerTime)
		defer cancel()
		if err := share.Take(wait, int64(len(b))); err != nil {
			return sandpool.Errorf(sandpool.Unavailable, "", "", "Too many large answers wait to "+
				"be read. Read them, and continue after the last event that you have.")
		}
	}
	for len(b) > 0 {
		next := b[:min(len(b), piece)]
		b = b[len(next):]
		if err := s.control.SetWriteDeadline(time.Now().Add(g.options.Stall)); err != nil &&
			!errors.Is(err, http.ErrNotSupported) {
			return fmt.Errorf("set the write deadline: %w", err)
		}
		if _, err := c.w.Write(next); err != nil {
			return arm.NotTaken(err)
		}
	}
	if more {
		return nil
	}
	if err := s.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) &&
		!errors.Is(err, io.EOF) {
		return arm.NotTaken(err)
	}
	return nil
}

// end returns what a call fails with whose stream ended with err. That is nothing if the caller has
// a part of the stream: the rest cannot come, and why is its last event.
func (s *stream) end(err error) error {
	if err == nil || !s.begun || s.gone || s.c.r.Context().Err() != nil {
		return err
	}
	e := asError(err)
	if e == nil || e.Class == sandpool.Internal {
		return err
	}
	b, failed := s.form.Encode(api.ExecutionEvent{Type: api.EventError,
		Error: &api.ErrorDetail{Code: cmp.Or(e.Code, fault.Code(e.Class)), Message: e.Message,
			Details: []api.ErrorDetail{}}})
	if failed != nil {
		return failed
	}
	return s.send(b, false)
}

// events sends what run says as a stream in the form that the caller wants, lines if it has not
// said. An error before the first event is the answer; after it, it is the last event.
func (g *Gateway) events(c *call,
	run func(send func(id int64, kind string, v any) error) error) error {
	s := g.stream(c, cmp.Or(live.Wanted(c.r), live.Lines))
	defer s.close()
	err := run(func(id int64, kind string, v any) error {
		b, err := s.form.EncodeAs(id, kind, v)
		if err != nil {
			return err
		}
		return s.send(b, false)
	})
	select {
	case <-g.over:
		if errors.Is(err, context.Canceled) {
			err = sandpool.Errorf(sandpool.Unavailable, "", "",
				"The server is stopping. Continue after the last event that you have.")
		}
	default:
	}
	return s.end(err)
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

// asError returns the first sandpool.Error in err's chain, or nil.
func asError(err error) *sandpool.Error {
	var e *sandpool.Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}
