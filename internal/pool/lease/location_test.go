package lease_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool/internal/pool/lease"
	"github.com/sandpool/sandpool/internal/store"
)

// TestLocations: a pool is a server's of its location, if one lives, and else somebody's who keeps
// it until one does.
func TestLocations(t *testing.T) {
	east, west := []string{"East US"}, []string{"west"}
	for name, c := range map[string]struct {
		locations map[string][]string // of the servers that live
		owner     string
		location  string
		mine      bool
		busy      bool
		want      string // the new owner; empty means that nothing is done
	}{
		"an orphan goes to its location": {map[string][]string{"me": east, "other": west}, "dead",
			"eastus", false, false, "me"},
		"and to nobody of another": {map[string][]string{"me": west, "other": east}, "dead",
			"east us", false, false, ""},
		"or is kept if there is none": {map[string][]string{"me": west, "other": west}, "dead",
			"eastus", false, false, "me"},
		"a server without locations serves all": {map[string][]string{"me": west, "other": nil},
			"dead", "eastus", false, false, ""},
		"who only keeps a pool passes it on": {map[string][]string{"me": west, "other": east}, "me",
			"eastus", true, false, "other"},
		"not with sessions that would be lost": {map[string][]string{"me": west, "other": east},
			"me", "eastus", true, true, ""},
		"not if nobody serves it": {map[string][]string{"me": west, "other": west}, "me",
			"eastus", true, false, ""},
		"what is served stays": {map[string][]string{"me": east, "other": east}, "me",
			"eastus", true, false, ""},
	} {
		var sight lease.Sight
		now := time.Unix(1000, 0)
		rows := []store.Server{{Name: "dead", Beat: 1, Locations: east}}
		for _, name := range []string{"me", "other"} {
			rows = append(rows, store.Server{Name: name, Beat: 1, Locations: c.locations[name]})
		}
		for range 7 {
			now = now.Add(lease.Every)
			rows[1].Beat++
			rows[2].Beat++
			sight = sight.Look(rows, now)
		}
		hold := store.Hold{Pool: poolID(1), Owner: c.owner, Epoch: 1, Location: c.location}
		var want []lease.Act
		if c.want != "" {
			want = []lease.Act{{Hold: hold, To: c.want}}
		}
		got := lease.Next(lease.View{Me: "me", Sight: sight, Now: now, Patience: lease.Patience,
			Pools: []lease.Pool{{Hold: hold, Mine: c.mine, Settled: !c.busy}}})
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// TestFarewellByLocation: the only server of a location keeps its pools when it ends, since it may
// come back to them.
func TestFarewellByLocation(t *testing.T) {
	for other, want := range map[string]int{"west": 0, "east": 1} {
		rows := []store.Server{{Name: "me", Beat: 1, Locations: []string{"east"}},
			{Name: "other", Beat: 1, Locations: []string{other}}}
		now := time.Unix(1000, 0)
		sight := lease.Sight{}.Look(rows, now)
		got := lease.Farewell(lease.View{Me: "me", Sight: sight, Now: now,
			Patience: lease.Patience, Pools: []lease.Pool{{Mine: true, Settled: true,
				Hold: store.Hold{Pool: poolID(1), Owner: "me", Epoch: 1, Location: "east"}}}})
		if len(got) != want {
			t.Errorf("beside a server of %s: %+v", other, got)
		}
	}
}

// TestLocationsOfAll: a server that has died without locations does not open every location.
func TestLocationsOfAll(t *testing.T) {
	const patience = time.Minute
	me := store.Server{Name: "me", Locations: []string{"East US"}}
	for name, c := range map[string]struct {
		rows []store.Server
		want []string
	}{
		"alone":         {nil, []string{"East US"}},
		"an earlier me": {[]store.Server{{Name: "me", Beat: 1}}, []string{"East US"}},
		"one without":   {[]store.Server{{Name: "a", Beat: 1}}, nil},
		"one that left": {[]store.Server{{Name: "a"}}, []string{"East US"}},
		"one that died": {[]store.Server{{Name: "dead", Beat: 1}}, []string{"East US"}},
		"another's, too": {[]store.Server{{Name: "a", Beat: 1, Locations: []string{"eastus", "west"}}},
			[]string{"East US", "west"}},
		"a dead one's, too": {[]store.Server{{Name: "dead", Beat: 1, Locations: []string{"west"}}},
			[]string{"East US", "west"}},
	} {
		now := time.Now()
		sight := lease.Sight{}.Look(c.rows, now)
		for range 60 { // a minute, in which those that live have other beats
			for i := range c.rows {
				if c.rows[i].Name != "dead" && c.rows[i].Beat > 0 {
					c.rows[i].Beat++
				}
			}
			now = now.Add(patience / 60)
			sight = sight.Look(c.rows, now)
		}
		if got := sight.Locations(me, patience, now); !slices.Equal(got, c.want) ||
			(got == nil) != (c.want == nil) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
