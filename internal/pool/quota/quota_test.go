package quota

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/sandpool/sandpool"
)

// rows are sessions by who began them.
type rows struct {
	mu   sync.Mutex
	of   map[string]map[sandpool.Identifier]bool
	fail error
}

func (r *rows) SessionsOf(_ context.Context, by string, _ sandpool.PoolID,
	identifier sandpool.Identifier) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.of[by])
	if r.of[by][identifier] {
		n--
	}
	return n, r.fail
}

func (r *rows) add(by string, identifier sandpool.Identifier) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of[by] == nil {
		r.of[by] = map[sandpool.Identifier]bool{}
	}
	r.of[by][identifier] = true
}

// TestQuota: however many claims of a principal come at once, as many get through as it may have,
// and another principal's are none of them.
func TestQuota(t *testing.T) {
	const most, claims = 5, 60
	r := &rows{of: map[string]map[sandpool.Identifier]bool{}}
	q := New(most, r)
	var wait sync.WaitGroup
	var mu sync.Mutex
	got, refused := map[string]int{}, map[string]int{}
	for i := range claims {
		by := []string{"token:a", "token:b"}[i%2]
		identifier := sandpool.Identifier(strings.Repeat("x", i+1))
		wait.Go(func() {
			leave, err := q.Enter(t.Context(), by, sandpool.PoolID{}, identifier)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				var e *sandpool.Error
				if !errors.As(err, &e) || e.Code != Code || e.Class != sandpool.Unavailable ||
					e.RetryAfter <= 0 || !strings.Contains(e.Message, "limits.caller_sessions") ||
					!strings.Contains(e.Message, "5") {
					t.Errorf("%v", err)
				}
				refused[by]++
				return
			}
			r.add(by, identifier)
			got[by]++
			leave()
			leave() // does nothing
		})
	}
	wait.Wait()
	for _, by := range []string{"token:a", "token:b"} {
		if got[by] != most || refused[by] != claims/2-most {
			t.Errorf("%s has %d sessions, and %d refusals", by, got[by], refused[by])
		}
	}
	for identifier := range r.of["token:a"] {
		leave, err := q.Enter(t.Context(), "token:a", sandpool.PoolID{}, identifier)
		if err != nil {
			t.Fatalf("a session that is there already: %v", err)
		}
		leave()
	}
	if len(q.turns) != 0 {
		t.Errorf("%d turns are left", len(q.turns))
	}
}

// TestOff: without a quota, or a principal, nothing is counted.
func TestOff(t *testing.T) {
	r := &rows{fail: errors.New("disk")}
	for name, q := range map[string]*Quota{"": New(1, r), "token:a": New(0, r)} {
		leave, err := q.Enter(t.Context(), name, sandpool.PoolID{}, "x")
		if err != nil {
			t.Fatal(err)
		}
		leave()
	}
	if _, err := New(1, r).Enter(t.Context(), "token:a", sandpool.PoolID{}, "x"); err == nil {
		t.Error("a store that does not answer lets a claim through")
	}
}

// TestGone: a caller that has gone keeps nobody's turn.
func TestGone(t *testing.T) {
	q := New(1, &rows{})
	leave, err := q.Enter(t.Context(), "token:a", sandpool.PoolID{}, "x")
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.Enter(gone, "token:a", sandpool.PoolID{}, "y"); !errors.Is(err,
		context.Canceled) {
		t.Errorf("a caller that has gone: %v", err)
	}
	leave()
	if len(q.turns) != 0 {
		t.Errorf("%d turns are left", len(q.turns))
	}
}
