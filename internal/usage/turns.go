package usage

import (
	"context"
	"sync"
)

// turns bounds the answers that are made at the same time, over all and for each caller: one who
// asks without pause leaves a place for others.
type turns struct {
	mu      sync.Mutex // guards the fields below it
	held    map[string]bool
	changed chan struct{} // closed when somebody leaves
}

func newTurns() *turns {
	return &turns{held: map[string]bool{}, changed: make(chan struct{})}
}

// take waits for a turn of a caller's. Who has it must leave.
func (t *turns) take(ctx context.Context, who string) error {
	for {
		t.mu.Lock()
		if len(t.held) < maxAnswers && !t.held[who] {
			t.held[who] = true
			t.mu.Unlock()
			return nil
		}
		changed := t.changed
		t.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *turns) leave(who string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.held, who)
	close(t.changed)
	t.changed = make(chan struct{})
}
