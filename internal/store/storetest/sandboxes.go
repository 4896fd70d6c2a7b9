package storetest

import (
	"context"
	"errors"
	"sort"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
)

func sorted[T any](list []T, less func(a, b T) bool) []T {
	sort.Slice(list, func(i, j int) bool { return less(list[i], list[j]) })
	return list
}

// insert writes a starting sandbox that was created at the given second.
func (s *suite) insert(created int) sandpool.Sandbox {
	s.Helper()
	b := sandpool.Sandbox{ID: newID(), Pool: s.pool, Revision: 7, State: sandpool.Starting,
		Secret: "hush", CreatedAt: at(created)}
	s.must(s.Store.Insert(s.Context(), b, 1))
	return b
}

// ready writes a ready sandbox.
func (s *suite) ready(created int) sandpool.Sandbox {
	s.Helper()
	b, err := s.Store.Started(s.Context(), s.insert(created).ID, []byte("handle"), at(created+1), 1)
	s.must(err)
	return b
}

func (s *suite) wantRows(want ...sandpool.Sandbox) {
	s.Helper()
	got, err := s.Store.Sandboxes(s.Context())
	s.must(err)
	if diff := cmp.Diff(want, got); diff != "" {
		s.Errorf("Sandboxes: -want +got\n%s", diff)
	}
}

func sandboxLife(s *suite) {
	b := s.insert(0)
	s.wantRows(b)
	got, err := s.Store.Started(s.Context(), b.ID, []byte("handle"), at(1), 1)
	s.must(err)
	b.State, b.Handle, b.LastUsedAt = sandpool.Ready, []byte("handle"), at(1)
	if diff := cmp.Diff(b, got); diff != "" {
		s.Errorf("Started: -want +got\n%s", diff)
	}
	s.must(s.Store.Stopping(s.Context(), b.ID, "old revision", 1))
	s.must(s.Store.Stopping(s.Context(), b.ID, "another reason", 1))
	b.State, b.Reason = sandpool.Stopping, "old revision"
	s.wantRows(b)
	s.must(s.Store.Remove(s.Context(), b.ID, 1))
	s.wantRows()
}

func sandboxOrder(s *suite) {
	second, first := s.insert(2), s.insert(1)
	s.wantRows(first, second)
}

func sandboxInsert(s *suite) {
	b := s.insert(0)
	s.wantClass(s.Store.Insert(s.Context(), b, 1), sandpool.Conflict)
	claimed := b
	claimed.ID, claimed.Identifier = newID(), "somebody"
	s.wantClass(s.Store.Insert(s.Context(), claimed, 1), sandpool.Conflict)
	ready := b
	ready.ID, ready.State = newID(), sandpool.Ready
	s.wantClass(s.Store.Insert(s.Context(), ready, 1), sandpool.Conflict)
	stray := b
	stray.ID, stray.Pool.Name = newID(), "unknown"
	s.wantClass(s.Store.Insert(s.Context(), stray, 1), sandpool.NotFound)
	s.wantRows(b)
}

func sandboxForbidden(s *suite) {
	b := s.ready(0)
	_, err := s.Store.Started(s.Context(), b.ID, []byte("other"), at(2), 1)
	s.wantClass(err, sandpool.Conflict)
	s.must(s.Store.Stopping(s.Context(), b.ID, "gone", 1))
	_, err = s.Store.Started(s.Context(), b.ID, []byte("other"), at(2), 1)
	s.wantClass(err, sandpool.Conflict)
	b.State, b.Reason = sandpool.Stopping, "gone"
	s.wantRows(b)
}

func sandboxTouch(s *suite) {
	b := s.ready(0)
	s.must(s.Store.Touch(s.Context(), []sandpool.Use{{ID: b.ID, At: at(20), Epoch: 1},
		{ID: "unknown", At: at(20), Epoch: 1}}))
	s.must(s.Store.Touch(s.Context(), []sandpool.Use{{ID: b.ID, At: at(10), Epoch: 1}}))
	s.must(s.Store.Touch(s.Context(), nil))
	b.LastUsedAt = at(20)
	s.wantRows(b)
}

func sandboxUnknown(s *suite) {
	_, err := s.Store.Started(s.Context(), "unknown", nil, at(0), 1)
	s.wantClass(err, sandpool.NotFound)
	s.wantClass(s.Store.Stopping(s.Context(), "unknown", "", 1), sandpool.NotFound)
	s.must(s.Store.Remove(s.Context(), "unknown", 1))
	s.wantRows()
}

func reopened(s *suite) {
	b := s.ready(0)
	next := s.Reopen(s.T)
	if pools, err := next.Pools(s.Context()); err != nil || len(pools) != 1 {
		s.Errorf("Pools after a restart = %v, %v", pools, err)
	}
	got, err := next.Sandboxes(s.Context())
	s.must(err)
	if diff := cmp.Diff([]sandpool.Sandbox{b}, got); diff != "" {
		s.Errorf("Sandboxes after a restart: -want +got\n%s", diff)
	}
	claimed, outcome, err := next.Claim(s.Context(), s.request("somebody"))
	if err != nil || outcome != sandpool.ClaimReady || claimed.ID != b.ID {
		s.Errorf("Claim after a restart = %+v, %s, %v", claimed, outcome, err)
	}
	again, outcome, err := s.Store.Claim(s.Context(), s.request("somebody"))
	if err != nil || outcome != sandpool.ClaimExisting || again.ID != b.ID {
		s.Errorf("Claim at the first store = %+v, %s, %v", again, outcome, err)
	}
}

func cancelled(s *suite) {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if _, _, err := s.Store.Claim(ctx, s.request("somebody")); !errors.Is(err, context.Canceled) {
		s.Errorf("Claim with a cancelled context: %v", err)
	}
	if _, err := s.Store.Sandboxes(ctx); !errors.Is(err, context.Canceled) {
		s.Errorf("Sandboxes with a cancelled context: %v", err)
	}
	s.wantRows()
}
