package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/gateway/live"
	"github.com/sandpool/sandpool/internal/gateway/wire"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// tape is a log, and how far it has been read.
type tape struct {
	pool       sandpool.PoolID
	identifier sandpool.Identifier // empty for a sandbox that is named
	sandbox    sandpool.SandboxID  // empty for the session's newest
	at         int64
}

// logs answers with what a session's sandbox wrote, or with the stream of it.
func (g *Gateway) logs(c *call) error {
	src, err := c.tape()
	if err != nil {
		return err
	}
	follow, err := c.flag(api.FollowParameter)
	if err != nil {
		return err
	}
	form := live.Wanted(c.r)
	if form == "" && follow {
		form = live.Lines
	}
	if form != "" {
		return g.streamLog(c, &src, form, follow)
	}
	page, err := g.readLog(c.r.Context(), &src, false)
	if err != nil {
		return err
	}
	out := api.LogLines{Sandbox: string(src.sandbox), Value: page, Next: src.cursor(src.at)}
	return arm.WriteJSON(c.w, http.StatusOK, out)
}

// tape reads which log a call is about. A sandbox without a session is for those who may see all of
// the pool's sessions.
func (c *call) tape() (tape, error) {
	src := tape{pool: c.pool}
	named, err := c.Named()
	if err != nil {
		return src, err
	}
	id, err := c.query.Get(api.SandboxParameter)
	if err != nil {
		return src, err
	}
	src.sandbox = sandpool.SandboxID(id)
	if named != "" || id == "" || c.narrow {
		if src.identifier, err = c.identifier(); err != nil {
			return src, err
		}
	}
	after, err := c.query.Get(api.AfterParameter)
	if err != nil {
		return src, err
	}
	if after == "" {
		after = c.r.Header.Get("Last-Event-Id")
	}
	return src, src.seek(after)
}

// cursor names a position for a later call.
func (s *tape) cursor(at int64) string {
	return string(s.sandbox) + "." + strconv.FormatInt(at, 10)
}

// seek goes to the position that a cursor names.
func (s *tape) seek(cursor string) error {
	if cursor == "" {
		return nil
	}
	id, at, ok := strings.Cut(cursor, ".")
	n, err := strconv.ParseInt(at, 10, 64)
	if !ok || id == "" || err != nil || n < 0 || s.sandbox != "" &&
		s.sandbox != sandpool.SandboxID(id) {
		return sandpool.Errorf(sandpool.Invalid, wire.CodeValidation, api.AfterParameter,
			"The query parameter '%s' (or the header Last-Event-ID) is %q; use 'next' of what "+
				"you have read.", api.AfterParameter, clip(cursor))
	}
	s.sandbox, s.at = sandpool.SandboxID(id), n
	return nil
}

// readLog reads on. With follow it waits for a line until the sandbox or ctx has ended.
func (g *Gateway) readLog(ctx context.Context, s *tape, follow bool) ([]api.LogLine, error) {
	q := sandbox.LogQuery{From: s.at, Follow: follow}
	read := func() (sandbox.LogPage, error) {
		return g.pools.SessionLog(ctx, s.pool, s.identifier, s.sandbox, q)
	}
	if s.identifier == "" {
		read = func() (sandbox.LogPage, error) {
			return g.pools.SandboxLog(ctx, s.pool, s.sandbox, q)
		}
	}
	page, err := read()
	if err != nil {
		return nil, err
	}
	s.sandbox = page.Sandbox
	lines := []api.LogLine{}
	for r := range page.Records() {
		lines = append(lines, api.LogLine{Time: r.Time, Stream: r.Stream, Part: r.Part,
			Next: s.cursor(r.Next),
			Text: strings.ToValidUTF8(string(r.Text), "\ufffd")})
	}
	if len(lines) > 0 {
		lines[0].Missed = page.Start > s.at
	}
	s.at = page.Next
	return lines, nil
}

// streamLog sends the lines of a log as they come: to the end of what there is, or with follow to
// the end of the sandbox. Nothing waits for its reader but the stream.
func (g *Gateway) streamLog(c *call, s *tape, form live.Form, follow bool) error {
	ctx, cancel := g.whileServing(c.r.Context())
	defer cancel()
	lines, err := g.readLog(ctx, s, false) // an error is an answer of its own
	if err != nil {
		return err
	}
	c.w.Header()["X-Ms-Session-Guid"] = []string{string(s.sandbox)}
	out := g.stream(c, form)
	defer out.close()
	if err := out.lines(lines); err != nil {
		return err
	}
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	// Who waits for the next line goes on waiting while the stream shows that it is there: to ask
	// anew may cost an engine a connection.
	type piece struct {
		lines []api.LogLine
		err   error
	}
	pieces := make(chan piece, 1)
	beat := time.NewTicker(g.options.Heartbeat)
	defer beat.Stop()
	for read := true; ; {
		if read {
			reading.Go(func() {
				lines, err := g.readLog(ctx, s, follow)
				pieces <- piece{lines, err}
			})
		}
		var p piece
		select {
		case p = <-pieces:
			if read = true; p.err != nil || ctx.Err() != nil || len(p.lines) == 0 {
				return ignoreEnd(p.err)
			}
			beat.Reset(g.options.Heartbeat)
		case <-beat.C:
			read = false
		}
		if err := out.lines(p.lines); err != nil {
			return err
		}
	}
}

// ignoreEnd is for a log that goes while it is read: its reader has the rest.
func ignoreEnd(err error) error {
	if sandpool.ClassOf(err) == sandpool.NotFound {
		return nil
	}
	return err
}

// lines sends a piece of a log, or a heartbeat if there is none.
func (s *stream) lines(lines []api.LogLine) (err error) {
	b := s.form.Heartbeat()
	if len(lines) > 0 {
		b = b[:0]
	}
	for _, l := range lines {
		if b, err = s.form.AppendLine(b, l); err != nil {
			return fmt.Errorf("encode a line of a log: %w", err)
		}
	}
	return s.send(b, false)
}
