package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

func (s *suite) wantNotOwner(what string, err error) {
	s.Helper()
	if !errors.Is(err, store.ErrNotOwner) {
		s.Errorf("%s: error is %v, want that of a write by an earlier owner", what, err)
	}
}

// own takes the pool from whoever has its epoch, and checks the new one.
func (s *suite) own(owner string, seen int64) {
	s.Helper()
	epoch, err := s.Store.Own(s.Context(), s.pool, owner, seen)
	if err != nil || epoch != seen+1 {
		s.Fatalf("Own by %s = %d, %v; want %d", owner, epoch, err, seen+1)
	}
}

func (s *suite) wantHolds(want ...store.Hold) {
	s.Helper()
	got, err := s.Store.Holds(s.Context())
	if err != nil || !cmp.Equal(got, want) {
		s.Errorf("Holds = %+v, %v; want %+v", got, err, want)
	}
}

func ownCreated(s *suite) {
	_, err := s.Store.CreatePool(s.Context(), samplePool("PYTHON"), nil, "other")
	s.wantClass(err, sandpool.Conflict)
	s.wantPools(samplePool("python"))
	s.wantHolds(store.Hold{Pool: s.pool, Location: "westus2", Owner: me, Epoch: 1})
	s.must(s.Store.PutPool(s.Context(), samplePool("python"), nil, 1))
	s.wantNotOwner("PutPool of a pool that does not exist", s.Store.PutPool(s.Context(),
		samplePool("none"), nil, 1))
}

func ownPassed(s *suite) {
	_, err := s.Store.Own(s.Context(), s.pool, "other", 2)
	s.wantNotOwner("Own of an epoch to come", err)
	s.own("other", 1)
	_, err = s.Store.Own(s.Context(), s.pool, me, 1)
	s.wantNotOwner("Own of an epoch that is over", err)
	_, err = s.Store.Own(s.Context(), s.pool, "other", 1)
	s.wantNotOwner("Own by the owner, of an epoch that is over", err)
	s.own("other", 2) // in a new life
	s.own(me, 3)
	other := s.putPool("other")
	s.wantHolds(store.Hold{Pool: other, Location: "westus2", Owner: me, Epoch: 1},
		store.Hold{Pool: s.pool, Location: "westus2", Owner: me, Epoch: 4})
	unknown := s.pool
	unknown.Name = "none"
	_, err = s.Store.Own(s.Context(), unknown, me, 0)
	s.wantClass(err, sandpool.NotFound)
}

// serversJoin: a server that lives has another beat each time, one that has left has none, and a
// name belongs to the instance that joined last.
func serversJoin(s *suite) {
	ctx := s.Context()
	one := store.Server{Name: "one", Instance: "i", Address: "10.0.0.1:8721", Place: "here",
		Locations: []string{"East US", "west"}}
	two := store.Server{Name: "two", Instance: "j"}
	for _, v := range []store.Server{two, one} {
		s.must(s.Store.Join(ctx, v))
	}
	had := map[int64]bool{}
	look := func(lives bool, instance string) {
		s.Helper()
		list, err := s.Reopen(s.T).Servers(ctx)
		if err != nil || len(list) != 2 || list[0].Name != "one" || list[1].Name != "two" {
			s.Fatalf("Servers = %+v, %v", list, err)
		}
		beat := list[0].Beat
		want := one
		want.Instance, want.Beat = instance, beat
		if !reflect.DeepEqual(list[0], want) || (beat != 0) != lives || had[beat] {
			s.Errorf("the server is %+v after the beats %v; want %+v", list[0], had, want)
		}
		had[beat] = true
	}
	look(true, "i")
	s.must(s.Store.Beat(ctx, "one", "i"))
	look(true, "i")
	s.must(s.Store.Leave(ctx, "one", "other"))
	s.must(s.Store.Beat(ctx, "two", "j"))
	s.must(s.Store.Beat(ctx, "one", "i"))
	look(true, "i")
	s.must(s.Store.Leave(ctx, "one", "i"))
	look(false, "i")
	one.Address, one.Locations = "10.0.0.2:8721", nil
	again := one
	again.Instance = "k"
	s.must(s.Store.Join(ctx, again))
	look(true, "k")
	for _, name := range []string{"one", "none"} {
		if err := s.Store.Beat(ctx, name, "i"); !errors.Is(err, store.ErrNameTaken) {
			s.Errorf("Beat of %s, which is another's: %v", name, err)
		}
	}
}

// ownFenced tries every write of an owner after another has taken the pool.
func ownFenced(s *suite) {
	ready, half := s.ready(0), s.insert(1)
	s.own("other", 1)
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
	s.own("one", 1) // so that from here on only the two have it
	owners[2] = "one"
	var wait sync.WaitGroup
	for name, mine := range stores {
		wait.Go(func() {
			epoch := int64(2)
			for i := range rounds {
				holds, err := mine.Holds(s.Context())
				if err != nil || len(holds) != 1 {
					s.Errorf("Holds = %+v, %v", holds, err)
					return
				}
				got, err := mine.Own(s.Context(), s.pool, name, holds[0].Epoch)
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
