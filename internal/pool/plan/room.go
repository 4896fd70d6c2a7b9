package plan

import (
	"slices"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pool/room"
)

// ReasonRoom is the end of a ready sandbox that the machine has no room for.
const ReasonRoom = "the machine needs the room of the ready sandbox"

// snapshotDisk is what a snapshot may take.
const snapshotDisk = 512 << 20

// NeedsToPrepare is the room that a preparation of p needs: a sandbox that boots, and its snapshot.
func (p Pool) NeedsToPrepare() room.Amount {
	return p.Size.Used.Plus(room.Amount{Disk: snapshotDisk})
}

// IsFull reports whether p has its maximum of sessions.
func (p *Pool) IsFull() bool { return p.count(p.isSession) >= p.Pool.MaxSessions }

// HasReady reports whether one more claim would find a sandbox ready.
func (p *Pool) HasReady() bool {
	ready := p.count(p.isReady)
	if p.Roll && ready == 0 {
		ready = p.count(p.isOld)
	}
	return ready >= max(1, p.Claims)
}

// prepare holds a preparation back that the machine has no room for.
func (s *Snapshot) prepare(p Pool, todo []Action) []Action {
	for i, a := range todo {
		if a.Act != Prepare {
			continue
		}
		if lack := s.Room.Lacks(p.NeedsToPrepare()); lack != "" {
			todo[i] = Action{Act: Short, Pool: p.Key, Reason: string(lack)}
			continue
		}
		s.Room.Take(p.NeedsToPrepare())
	}
	return todo
}

// giveUp ends ready sandboxes while there is less than nothing left, because sandboxes that run
// have grown, and notes what comes back. Those of done are on their way out already.
func (s *Snapshot) giveUp(done []Action) (todo []Action) {
	if s.Room.Left().Lacks() == "" {
		return nil
	}
	ready := Spare(s.Pools)
	for _, a := range done {
		if a.Act == Retire {
			ready.drop(a.Pool, a.Sandbox)
		}
	}
	for lack := s.Room.Left().Lacks(); lack != ""; lack = s.Room.Left().Lacks() {
		key, id := ready.Next()
		if id == "" {
			break
		}
		size := s.pool(key).Size.Ready
		if !size.Has(lack) {
			break // a full disk is no better for having no sandboxes ready
		}
		todo = append(todo, Action{Act: Retire, Pool: key, Sandbox: id, Reason: ReasonRoom})
		s.Room.Give(size)
	}
	return todo
}

func (s *Snapshot) pool(key string) Pool {
	i := slices.IndexFunc(s.Pools, func(p Pool) bool { return p.Key == key })
	return s.Pools[i]
}

// Spares are ready sandboxes that may be given up, by pool; the first to go is the last.
type Spares map[string][]sandpool.SandboxID

// Spare finds the ready sandboxes that may be given up. The claims in progress of a pool take its
// oldest ones, so these stay.
func Spare(pools []Pool) Spares {
	spares := Spares{}
	for _, p := range pools {
		var ready []sandpool.SandboxID
		for _, b := range p.Sandboxes {
			if p.isReady(&b) {
				ready = append(ready, b.ID)
			}
		}
		if n := len(ready); n > p.Claims {
			spares[p.Key] = ready[p.Claims:]
		}
	}
	return spares
}

// Next takes the next one to give up, and its pool's key: of the pool that has most of them, the
// newest. The id is empty if there is none.
func (s Spares) Next() (key string, id sandpool.SandboxID) {
	for k, ready := range s {
		if n := len(ready) - len(s[key]); n > 0 || n == 0 && len(ready) > 0 && k < key {
			key = k
		}
	}
	ready := s[key]
	if len(ready) == 0 {
		return "", ""
	}
	s[key] = ready[:len(ready)-1]
	return key, ready[len(ready)-1]
}

func (s Spares) drop(key string, id sandpool.SandboxID) {
	s[key] = slices.DeleteFunc(s[key], func(b sandpool.SandboxID) bool { return b == id })
}

// lacks is what the machine lacks for one more ready sandbox of p: it leaves room for the session
// that is to take it, and the ledger's slack.
func (s *Snapshot) lacks(p Pool) room.Resource {
	if s.Room.Strain() >= room.Strained {
		return room.Memory
	}
	return s.Room.Lacks(p.Size.Used.Plus(s.Room.Slack()))
}

// short finds the pools whose ready sandboxes do not fit, when the refills of done have begun.
func (s *Snapshot) short(done []Action) (todo []Action) {
	for _, p := range s.Pools {
		have := p.count(p.isReady) + p.count(p.isRefill)
		for _, a := range done {
			if a.Act == Refill && a.Pool == p.Key {
				have++
			}
		}
		if p.Pool.State != sandpool.Succeeded || !p.Prepared || have >= p.target() {
			continue
		}
		if lack := s.lacks(p); lack != "" {
			todo = append(todo, Action{Act: Short, Pool: p.Key, Reason: string(lack)})
			if have == 0 {
				todo = append(todo, s.giveUpOld(p)...)
			}
		}
	}
	return todo
}

// giveUpOld ends a ready sandbox of an earlier revision that stands in the way of the first new
// one.
func (s *Snapshot) giveUpOld(p Pool) []Action {
	stay := p.olds()
	for _, b := range p.Sandboxes {
		if p.isOld(&b) {
			if stay--; stay == 0 { // the newest of those that retire leaves
				s.Room.Give(p.Size.Ready)
				return []Action{{Act: Retire, Pool: p.Key, Sandbox: b.ID, Reason: ReasonRoom}}
			}
		}
	}
	return nil
}
