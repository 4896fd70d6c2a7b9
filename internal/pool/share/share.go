// Package share shares out the processor among sandboxes: those that compute little come first, and
// those that compute get equal shares by tenant.
//
// # Why
//
// Two hundred sessions that import a library on two cores make every one of them wait for the
// others, and so a session that only wants to add two numbers: half a second at each hand-over
// between its threads. Linux picks who runs next by weights, and lets a group with a hundred times
// the weight of the others in at once. So a sandbox whose work is short has a great weight (Light),
// and what computes has the usual one, or less. Nothing is ever kept from running, and what nobody
// else wants anybody may have.
//
// # Who is light
//
// Who uses much looks as if it used little while it waits for a processor, so use alone does not
// tell them apart. What does is whether anybody waits for its answer. A sandbox gets credit for the
// time in which nobody does, or in which it did next to nothing: a quarter of that time
// (creditShare), up to fullCredit. What it takes while it is light is taken from its credit. One
// whose credit is full is light; one without is not any more, and owes what it has taken beyond.
// So, whatever its rhythm, a sandbox takes no more than a quarter of a core with a great weight in
// the long run. A new one has no credit: hundreds of first executions at once hurt nobody.
//
// The sandboxes of one tenant have a budget together: an equal part of half of the machine, among
// the tenants that are served. Beyond it those with little credit are light no more, and far beyond
// it none is. So the other half is always there for those that compute, and many sandboxes are of
// no use to anybody who would have more than others.
//
// # Those that compute
//
// They have the kernel's own weight (Standard) while they are of one tenant. Of several, each
// tenant has that weight for all of its sandboxes that compute, in steps of two.
//
// # How
//
// A Keeper hears of calls and answers, and looks at processor times five times a second while there
// are some, once a second otherwise. A weight is written only when it changes: for a session that
// is used now and then, once in its life. A call itself pays a look into a map.
package share

import (
	"cmp"
	"math/bits"
	"time"
)

// Weights, as cpu.weight of cgroup v2 counts them (the kernel's
// Documentation/admin-guide/cgroup-v2.rst).
const (
	Standard = 100   // of what nobody has given a weight
	Light    = 10000 // the greatest
)

const (
	// creditShare is the part of idle time that is credit: one in so many. 1+1 takes a millisecond,
	// so that a caller may ask for it a hundred times a second.
	creditShare = 4
	// fullCredit is processor time: that of a few short executions. Two hundred light sandboxes
	// that begin to compute at once on two cores have spent theirs after a second.
	fullCredit = 10 * time.Millisecond
	// longestDebt bounds for how long a sandbox that was light pays: 16 s.
	longestDebt = 4 * time.Second
	// nothing is the part of the time that counts as doing nothing: one in so many. Two hundred
	// sandboxes that compute on a core get twice that each.
	nothing = 400
	// fullBudget is that of a tenant: a quarter of a second of one core.
	fullBudget = 250 * time.Millisecond
)

// account is what is known of one sandbox.
type account struct {
	credit time.Duration
	light  bool
	weight int // as it was set
}

// look is what was seen of a sandbox since the last look.
type look struct {
	*account
	tenant string
	since  time.Duration
	used   time.Duration // processor time
	idle   time.Duration // of since, when nobody waited for an answer
	called bool          // somebody does now
	was    bool          // it was light meanwhile
}

// budget is what a tenant's light sandboxes may take.
type budget struct {
	left time.Duration
	at   time.Time
}

// decide settles all accounts at now on a machine of so many cores, and returns the weight of each
// sandbox, which of a light one is light.
func decide(now time.Time, cores, light int, budgets map[string]*budget, looks []look) []int {
	tenants, active := map[string][]look{}, map[string]bool{}
	for _, l := range looks {
		l.was = l.light
		l.settle()
		tenants[l.tenant] = append(tenants[l.tenant], l)
		if l.called || l.used > l.since/nothing {
			active[l.tenant] = true
			if budgets[l.tenant] == nil {
				budgets[l.tenant] = &budget{left: fullBudget, at: now}
			}
		}
	}
	// Those that have not got all of it back are among them, or to pause would be worth it.
	rate := float64(cores) / 2 / float64(max(1, len(budgets)))
	for name, b := range budgets {
		b.left = min(fullBudget, b.left+time.Duration(rate*float64(now.Sub(b.at))))
		b.at = now
		b.settle(tenants[name])
		if b.left == fullBudget && !active[name] {
			delete(budgets, name)
		}
	}
	computing := map[string]int{}
	for _, l := range looks {
		if !l.light && l.used > l.since/nothing {
			computing[l.tenant]++
		}
	}
	weights := make([]int, len(looks))
	for i, l := range looks {
		switch n := computing[l.tenant]; {
		case l.light:
			weights[i] = light
		case len(computing) < 2:
			weights[i] = Standard
		case l.used > l.since/nothing:
			weights[i] = max(1, Standard>>(bits.Len(uint(n))-1))
		default:
			weights[i] = cmp.Or(l.weight, Standard)
		}
	}
	return weights
}

// settle pays what the sandbox has taken, gives credit for its idle time, and says whether it is
// light.
func (l look) settle() {
	idle := min(l.idle, l.since)
	if l.used <= l.since/nothing {
		idle = l.since
	}
	a := l.account
	least := min(a.credit, 0) // nobody owes what anybody may have
	if a.light {
		least = -longestDebt
	}
	a.credit = max(least, min(fullCredit, a.credit+idle/creditShare-l.used))
	switch {
	case a.credit <= 0:
		a.light = false
	case a.credit == fullCredit:
		a.light = true
	}
}

// settle pays what the light ones of a tenant have taken. Without a budget those are light no more
// that have taken most of their credit, and with a debt none is.
func (b *budget) settle(all []look) {
	for _, l := range all {
		if l.was {
			b.left -= l.used
		}
	}
	if b.left > 0 {
		return
	}
	for _, l := range all {
		if l.credit < fullCredit/2 || b.left <= -fullBudget {
			l.light = false
			l.credit = min(l.credit, 0)
		}
	}
}
