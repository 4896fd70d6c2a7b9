package tree

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
)

// holder is a token that is given grants; taking one back fails while it is broken.
type holder struct {
	mu     sync.Mutex
	have   []sandpool.Grant
	broken bool
}

func (h *holder) Grant(_ context.Context, _ string, g sandpool.Grant) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Contains(h.have, g) {
		h.have = append(h.have, g)
	}
	return nil
}

func (h *holder) Ungrant(_ context.Context, _ string, g sandpool.Grant) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken {
		return errors.New("the store does not answer")
	}
	h.have = slices.DeleteFunc(h.have, func(o sandpool.Grant) bool { return o == g })
	return nil
}

// slow calls meanwhile before the first deletion.
type slow struct {
	Memory
	began     atomic.Bool
	meanwhile func()
}

func (s *slow) DeleteDocument(ctx context.Context, kind, key string) error {
	if s.began.CompareAndSwap(false, true) {
		s.meanwhile()
	}
	return s.Memory.DeleteDocument(ctx, kind, key)
}

type noPools struct{}

func (noPools) Between(context.Context, string, string, int) ([]sandpool.Pool, error) {
	return nil, nil
}
func (noPools) Delete(context.Context, sandpool.PoolID) error { return nil }

// world is a tree whose one assignment is changed.
type world struct {
	t      *testing.T
	tree   *Tree
	docs   *slow
	holder holder
	now    atomic.Int64
	mux    http.ServeMux
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, docs: &slow{meanwhile: func() {}}}
	var err error
	w.tree, err = New(noPools{}, w.docs, &w.holder, Options{
		Locations: func() ([]string, bool) { return []string{"here"}, false },
		BaseURL:   func(*http.Request) string { return "" },
		Now:       func() time.Time { return time.Unix(w.now.Load(), 0).UTC() }})
	if err != nil {
		t.Fatal(err)
	}
	w.tree.Register(func(pattern string, fn handler) {
		w.mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) {
			if err := fn(rw, r); err != nil {
				http.Error(rw, err.Error(), http.StatusInternalServerError)
			}
		})
	})
	return w
}

// put has the assignment end at a time; 0 means never.
func (w *world) put(ends int64) (status int) {
	w.t.Helper()
	text := ""
	if ends > 0 {
		text = time.Unix(ends, 0).UTC().Format(time.RFC3339)
	}
	r := httptest.NewRequestWithContext(auth.WithPrincipal(w.t.Context(), auth.Principal{
		Grants: []sandpool.Grant{{Role: auth.Admin}}}), http.MethodPut, "/subscriptions/s"+
		assignmentsPath+"/a1", strings.NewReader(fmt.Sprintf(`{"properties":{"principalId":"ann",`+
		`"roleDefinitionId":"acdd72a7-3385-48ef-bd42-f606fba81ae7","sandpool":{"expiresAt":%q}}}`,
		text)))
	r.Header.Set("Content-Type", "application/json")
	rec := httptest.NewRecorder()
	w.mux.ServeHTTP(rec, r)
	return rec.Code
}

// TestChangeCutShort: who makes an assignment shorter, and is told that it has failed, has it made
// shorter by asking again: what was given for longer is not forgotten.
func TestChangeCutShort(t *testing.T) {
	w := newWorld(t)
	if got := w.put(0); got != http.StatusCreated {
		t.Fatalf("the assignment: %d", got)
	}
	w.holder.broken = true
	if got := w.put(100); got < 500 {
		t.Fatalf("without a store: %d", got)
	}
	w.holder.broken = false
	if got := w.put(100); got != http.StatusOK {
		t.Fatalf("again: %d", got)
	}
	if len(w.holder.have) != 1 || w.holder.have[0].Expires.Unix() != 100 {
		t.Errorf("the token has %+v", w.holder.have)
	}
}

// TestForgottenMeanwhile: an assignment that is made while an ended one of its name is forgotten is
// kept, so that what it gives can be seen and taken back.
func TestForgottenMeanwhile(t *testing.T) {
	w := newWorld(t)
	if got := w.put(100); got != http.StatusCreated {
		t.Fatalf("the assignment: %d", got)
	}
	w.now.Store(100)
	made := make(chan int, 1)
	w.docs.meanwhile = func() {
		go func() { made <- w.put(0) }()
		select {
		case got := <-made:
			made <- got
		case <-time.After(100 * time.Millisecond): // it waits, as it should
		}
	}
	if _, err := w.tree.ForgetEnded(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-made; got != http.StatusCreated {
		t.Errorf("the second: %d", got)
	}
	list, err := w.tree.assignments(t.Context())
	if err != nil || len(list) != len(w.holder.have) {
		t.Errorf("assignments are %+v, grants %+v, %v", list, w.holder.have, err)
	}
}
