package storetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

func (s *suite) wantNotOwner(what string, err error) {
	s.Helper()
	if !errors.Is(err, store.ErrNotOwner) {
		s.Errorf("%s: error is %v, want that of a write by an earlier owner", what, err)
	}
}

// own takes the pool and checks the epoch.
func (s *suite) own(owner string, now int, want int64) {
	s.Helper()
	epoch, err := s.Store.Own(s.Context(), s.pool, owner, at(now), at(now+10))
	if err != nil || epoch != want {
		s.Fatalf("Own by %s = %d, %v; want %d", owner, epoch, err, want)
	}
}

func ownCreated(s *suite) {
	_, err := s.Store.CreatePool(s.Context(), samplePool("PYTHON"), nil, "other", at(1000))
	s.wantClass(err, sandpool.Conflict)
	s.wantPools(samplePool("python"))
	s.must(s.Store.PutPool(s.Context(), samplePool("python"), nil, 1))
	s.wantNotOwner("PutPool of a pool that does not exist", s.Store.PutPool(s.Context(),
		samplePool("none"), nil, 1))
}

func ownPassed(s *suite) {
	_, err := s.Store.Own(s.Context(), s.pool, "other", at(999), at(2000))
	s.wantNotOwner("Own before the time has passed", err)
	s.own("other", 1000, 2)
	_, err = s.Store.Own(s.Context(), s.pool, me, at(1009), at(2000))
	s.wantNotOwner("Own by the earlier owner", err)
	s.own("other", 1001, 3) // in a new life
	s.own(me, 1011, 4)
	unknown := s.pool
	unknown.Name = "none"
	_, err = s.Store.Own(s.Context(), unknown, me, at(0), at(1))
	s.wantClass(err, sandpool.NotFound)
}

func ownRenewed(s *suite) {
	other, gone := s.putPool("other"), sandpool.PoolID{Subscription: "s", ResourceGroup: "g",
		Name: "gone"}
	s.own("other", 1000, 2)
	lost, err := s.Store.Renew(s.Context(), map[sandpool.PoolID]int64{s.pool: 1, other: 1, gone: 1},
		at(3000))
	names := map[string]bool{}
	for _, id := range lost {
		names[id.Name] = true
	}
	if err != nil || len(lost) != 2 || !names["python"] || !names["gone"] {
		s.Errorf("Renew lost %v, %v; want the pool of another and the one that is gone", lost, err)
	}
	_, err = s.Store.Own(s.Context(), other, "third", at(2999), at(4000))
	s.wantNotOwner("Own of what was renewed", err)
	if _, err := s.Store.Renew(s.Context(), map[sandpool.PoolID]int64{other: 1},
		at(5)); err != nil {
		s.Fatal(err)
	}
	if epoch, err := s.Store.Own(s.Context(), other, "third", at(6), at(4000)); err != nil ||
		epoch != 2 {
		s.Errorf("Own of what was given up = %d, %v", epoch, err)
	}
	if lost, err := s.Store.Renew(s.Context(), nil, at(1)); err != nil || len(lost) > 0 {
		s.Errorf("Renew of nothing = %v, %v", lost, err)
	}
}

// ownFenced tries every write of an owner after another has taken the pool.
func ownFenced(s *suite) {
	ready, half := s.ready(0), s.insert(1)
	s.own("other", 1000, 2)
	ctx := s.Context()
	s.wantNotOwner("PutPool", s.Store.PutPool(ctx, samplePool("python"),
		sandpool.Secrets{"a": sandpool.NewSecret("1")}, 1))
	s.wantSecrets(s.pool, sandpool.Secrets{})
	s.wantNotOwner("DeletePool", s.Store.DeletePool(ctx, s.pool, 1))
	fresh := half
	fresh.ID = newID()
	s.wantNotOwner("Insert", s.Store.Insert(ctx, fresh, 1))
	_, _, err := s.Store.Claim(ctx, s.request("somebody"))
	s.wantNotOwner("Claim", err)
	_, err = s.Store.Started(ctx, half.ID, []byte("handle"), at(2), 1)
	s.wantNotOwner("Started", err)
	s.wantNotOwner("Stopping", s.Store.Stopping(ctx, ready.ID, "gone", 1))
	s.wantNotOwner("Remove", s.Store.Remove(ctx, ready.ID, 1))
	s.wantNotOwner("Mourn", s.Store.Mourn(ctx, sandpool.Loss{Pool: s.pool, Identifier: "a",
		Until: at(9)}, at(0), 1))
	s.wantNotOwner("Forget", s.Store.Forget(ctx, s.pool, "a", 1))
	s.must(s.Store.Touch(ctx, []sandpool.Use{{ID: ready.ID, At: at(500), Epoch: 1}}))
	s.wantRows(ready, half)
	r := s.request("somebody")
	r.Epoch = 2
	if b, outcome, err := s.Store.Claim(ctx, r); err != nil || outcome != sandpool.ClaimReady ||
		b.ID != ready.ID {
		s.Errorf("Claim by the new owner = %+v, %s, %v", b, outcome, err)
	}
	_, _, err = s.Store.Claim(ctx, s.request("somebody"))
	s.wantNotOwner("Claim of a session that exists", err)
	unknown := s.request("somebody")
	unknown.Pool.Name = "none"
	_, _, err = s.Store.Claim(ctx, unknown)
	s.wantClass(err, sandpool.NotFound)
}

// ownFight has two owners take the pool from each other while both claim and stop. Whatever is
// written was written by the owner of that moment: an epoch is had by one of them, and a claim that
// succeeded was one of the newest epoch.
func ownFight(s *suite) {
	const rounds = 40
	stores := map[string]store.Store{"one": s.Store, "two": s.Reopen(s.T)}
	var mu sync.Mutex
	owners := map[int64]string{1: me}
	s.own("one", 1000, 2) // so that from here on only the two have it
	owners[2] = "one"
	var wait sync.WaitGroup
	for name, mine := range stores {
		wait.Go(func() {
			epoch := int64(2)
			for i := range rounds {
				now := at(2000 + i)
				got, err := mine.Own(s.Context(), s.pool, name, now, now)
				if err == nil {
					epoch = got
					mu.Lock()
					if other := owners[epoch]; other != "" && other != name {
						s.Errorf("epoch %d is that of %s and of %s", epoch, other, name)
					}
					owners[epoch] = name
					mu.Unlock()
				} else if !errors.Is(err, store.ErrNotOwner) {
					s.Errorf("Own by %s: %v", name, err)
				}
				s.fight(mine, name, i, epoch)
			}
		})
	}
	wait.Wait()
	rows, err := s.Store.Sandboxes(s.Context())
	s.must(err)
	held := map[sandpool.Identifier]int{}
	for _, b := range rows {
		if b.Identifier != "" && b.State != sandpool.Stopping {
			held[b.Identifier]++
		}
	}
	for identifier, n := range held {
		if n > 1 {
			s.Errorf("%q holds %d sandboxes", identifier, n)
		}
	}
}

// fight is one round: a claim, a start and a stop by an owner that may be one no more.
func (s *suite) fight(mine store.Store, name string, i int, epoch int64) {
	r := s.request(sandpool.Identifier(fmt.Sprint("user-", i%3)))
	r.Epoch, r.Max = epoch, 100
	b, outcome, err := mine.Claim(s.Context(), r)
	if err == nil && outcome == sandpool.ClaimNew {
		_, err = mine.Started(s.Context(), b.ID, []byte(name), time.Now(), epoch)
	}
	if err == nil && i%4 == 0 {
		err = mine.Stopping(s.Context(), b.ID, "over", epoch)
	}
	if err != nil && !errors.Is(err, store.ErrNotOwner) &&
		sandpool.ClassOf(err) != sandpool.Conflict {
		s.Errorf("round %d of %s: %v", i, name, err)
	}
}
