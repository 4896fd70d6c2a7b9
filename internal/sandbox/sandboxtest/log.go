package sandboxtest

import (
	"context"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// logger starts a sandbox whose log is kept.
func (s *suite) logger() (sandbox.LogReader, sandbox.Handle) {
	s.Helper()
	reader, ok := s.Runtime.(sandbox.LogReader)
	if !ok || s.Say == nil {
		need.Lack(s, "the engine keeps no logs")
	}
	s.Template.Logs = true
	return reader, s.start()
}

// wantLog reads until the log has all the texts, in order.
func (s *suite) wantLog(reader sandbox.LogReader, id sandbox.ID, texts ...string) (next int64) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, ioLimit)
	defer cancel()
	var all strings.Builder
	for q := (sandbox.LogQuery{Follow: true}); ; {
		page, err := reader.ReadLog(ctx, id, q)
		if err != nil {
			s.Fatalf("ReadLog: %v", err)
		}
		all.Write(page.Lines)
		q.From = page.Next
		rest, found := all.String(), true
		for _, text := range texts {
			_, after, ok := strings.Cut(rest, text+"\n")
			rest, found = after, found && ok
		}
		if found {
			return q.From
		}
		if len(page.Lines) == 0 {
			s.Fatalf("the log is %q, want %q in it", all.String(), texts)
		}
	}
}

func logKept(s *suite) {
	reader, h := s.logger()
	s.Say(s.T, h, false, "to the output")
	s.wantLog(reader, h.ID, "stdout F to the output")
	s.Say(s.T, h, true, "to the error")
	s.wantLog(reader, h.ID, "stdout F to the output", "stderr F to the error")
	next := s.Reopen(s.T)
	s.Runtime = next
	reader, _ = next.(sandbox.LogReader)
	s.Say(s.T, h, false, "after a restart")
	s.wantLog(reader, h.ID, "stdout F to the output", "stderr F to the error",
		"stdout F after a restart")
	s.answers(h)
	s.stop(h)
	s.wantGone(h.ID)
	s.wantLog(reader, h.ID, "stdout F to the output", "stdout F after a restart")
}

// logFollowed waits for a line, for a caller that leaves, and for the end.
func logFollowed(s *suite) {
	reader, h := s.logger()
	s.Say(s.T, h, false, "first")
	from := s.wantLog(reader, h.ID, "first")
	pages := make(chan sandbox.LogPage, 1)
	go func() {
		page, err := reader.ReadLog(s.ctx, h.ID, sandbox.LogQuery{From: from, Follow: true})
		if err != nil {
			s.Errorf("ReadLog: %v", err)
		}
		pages <- page
	}()
	select {
	case page := <-pages:
		s.Errorf("ReadLog returned %q before anything was written", page.Lines)
	case <-time.After(20 * time.Millisecond):
		s.Say(s.T, h, false, "second")
		if page := <-pages; !strings.HasSuffix(string(page.Lines), "second\n") ||
			page.Start != from {
			s.Errorf("ReadLog = %q from %d, want the second line", page.Lines, page.Start)
		} else {
			from = page.Next
		}
	}
	ctx, cancel := context.WithTimeout(s.ctx, 20*time.Millisecond)
	defer cancel()
	if page, err := reader.ReadLog(ctx, h.ID, sandbox.LogQuery{From: from, Follow: true}); err !=
		nil || len(page.Lines) > 0 || page.Next != from {
		s.Errorf("ReadLog of a caller that leaves = %q, %v", page.Lines, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for page := (sandbox.LogPage{Next: from}); ; { // whatever it says in the end
			var err error
			if page, err = reader.ReadLog(s.ctx, h.ID, sandbox.LogQuery{From: page.Next,
				Follow: true}); err != nil || len(page.Lines) == 0 {
				return
			}
		}
	}()
	s.stop(h)
	select {
	case <-ended:
	case <-time.After(ioLimit):
		s.Error("a reader still waits although the sandbox has ended")
	}
}

func logNone(s *suite) {
	reader, ok := s.Runtime.(sandbox.LogReader)
	if !ok {
		need.Lack(s, "the engine keeps no logs")
	}
	_, err := reader.ReadLog(s.ctx, s.id(), sandbox.LogQuery{Follow: true})
	s.wantClass(err, sandpool.NotFound)
	h := s.start() // whose template has no logs
	if _, err := reader.ReadLog(s.ctx, h.ID, sandbox.LogQuery{}); sandpool.ClassOf(
		err) != sandpool.NotFound || err == nil {
		s.Errorf("ReadLog of a sandbox without a log: %v", err)
	}
}
