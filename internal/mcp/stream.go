package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/budget"
	"github.com/sandpool/sandpool/internal/mcp/rpc"
)

const (
	// largeAnswer is what an answer may have without waiting for room, and answerTime how long it
	// waits.
	largeAnswer = 4 << 20
	answerTime  = 30 * time.Second
	// pieceSize is how much of a stream a caller must take within pieceTime.
	pieceSize = 64 << 10
	pieceTime = 30 * time.Second
	// quiet is after how long without output a notification says that the code still runs. Clients
	// give up on a call that says nothing, the first after 60 s.
	quiet = 15 * time.Second
	// maxProgress is the most of a notification's text, in bytes.
	maxProgress = 8 << 10
)

// room takes memory for a large answer.
func (c *call) room(size int64) (*budget.Share, error) {
	share := c.s.answers.Share(c.holder(""))
	if size <= largeAnswer {
		return share, nil
	}
	wait, cancel := context.WithTimeout(c.r.Context(), answerTime)
	defer cancel()
	if err := share.Take(wait, size); err != nil {
		if c.r.Context().Err() != nil {
			return nil, context.Cause(c.r.Context())
		}
		return nil, &sandpool.Error{
			Class: sandpool.Unavailable,
			Err:   err,
			Message: "The code ran, but too many large answers wait to be read. Write large " +
				"results to " +
				"files in /mnt/data.",
		}
	}
	return share, nil
}

// wantStream opens a stream if the request asks for progress and its caller reads streams.
func (c *call) wantStream(token json.RawMessage) error {
	switch {
	case token == nil || token[0] == 'n' || c.batch:
		return nil
	case !rpc.IsID(token):
		return rpc.Errorf(rpc.CodeParams,
			"The progressToken must be a number, or a string of up to %d bytes.", rpc.MaxID)
	case !strings.Contains(strings.ToLower(strings.Join(c.r.Header.Values("Accept"), ",")),
		"text/event-stream"):
		return nil
	}
	c.stream = &stream{call: c, token: token}
	return nil
}

// stream is an answer in server-sent events: notifications of progress, and then the response.
type stream struct {
	call  *call
	token json.RawMessage

	mu    sync.Mutex // guards the fields below it, and writing
	begun bool
	count int64
	at    time.Time // of the last event
	err   error     // of the first event that was not taken
}

// progress sends a part of the output, or that there is none.
func (s *stream) progress(text string) error {
	if len(text) > maxProgress {
		text = strings.ToValidUTF8(text[:maxProgress], "") + "…"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	params := map[string]any{"progressToken": s.token, "progress": s.count}
	if text != "" {
		params["message"] = text
	}
	return s.send(
		rpc.Notification{JSONRPC: rpc.Version, Method: "notifications/progress", Params: params},
	)
}

// beat sends notifications while there is no output. The caller calls stop, after which there are
// none.
func (s *stream) beat() (stop func()) {
	done, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(quiet / 3)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case now := <-tick.C:
				s.mu.Lock()
				silent := now.Sub(s.at) > quiet
				s.mu.Unlock()
				if silent && s.progress("") != nil {
					return
				}
			}
		}
	}()
	return func() { close(done); <-over }
}

// last sends the response, which ends the stream. Errors are events, too.
func (s *stream) last(r rpc.Response) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.JSONRPC = rpc.Version
	if !s.begun && r.Error != nil {
		return s.call.reply(r.Error.Status, r) // its status says something
	}
	return s.send(r)
}

// send writes an event. The caller holds mu.
func (s *stream) send(v any) error {
	if s.err != nil {
		return s.err
	}
	b := bytes.NewBufferString("event: message\ndata: ")
	if err := json.NewEncoder(b).Encode(v); err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	b.WriteByte('\n') // the encoder has ended the line
	s.call.releaseAll()
	share, err := s.call.room(int64(b.Len()))
	if err != nil {
		return err
	}
	defer share.Release()
	s.err = s.write(b)
	s.at = time.Now()
	return s.err
}

func (s *stream) write(b *bytes.Buffer) error {
	w := s.call.w
	control := http.NewResponseController(w)
	if !s.begun {
		s.begun = true
		h := w.Header()
		h.Set("Content-Type", "text/event-stream; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Accel-Buffering", "no")
		w.WriteHeader(http.StatusOK)
	}
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	for b.Len() > 0 {
		if err := control.SetWriteDeadline(
			time.Now().Add(pieceTime),
		); err != nil &&
			!errors.Is(err, http.ErrNotSupported) {
			return fmt.Errorf("set the write deadline: %w", err)
		}
		if _, err := w.Write(b.Next(pieceSize)); err != nil {
			return arm.NotTaken(err)
		}
	}
	if err := control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) &&
		!errors.Is(err, io.EOF) {
		return arm.NotTaken(err)
	}
	return nil
}
