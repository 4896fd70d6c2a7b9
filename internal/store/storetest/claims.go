package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
)

func (s *suite) request(identifier sandpool.Identifier) sandpool.ClaimRequest {
	return sandpool.ClaimRequest{Pool: s.pool, Identifier: identifier, Revision: 7, Max: 3,
		Now: at(100), Epoch: 1, By: "token:t",
		NewID: newID(), NewSecret: "fresh"}
}

// claim claims and checks the outcome.
func (s *suite) claim(r sandpool.ClaimRequest, want sandpool.ClaimOutcome) sandpool.Sandbox {
	s.Helper()
	b, outcome, err := s.Store.Claim(s.Context(), r)
	s.must(err)
	if outcome != want {
		s.Fatalf("Claim(%s) = %+v, %s; want %s", r.Identifier, b, outcome, want)
	}
	return b
}

func claimReady(s *suite) {
	want := s.ready(0)
	want.State, want.Identifier, want.ClaimedAt, want.LastUsedAt = sandpool.Claimed, "user-1",
		at(100), at(100)
	want.ClaimedBy = "token:t"
	if diff := cmp.Diff(want, s.claim(s.request("user-1"), sandpool.ClaimReady)); diff != "" {
		s.Errorf("Claim: -want +got\n%s", diff)
	}
	later := s.request("user-1")
	later.Now = at(200)
	if diff := cmp.Diff(want, s.claim(later, sandpool.ClaimExisting)); diff != "" {
		s.Errorf("Claim again: -want +got\n%s", diff)
	}
	s.wantRows(want)
}

// sessionsOf: a principal's sessions are counted while they start and while they are used, by
// whoever began them.
func sessionsOf(s *suite) {
	of := func(by string, identifier sandpool.Identifier, want int) {
		s.Helper()
		n, err := s.Store.SessionsOf(s.Context(), by, s.pool, identifier)
		s.must(err)
		if n != want {
			s.Errorf("SessionsOf(%q) besides %q = %d, want %d", by, identifier, n, want)
		}
	}
	of("token:t", "", 0)
	first := s.ready(0)
	s.ready(1)
	s.claim(s.request("user-1"), sandpool.ClaimReady)
	other := s.request("user-2")
	other.By = "token:u"
	s.claim(other, sandpool.ClaimReady)
	started := s.request("user-3")
	s.claim(started, sandpool.ClaimNew)
	of("token:t", "", 2)
	of("token:t", "user-1", 1)
	of("token:t", "user-2", 2)
	of("token:u", "", 1)
	of("token:T", "", 0)
	of("", "", 0)
	s.must(s.Store.Stopping(s.Context(), first.ID, "over", 1))
	of("token:t", "", 1)
	s.must(s.Store.Stopping(s.Context(), started.NewID, "over", 1))
	of("token:t", "", 0)
}

func claimOldest(s *suite) {
	s.ready(9)
	oldest := s.ready(1)
	s.ready(5)
	if b := s.claim(s.request("user-1"), sandpool.ClaimReady); b.ID != oldest.ID {
		s.Errorf("Claim took the sandbox created at %s, not the oldest", b.CreatedAt)
	}
}

func claimRevision(s *suite) {
	old := s.ready(0)
	r := s.request("user-1")
	r.Revision = 8
	if b := s.claim(r, sandpool.ClaimNew); b.ID == old.ID || b.Revision != 8 {
		s.Errorf("Claim at a new revision = %+v", b)
	}
	// A session outlives the revision at which it began.
	next := s.request("user-1")
	next.Revision = 9
	s.claim(next, sandpool.ClaimExisting)
}

func claimNew(s *suite) {
	r := s.request("user-1")
	want := sandpool.Sandbox{ID: r.NewID, Pool: s.pool, Revision: 7, State: sandpool.Starting,
		Identifier: "user-1",
		Secret:     "fresh", CreatedAt: at(100), ClaimedAt: at(100), LastUsedAt: at(100),
		ClaimedBy: "token:t"}
	if diff := cmp.Diff(want, s.claim(r, sandpool.ClaimNew)); diff != "" {
		s.Errorf("Claim: -want +got\n%s", diff)
	}
	s.claim(s.request("user-1"), sandpool.ClaimExisting)
	got, err := s.Store.Started(s.Context(), r.NewID, []byte("handle"), at(101), 1)
	s.must(err)
	want.State, want.Handle, want.LastUsedAt = sandpool.Claimed, []byte("handle"), at(101)
	if diff := cmp.Diff(want, got); diff != "" {
		s.Errorf("Started: -want +got\n%s", diff)
	}
}

func claimFull(s *suite) {
	s.claim(s.request("user-1"), sandpool.ClaimNew)
	s.ready(0)
	s.ready(1)
	s.claim(s.request("user-2"), sandpool.ClaimReady)
	r := s.request("user-3")
	r.Max = 2
	if b := s.claim(r, sandpool.ClaimFull); b.ID != "" {
		s.Errorf("a full pool gave %+v", b)
	}
	again := s.request("user-2")
	again.Max = 2
	s.claim(again, sandpool.ClaimExisting)
	r.Max = 3
	s.claim(r, sandpool.ClaimReady)
}

func claimAfterStopping(s *suite) {
	first := s.claim(s.request("user-1"), sandpool.ClaimNew)
	s.must(s.Store.Stopping(s.Context(), first.ID, "deleted", 1))
	r := s.request("user-1")
	r.Max = 1 // the stopping sandbox is no session
	if b := s.claim(r, sandpool.ClaimNew); b.ID == first.ID {
		s.Error("Claim gave the stopping sandbox")
	}
}

func claimApart(s *suite) {
	first := s.claim(s.request("user-1"), sandpool.ClaimNew)
	s.ready(0)
	r := s.request("user-1")
	r.Pool, r.Max = s.putPool("other"), 1
	if b := s.claim(r, sandpool.ClaimNew); b.ID == first.ID || b.Pool.Name != "other" {
		s.Errorf("Claim in another pool = %+v", b)
	}
	r.Pool.Name, r.NewID = "unknown", newID()
	_, _, err := s.Store.Claim(s.Context(), r)
	s.wantClass(err, sandpool.NotFound)
}

func claimRace(s *suite) {
	s.ready(0)
	s.ready(1)
	const callers = 50
	var wait sync.WaitGroup
	var mu sync.Mutex // guards got
	got := map[sandpool.SandboxID]int{}
	for range callers {
		wait.Go(func() {
			b, _, err := s.Store.Claim(s.Context(), s.request("user-1"))
			if err != nil {
				s.Errorf("Claim: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			got[b.ID]++
		})
	}
	wait.Wait()
	if len(got) != 1 {
		s.Errorf("%d callers of one identifier got %v, want one sandbox", callers, got)
	}
}

// claimHistory runs claims, stops and refills from many goroutines and asks
// whether what the callers saw can be explained one step at a time.
func claimHistory(s *suite) {
	const clients, steps = 8, 40
	other := s.Reopen(s.T)
	var history History
	var wait sync.WaitGroup
	for client := range clients {
		store := s.Store
		if client%2 == 1 {
			store = other
		}
		wait.Go(func() {
			var mine sandpool.SandboxID
			for step := range steps {
				identifier := sandpool.Identifier(fmt.Sprintf("user-%d", (client+step)%3))
				switch (client*7 + step*5) % 4 {
				case 0:
					id := newID()
					b := sandpool.Sandbox{ID: id, Pool: s.pool, Revision: 7,
						State: sandpool.Starting, CreatedAt: time.Now()}
					s.check(store.Insert(s.Context(), b, 1))
					_, err := store.Started(s.Context(), id, []byte("handle"), time.Now(), 1)
					s.check(err)
				case 1:
					if mine != "" {
						history.Stop(client, mine, func() {
							s.check(store.Stopping(s.Context(), mine, "", 1))
						})
					}
				default:
					mine = history.Claim(client, identifier, func() (sandpool.SandboxID,
						sandpool.ClaimOutcome) {
						b, outcome, err := store.Claim(s.Context(), s.request(identifier))
						s.check(err)
						return b.ID, outcome
					})
				}
			}
		})
	}
	wait.Wait()
	history.Check(s.T)
}

func (s *suite) check(err error) {
	if err != nil {
		s.Error(err)
	}
}
