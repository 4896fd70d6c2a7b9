package share

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const cores = 2

// game is sandboxes that are looked at.
type game struct {
	now     time.Time
	budgets map[string]*budget
	players []*player
}

// player is a sandbox.
type player struct {
	account
	tenant  string
	gained  time.Duration // processor time that it took with a great weight
	weights []int
}

func newGame(tenants ...string) *game {
	g := &game{now: time.Unix(1, 0), budgets: map[string]*budget{}}
	for _, t := range tenants {
		g.players = append(g.players, &player{tenant: t, account: account{weight: Standard}})
	}
	return g
}

// turn is what a sandbox does between two looks.
type turn struct {
	used time.Duration
	idle time.Duration
	call bool
}

// play lets one look pass.
func (g *game) play(turns ...turn) {
	g.now = g.now.Add(busyPause)
	looks := make([]look, len(turns))
	for i, t := range turns {
		p := g.players[i]
		if p.light {
			p.gained += t.used
		}
		looks[i] = look{account: &p.account, tenant: p.tenant, since: busyPause, used: t.used,
			idle: t.idle, called: t.call}
	}
	for i, w := range decide(g.now, cores, Light, g.budgets, looks) {
		g.players[i].weight = w
		g.players[i].weights = append(g.players[i].weights, w)
	}
}

// What sandboxes do between two looks.
var (
	asleep   = turn{idle: busyPause}
	hog      = turn{used: busyPause, call: true}
	starved  = turn{used: time.Millisecond, call: true} // it waits for a processor
	sleeping = turn{call: true}                         // a call that does nothing
	short    = turn{used: 10 * time.Millisecond, idle: 180 * time.Millisecond, call: true}
)

func TestWhoIsLight(t *testing.T) {
	for _, tt := range []struct {
		name  string
		turns []turn
		want  int
	}{
		{"a new one", nil, Standard},
		{"one that was answered", []turn{asleep}, Light},
		{"one that is used steadily", slices.Repeat([]turn{short}, 50), Light},
		{"one that waits inside", slices.Repeat([]turn{sleeping}, 5), Light},
		{"a first execution that gets little", slices.Repeat([]turn{starved}, 50), Standard},
		{"one that was there before and computes", []turn{asleep, hog}, Standard},
		{"the same, which gets little", append([]turn{asleep}, slices.Repeat([]turn{starved},
			15)...), Standard},
		{"one that has computed, a moment later", []turn{asleep, hog, asleep}, Standard},
		{"one that has computed, a while later", append([]turn{asleep, hog},
			slices.Repeat([]turn{asleep}, 6)...), Light},
		{"one that computes without a call", slices.Repeat([]turn{{used: busyPause,
			idle: busyPause}}, 20), Standard},
	} {
		g := newGame("a")
		for _, turn := range tt.turns {
			g.play(turn)
		}
		if got := g.players[0].weight; got != tt.want {
			t.Errorf("%s has the weight %d, want %d; it was %v", tt.name, got, tt.want,
				g.players[0].weights)
		}
	}
}

// Whatever its rhythm, a sandbox takes a quarter of a core with a great weight at most, and what it
// takes between two looks.
func TestNoRhythmGainsMuch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := newGame("a")
		p := g.players[0]
		rhythm := rapid.SliceOfN(rapid.IntRange(0, 100), 1, 20).Draw(t, "percent of a core")
		called := rapid.Bool().Draw(t, "called")
		greedy := rapid.Bool().Draw(t, "stops when it is not light")
		const looks = 1000
		for i := range looks {
			used := busyPause * time.Duration(rhythm[i%len(rhythm)]) / 100
			if greedy && !p.light {
				used = 0
			}
			g.play(turn{used: used, idle: busyPause - used, call: called})
		}
		whole := looks * busyPause
		if most := whole/creditShare + fullCredit + busyPause; p.gained > most {
			t.Errorf("in %v it took %v with a great weight, of %v at most", whole, p.gained, most)
		}
	})
}

// All sandboxes of a tenant together take its part of half of the machine at most.
func TestManySandboxesGainNothing(t *testing.T) {
	for _, tenants := range []int{1, 2, 3} {
		var names []string
		for range 40 {
			names = append(names, "crowd")
		}
		for n := range tenants - 1 {
			names = append(names, fmt.Sprint("other-", n))
		}
		g := newGame(names...)
		const looks = 500
		for range looks {
			turns := make([]turn, len(names))
			for i := range turns {
				turns[i] = turn{idle: busyPause - 10*time.Millisecond, used: 10 * time.Millisecond}
				if i < 40 && !g.players[i].light {
					turns[i] = asleep // to be light again
				}
			}
			g.play(turns...)
		}
		var gained time.Duration
		for _, p := range g.players[:40] {
			gained += p.gained
		}
		whole := looks * busyPause
		most := whole*cores/2/time.Duration(tenants) + 2*fullBudget + 40*10*time.Millisecond
		if gained > most || gained < most/4 {
			t.Errorf("one of %d tenants took %v in %v with a great weight, of %v at most", tenants,
				gained, whole, most)
		}
		for _, p := range g.players[40:] {
			if !p.light {
				t.Errorf("of %d tenants another one's sandbox is light no more", tenants)
			}
		}
	}
}

// Of those that compute each tenant has the same, and none has nothing; one that waits for its
// turn keeps its weight, and alone a tenant has the kernel's own.
func TestTenantsShare(t *testing.T) {
	names := []string{"small", "large", "calm"}
	turns := []turn{hog, hog, asleep}
	for range 299 {
		names, turns = append(names, "large"), append(turns, hog)
	}
	g := newGame(names...)
	for range 3 {
		g.play(turns...)
	}
	large := 0
	for _, p := range g.players {
		if p.tenant == "large" {
			large += p.weight
		}
	}
	if g.players[0].weight != Standard || large < 2*Standard || large > 4*Standard {
		t.Errorf("the one has %d, the 300 of another have %d", g.players[0].weight, large)
	}
	if g.players[2].weight != Light {
		t.Errorf("one that does nothing has %d", g.players[2].weight)
	}
	turns[0] = asleep
	g.play(turns...)
	g.play(turns...)
	if g.players[1].weight != Standard || g.players[0].weight != Light {
		t.Errorf("alone one of 300 has %d, and the one that has ended %d", g.players[1].weight,
			g.players[0].weight)
	}
}

// A tenant that has taken all of its budget keeps those of its sandboxes light that have taken
// little of it.
func TestBudgetSparesTheSmall(t *testing.T) {
	names := slices.Repeat([]string{"a"}, 40)
	g := newGame(names...)
	turns := slices.Repeat([]turn{asleep}, 40)
	g.play(turns...)
	for i := range 39 {
		turns[i+1] = turn{used: 8 * time.Millisecond, call: true}
	}
	turns[0] = turn{used: time.Millisecond, idle: busyPause / 2, call: true}
	g.play(turns...)
	if g.players[0].weight != Light || g.players[1].weight == Light {
		t.Errorf("the small one has %d, one of the others %d", g.players[0].weight,
			g.players[1].weight)
	}
}

// Budgets of tenants that are gone are forgotten once they are full.
func TestBudgetsAreForgotten(t *testing.T) {
	g := newGame("a", "b")
	g.play(hog, hog)
	for range 10 {
		g.play(asleep, hog)
	}
	if len(g.budgets) != 1 || g.budgets["b"] == nil {
		t.Errorf("budgets are %v, want that of b", g.budgets)
	}
}
