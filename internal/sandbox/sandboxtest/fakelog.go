package sandboxtest

import (
	"context"
	"fmt"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// record is the log of one sandbox. world.mu guards it.
type record struct {
	lines  []byte
	ended  bool
	change chan struct{} // closed by the next line, or the end
}

// Say has the first process of a running sandbox, whose template has Logs, write a line.
func (f *Fake) Say(id sandbox.ID, toErr bool, text string) {
	stream := "stdout"
	if toErr {
		stream = "stderr"
	}
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.logs[id]; r != nil && !r.ended {
		r.lines = fmt.Appendf(r.lines, "%s %s F %s\n", time.Now().UTC().Format(time.RFC3339Nano),
			stream, text)
		r.changed()
	}
}

func (r *record) changed() {
	close(r.change)
	r.change = make(chan struct{})
}

// endLog ends a sandbox's log, which is kept. The caller holds mu.
func (w *world) endLog(id sandbox.ID) {
	if r := w.logs[id]; r != nil && !r.ended {
		r.ended = true
		r.changed()
	}
}

// ReadLog implements sandbox.LogReader.
func (f *Fake) ReadLog(ctx context.Context, id sandbox.ID, q sandbox.LogQuery) (sandbox.LogPage,
	error) {
	w := f.world
	for {
		w.mu.Lock()
		r := w.logs[id]
		if r == nil {
			w.mu.Unlock()
			return sandbox.LogPage{}, sandpool.Errorf(sandpool.NotFound, "", "sandbox",
				"There is no log of the sandbox %q.", id)
		}
		from := min(q.From, int64(len(r.lines)))
		lines, ended, change := r.lines[from:], r.ended, r.change
		w.mu.Unlock()
		if len(lines) > 0 || ended || !q.Follow {
			return sandbox.LogPage{Sandbox: id, Lines: lines, Start: from, Next: from +
				int64(len(lines))}, nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return sandbox.LogPage{Sandbox: id, Start: from, Next: from}, nil
		}
	}
}
