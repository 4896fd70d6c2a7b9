// Package lease decides which of several servers should own which pool. It is given what a server
// has seen of the others and what the time is by its own clock, and changes nothing, so that every
// decision can be tested without a store and without waiting.
//
// # The life of a server, as another one sees it
//
//	     beat changes                 looked without a gap for Patience,
//	   ┌──────────────┐               and the beat did not change
//	   ▼              │
//	living ───────────┘ ────────────────────────────────────────────▶ dead
//	   │  ▲                                                            │
//	   │  └──────────────────── beat changes ──────────────────────────┘
//	   └───────── beat is zero: it has left ───────▶ dead
//
// A server may serve for Term after the beginning of a beat that reached the store. Others see that
// beat later than it began, and wait longer than Term from then on. So nobody takes a pool whose
// owner may still serve, whatever the clocks of the machines say: each server compares times of its
// own monotonic clock alone. Only a process that is stopped between looking at its clock and
// writing is left, and the epoch of the pool's row refuses what it writes.
//
// # After an outage
//
// When the database was away, nobody's beat has changed, and nobody is dead. So only looks count
// that come in time one after the other: after a gap every server has its whole Patience again.
//
// # Locations
//
// A pool is owned by a server that serves its location, if one lives. If none does, any server is
// its owner as a keeper: it answers for the pool, starts nothing for it, and passes it on as soon
// as a server of the location lives, without waiting for its turn.
package lease

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/sandpool/sandpool/internal/store"
)

const (
	// Every is the time between two beats, and between two looks at those of others.
	Every = 500 * time.Millisecond
	// Patience is how long a beat must stay as it is before its server counts as dead, unless the
	// operator says. With two times Every and the adoption it makes less than 5 s.
	Patience = 3 * time.Second
	// MinPatience leaves room for three beats that are late.
	MinPatience = 2 * time.Second
	// margin is what Term is shorter than the patience of others.
	margin = 200 * time.Millisecond
	// gap is the longest time between two looks that belong together.
	gap = 4 * Every
	// Rest is the time between two pools that a server passes on to have fewer.
	Rest = 30 * time.Second
)

// Term is how long a server may serve after the beginning of a beat, if others have this patience.
func Term(patience time.Duration) time.Duration { return patience - margin }

// Sight is what one server has seen of all, itself among them. The zero Sight has seen nothing.
type Sight struct {
	servers map[string]seen
	last    time.Time
}

type seen struct {
	server store.Server
	at     time.Time // when it had another beat, or when looks in time began
}

// Look returns the Sight of somebody who has s and reads the servers' rows at now.
func (s Sight) Look(rows []store.Server, now time.Time) Sight {
	next := Sight{servers: map[string]seen{}, last: now}
	fresh := now.Sub(s.last) > gap
	for _, row := range rows {
		had, known := s.servers[row.Name]
		if fresh || !known || had.server.Beat != row.Beat {
			had.at = now
		}
		next.servers[row.Name] = seen{server: row, at: had.at}
	}
	return next
}

// Server returns a server's row.
func (s Sight) Server(name string) (store.Server, bool) {
	v, ok := s.servers[name]
	return v.server, ok
}

// Silence is how long a server is known not to have shown that it lives; one that has left, or that
// there is not, has been silent for ever.
func (s Sight) Silence(name string, now time.Time) time.Duration {
	v, ok := s.servers[name]
	if !ok || v.server.Beat == 0 {
		return 1<<63 - 1
	}
	return now.Sub(v.at)
}

// Living returns the names of those that are not dead, in order.
func (s Sight) Living(patience time.Duration, now time.Time) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(s.servers)) {
		if s.Silence(name, now) < patience {
			names = append(names, name)
		}
	}
	return names
}

// Servers returns the rows of all servers, ordered by name.
func (s Sight) Servers() []store.Server {
	var list []store.Server
	for _, name := range slices.Sorted(maps.Keys(s.servers)) {
		list = append(list, s.servers[name].server)
	}
	return list
}

// Pool is what a decision needs to know of one.
type Pool struct {
	Hold store.Hold
	// Mine says that the server has it in memory, with this epoch.
	Mine bool
	// Settled says that nothing is lost if it moves to a server of another place: it has no
	// session, and none is being made.
	Settled bool
	// Stuck says that it is not to be passed on now.
	Stuck bool
}

// View is everything that a decision looks at.
type View struct {
	Me       string
	Pools    []Pool // all of the store, ordered by key
	Sight    Sight
	Now      time.Time
	Patience time.Duration
	// Passed is when this server last passed a pool on.
	Passed time.Time
}

// Act is a change of owner: the pool is to become To's.
type Act struct {
	Hold store.Hold
	To   string
}

// Next says which pools the server should take, and which one it should pass on.
func Next(v View) []Act {
	living := v.Sight.Living(v.Patience, v.Now)
	if !slices.Contains(living, v.Me) {
		living = append(living, v.Me)
	}
	loads := map[string]int{}
	for _, p := range v.Pools {
		loads[p.Hold.Owner]++
	}
	var acts []Act
	orphans := false
	for _, p := range v.Pools {
		if p.Hold.Owner == v.Me {
			if !p.Mine {
				acts = append(acts, Act{p.Hold, v.Me})
			}
			continue
		}
		if slices.Contains(living, p.Hold.Owner) {
			continue
		}
		orphans = true
		fit, _ := v.Sight.Serving(living, p.Hold.Location)
		heir := v.heir(p.Hold.Owner, fit, loads)
		loads[heir]++
		// An heir that does not come is passed over.
		left := v.Sight.Silence(p.Hold.Owner, v.Now)
		if heir == v.Me || left < 1<<63-1 && left > 2*v.Patience {
			acts = append(acts, Act{p.Hold, v.Me})
		}
	}
	if home := v.home(living, loads); len(home) > 0 {
		return append(acts, home...)
	}
	if !orphans && v.Now.Sub(v.Passed) >= Rest {
		acts = append(acts, v.even(living, loads)...)
	}
	return acts
}

// Serving returns those of the servers that serve a location, and true; or all of them, as keepers,
// and false if there is none.
func (s Sight) Serving(names []string, location string) (fit []string, serve bool) {
	for _, name := range names {
		// One whose row was not seen yet is the one that looks, which knows no others then.
		if v, ok := s.servers[name]; ok && v.server.Serves(location) {
			fit = append(fit, name)
		}
	}
	if len(fit) == 0 {
		return names, false
	}
	return fit, true
}

// Locations returns those that me and the other servers serve, those of me first, which has some. A
// server that is dead keeps its own, but does not serve every other one by having none: its row may
// be as old as the store. None means that a server which lives serves every location.
func (s Sight) Locations(me store.Server, patience time.Duration, now time.Time) []string {
	list := slices.Clone(me.Locations)
	for _, other := range s.Servers() {
		if other.Name == me.Name {
			continue // its row may be of an earlier life
		}
		if len(other.Locations) == 0 && s.Silence(other.Name, now) < patience {
			return nil
		}
		for _, name := range other.Locations {
			if !(store.Server{Locations: list}).Serves(name) {
				list = append(list, name)
			}
		}
	}
	return list
}

// home passes on the pools that this server only keeps, to servers of their locations.
func (v View) home(living []string, loads map[string]int) (acts []Act) {
	me, ok := v.Sight.Server(v.Me)
	if !ok {
		return nil
	}
	for _, p := range v.Pools {
		if !p.Mine || p.Stuck || me.Serves(p.Hold.Location) {
			continue
		}
		fit, serve := v.Sight.Serving(living, p.Hold.Location)
		if !serve {
			continue
		}
		if to := Least(fit, loads); p.Settled || v.near(to) {
			loads[v.Me]--
			loads[to]++
			acts = append(acts, Act{p.Hold, to})
		}
	}
	return acts
}

// heir is who gets a pool of a dead owner: of the servers that can adopt its sandboxes, or of all
// if there is none of these, the one with the fewest pools. All servers come to the same answer.
func (v View) heir(dead string, living []string, loads map[string]int) string {
	was, _ := v.Sight.Server(dead)
	near := slices.DeleteFunc(slices.Clone(living), func(name string) bool {
		s, _ := v.Sight.Server(name)
		return was.Place == "" || s.Place != was.Place
	})
	if len(near) == 0 {
		near = living
	}
	return Least(near, loads)
}

// Least returns the name of the server with the fewest pools.
func Least(names []string, loads map[string]int) string {
	return slices.MinFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(loads[a], loads[b]), cmp.Compare(a, b))
	})
}

// even passes one pool on if another server has at least two fewer.
func (v View) even(living []string, loads map[string]int) []Act {
	if loads[v.Me]-loads[Least(living, loads)] < 2 {
		return nil
	}
	for _, settled := range []bool{true, false} {
		for _, p := range v.Pools {
			if !p.Mine || p.Stuck || p.Settled != settled {
				continue
			}
			fit, _ := v.Sight.Serving(living, p.Hold.Location)
			least := Least(fit, loads)
			if loads[v.Me]-loads[least] >= 2 && (settled || v.near(least)) {
				return []Act{{p.Hold, least}}
			}
		}
	}
	return nil
}

// near reports whether a server can adopt this one's sandboxes.
func (v View) near(name string) bool {
	mine, _ := v.Sight.Server(v.Me)
	its, _ := v.Sight.Server(name)
	return mine.Place != "" && mine.Place == its.Place
}

// Farewell says who gets which pool of a server that ends in an orderly way. Of those that would
// lose sessions by it nothing is said: the server may come back to them.
func Farewell(v View) []Act {
	living := slices.DeleteFunc(v.Sight.Living(v.Patience, v.Now), func(name string) bool {
		return name == v.Me
	})
	if len(living) == 0 {
		return nil
	}
	loads := map[string]int{}
	for _, p := range v.Pools {
		loads[p.Hold.Owner]++
	}
	var acts []Act
	for _, p := range v.Pools {
		if !p.Mine {
			continue
		}
		fit, serve := v.Sight.Serving(living, p.Hold.Location)
		if me, _ := v.Sight.Server(v.Me); !serve && me.Serves(p.Hold.Location) {
			continue // nobody else could do more than keep it
		}
		if heir := v.heir(v.Me, fit, loads); p.Settled || v.near(heir) {
			loads[heir]++
			acts = append(acts, Act{p.Hold, heir})
		}
	}
	return acts
}
