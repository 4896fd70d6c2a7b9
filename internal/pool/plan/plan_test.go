package plan

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sandpool/sandpool"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func drawTime(t *rapid.T, name string) time.Time {
	return epoch.Add(time.Duration(rapid.IntRange(-900, 60).Draw(t, name)) * time.Second)
}

func drawSandbox(t *rapid.T, id string, revision int64) Sandbox {
	b := Sandbox{ID: sandpool.SandboxID(id),
		State: rapid.SampledFrom([]sandpool.SandboxState{sandpool.Starting, sandpool.Ready,
			sandpool.Claimed, sandpool.Stopping}).Draw(t, "state"),
		Revision: rapid.Int64Range(max(1, revision-1), revision).Draw(t, "revision"),
		Since:    drawTime(t, "since"), Used: drawTime(t, "used"), RetryAt: drawTime(t, "retryAt"),
		Claimed: drawTime(t, "claimed"), CheckAt: drawTime(t, "checkAt"),
		Checking: rapid.Bool().Draw(t, "checking")}
	switch b.State {
	case sandpool.Starting:
		b.Busy, b.Session = true, rapid.Bool().Draw(t, "session")
	case sandpool.Claimed:
		b.Session, b.Leases = true, rapid.IntRange(0, 2).Draw(t, "leases")
	case sandpool.Stopping:
		b.Busy = rapid.Bool().Draw(t, "busy")
	}
	return b
}

func drawSnapshot(t *rapid.T) Snapshot {
	s := Snapshot{Starts: rapid.IntRange(0, 6).Draw(t, "starts"),
		Stops: rapid.IntRange(0, MaxStops).Draw(t, "stops"), StopMost: rapid.IntRange(0,
			MaxStops+4).Draw(t, "stopMost"), Checks: rapid.IntRange(0,
			MaxChecks).Draw(t, "checks"),
		Draining: rapid.IntRange(0, 9).Draw(t, "draining") == 0}
	for i := range rapid.IntRange(0, 3).Draw(t, "pools") {
		p := Pool{Key: fmt.Sprint("pool", i), Prepared: rapid.IntRange(0, 3).Draw(t,
			"unprepared") > 0,
			Preparing: rapid.Bool().Draw(t, "preparing"), Removing: rapid.IntRange(0, 5).Draw(t,
				"removing") == 0}
		p.Pool = sandpool.Pool{MaxSessions: rapid.IntRange(1, 12).Draw(t, "max"),
			ReadySessions: rapid.IntRange(0, 8).Draw(t, "ready"),
			Cooldown:      5 * time.Minute, Revision: rapid.Int64Range(1, 3).Draw(t, "revision"),
			State: rapid.SampledFrom([]sandpool.ProvisioningState{sandpool.InProgress,
				sandpool.Succeeded, sandpool.Succeeded, sandpool.Failed, sandpool.Deleting}).Draw(t,
				"state")}
		p.Liveness, p.Roll = rapid.Bool().Draw(t, "liveness"), rapid.Bool().Draw(t, "roll")
		if rapid.Bool().Draw(t, "onExit") {
			p.Pool.Spec.Lifecycle = sandpool.Lifecycle{Type: sandpool.OnContainerExit,
				MaxAlive: time.Minute}
		}
		if rapid.Bool().Draw(t, "failed") {
			p.RefillAt, p.PrepareAt = drawTime(t, "refillAt"), drawTime(t, "prepareAt")
		}
		for n := range rapid.IntRange(0, 12).Draw(t, "sandboxes") {
			p.Sandboxes = append(p.Sandboxes, drawSandbox(t, fmt.Sprintf("%s-%d", p.Key, n),
				p.Pool.Revision))
		}
		s.Pools = append(s.Pools, p)
	}
	for n := range rapid.IntRange(0, 3).Draw(t, "strays") {
		b := drawSandbox(t, fmt.Sprint("stray", n), 1)
		b.State = sandpool.Stopping
		s.Strays = append(s.Strays, b)
	}
	return s
}

// TestPlanIsSafe: whatever the snapshot, plan does nothing that breaks a promise.
func TestPlanIsSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSnapshot(t)
		refills, stops, checks, seen := 0, 0, 0, map[string]bool{}
		for _, a := range Next(s, epoch) {
			p, b := s.find(a)
			if once := fmt.Sprint(a.Act, a.Pool, a.Sandbox); a.Act != Refill && seen[once] {
				t.Fatalf("%+v twice", a)
			} else {
				seen[once] = true
			}
			switch a.Act {
			case Refill:
				refills++
				if s.Draining || p.Pool.State != sandpool.Succeeded || !p.Prepared ||
					epoch.Before(p.RefillAt) {
					t.Fatalf("refill of %+v", p)
				}
			case Retire:
				if reason := safeToRetire(p, b); reason != "" {
					t.Fatalf("%s: retired %+v of %+v", reason, b, p.Pool)
				}
			case Stop:
				stops++
				if b.State != sandpool.Stopping || b.Busy || epoch.Before(b.RetryAt) {
					t.Fatalf("stop of %+v", b)
				}
			case Check:
				checks++
				if !p.Liveness || b.Checking || epoch.Before(b.CheckAt) ||
					b.State != sandpool.Ready && b.State != sandpool.Claimed {
					t.Fatalf("question to %+v", b)
				}
			case Remove:
				if p.Pool.State != sandpool.Deleting || len(p.Sandboxes) > 0 || p.Preparing ||
					p.Claims > 0 {
					t.Fatalf("removal of %+v", p)
				}
			case Prepare:
				if p.Prepared || p.Preparing || p.Pool.State == sandpool.Deleting {
					t.Fatalf("preparation of %+v", p)
				}
			}
		}
		if checks+s.Checks > max(MaxChecks, s.Checks) {
			t.Fatalf("%d questions beside %d", checks, s.Checks)
		}
		if refills > s.Starts || s.Stops+stops > max(MaxStops, s.StopMost, s.Stops) {
			t.Fatalf("%d refills of %d allowed, %d stops beside %d", refills, s.Starts, stops,
				s.Stops)
		}
	})
}

func (s Snapshot) find(a Action) (p Pool, b Sandbox) {
	sandboxes := s.Strays
	for _, each := range s.Pools {
		if each.Key == a.Pool {
			p, sandboxes = each, each.Sandboxes
		}
	}
	for _, each := range sandboxes {
		if each.ID == a.Sandbox {
			b = each
		}
	}
	return p, b
}

// safeToRetire says which promise the end of b breaks.
func safeToRetire(p Pool, b Sandbox) string {
	switch {
	case b.State == sandpool.Stopping:
		return "retired twice"
	case p.Pool.State == sandpool.Deleting:
		return ""
	case b.State == sandpool.Claimed && p.Pool.Spec.Lifecycle.Type == sandpool.OnContainerExit:
		if epoch.Sub(b.Claimed) < p.Pool.Spec.Lifecycle.MaxAlive {
			return "its container runs, and may"
		}
	case b.State == sandpool.Claimed && b.Leases > 0:
		return "a request is in flight"
	case b.State == sandpool.Claimed && epoch.Sub(b.Used) < p.Pool.Cooldown:
		return "its cooldown has not passed"
	case b.State == sandpool.Starting && b.Session:
		return "a claim waits for it"
	}
	return ""
}

// step is what the actions do to a snapshot when all goes well.
func (s *Snapshot) step(now time.Time, fresh *int) {
	for i := range s.Pools { // what was under way completes
		p := &s.Pools[i]
		if p.Preparing {
			p.Preparing, p.Prepared, p.PrepareAt = false, true, time.Time{}
			if p.Pool.State != sandpool.Deleting {
				p.Pool.State = sandpool.Succeeded
			}
		}
		var kept []Sandbox
		for _, b := range p.Sandboxes {
			switch {
			case b.State == sandpool.Stopping && b.Busy:
				continue
			case b.State == sandpool.Starting && b.Session:
				b.State, b.Busy, b.Since, b.Used = sandpool.Claimed, false, now, now
			case b.State == sandpool.Starting:
				b.State, b.Busy, b.Since = sandpool.Ready, false, now
			}
			kept = append(kept, b)
		}
		p.Sandboxes = kept
	}
	s.Stops = 0
	for _, a := range Next(*s, now) {
		s.do(a, now, fresh)
	}
}

func (s *Snapshot) do(a Action, now time.Time, fresh *int) {
	for i := range s.Pools {
		p := &s.Pools[i]
		if p.Key != a.Pool {
			continue
		}
		switch a.Act {
		case Prepare:
			p.Preparing = true
		case Forgive:
			p.RefillAt = time.Time{}
		case Remove:
			p.Removing = true
		case Refill:
			*fresh++
			p.Sandboxes = append(p.Sandboxes,
				Sandbox{ID: sandpool.SandboxID(fmt.Sprint("new", *fresh)), State: sandpool.Starting,
					Revision: p.Pool.Revision, Busy: true, Since: now})
		}
		for j := range p.Sandboxes {
			switch b := &p.Sandboxes[j]; {
			case b.ID != a.Sandbox:
			case a.Act == Retire:
				b.State, b.Since, b.Busy, b.RetryAt = sandpool.Stopping, now, false, time.Time{}
			case a.Act == Stop:
				b.Busy = true
			}
		}
	}
}

// TestPlanSettles: when nothing fails and nobody comes, every pool arrives at the sandboxes it
// should have, every session that nobody uses ends, and deleted pools go.
func TestPlanSettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSnapshot(t)
		s.Draining, s.Starts, s.Strays = false, 3, nil
		for i := range s.Pools {
			p := &s.Pools[i]
			p.Removing = false
			if p.Prepared && p.Pool.State != sandpool.Deleting {
				p.Pool.State = sandpool.Succeeded // the manager enters both at once
			}
		}
		now, fresh := epoch, 0
		for range 200 {
			s.step(now, &fresh)
			now = now.Add(5 * time.Second)
		}
		for _, p := range s.Pools {
			if p.Pool.State == sandpool.Deleting {
				if !p.Removing {
					t.Fatalf("a deleted pool stays: %+v", p)
				}
				continue
			}
			sessions, ready := p.count(p.isSession), p.count(p.isReady)
			for _, b := range p.Sandboxes {
				if b.State == sandpool.Claimed && b.Leases == 0 {
					t.Fatalf("an idle session stays: %+v", b)
				}
			}
			want := max(0, min(p.Pool.ReadySessions, p.Pool.MaxSessions-sessions))
			if ready != want || len(p.Sandboxes) != ready+sessions {
				t.Fatalf("%d ready of %d wanted beside %d sessions, %d sandboxes in all: %+v",
					ready, want, sessions, len(p.Sandboxes), p)
			}
		}
	})
}

// TestRollLeavesNoGap: while the ready sandboxes of an earlier revision are replaced there are as
// many ready as are wanted, but for the one that a full pool has to give up first, and never more
// of them than the pool may have.
func TestRollLeavesNoGap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 8).Draw(t, "max")
		p := Pool{Key: "pool", Roll: true, Preparing: rapid.Bool().Draw(t, "preparing"),
			Pool: sandpool.Pool{MaxSessions: most, ReadySessions: rapid.IntRange(1, most).Draw(t,
				"ready"), Revision: 2, Cooldown: time.Hour, State: sandpool.InProgress}}
		if p.Prepared = !p.Preparing; p.Prepared {
			p.Pool.State = sandpool.Succeeded
		}
		for i := range rapid.IntRange(0, most-1).Draw(t, "sessions") {
			id := sandpool.SandboxID(fmt.Sprint("session", i))
			p.Sandboxes = append(p.Sandboxes, Sandbox{ID: id, State: sandpool.Claimed, Revision: 1,
				Session: true, Used: epoch})
		}
		want := min(p.Pool.ReadySessions, most-len(p.Sandboxes))
		for i := range want {
			p.Sandboxes = append(p.Sandboxes, Sandbox{ID: sandpool.SandboxID(fmt.Sprint("old", i)),
				State: sandpool.Ready, Revision: 1, Since: epoch})
		}
		free := most - (len(p.Sandboxes) - want)
		s, now, fresh := Snapshot{Pools: []Pool{p}, Starts: 3}, epoch, 0
		for range 60 {
			s.step(now, &fresh)
			now = now.Add(time.Second)
			p := &s.Pools[0]
			ready, all := 0, 0
			for _, b := range p.Sandboxes {
				if b.State == sandpool.Ready {
					ready++
				}
				if b.State != sandpool.Stopping {
					all++
				}
			}
			if ready < min(want, free-1) || all > most {
				t.Fatalf("%d ready of %d, %d sandboxes of %d: %+v", ready, want, all, most, p)
			}
		}
		if got := s.Pools[0].count(s.Pools[0].isReady); got != want {
			t.Fatalf("the roll ends with %d new ones ready of %d", got, want)
		}
	})
}

// TestRefillIsFair: a big pool does not keep a small one waiting.
func TestRefillIsFair(t *testing.T) {
	one := func(key string, ready int) Pool {
		return Pool{Key: key, Prepared: true, Pool: sandpool.Pool{MaxSessions: 100,
			ReadySessions: ready, State: sandpool.Succeeded, Cooldown: time.Minute}}
	}
	got := map[string]int{}
	for _, a := range Next(Snapshot{Pools: []Pool{one("big", 50), one("small", 1)}, Starts: 4},
		epoch) {
		got[a.Pool]++
	}
	if got["big"] != 3 || got["small"] != 1 {
		t.Errorf("4 starts were dealt as %v", got)
	}
}

// TestPlanKeepsReadyForClaimsInProgress: callers who ask at the same time find the
// sandboxes that are ready for them, also in a pool near its maximum.
func TestPlanKeepsReadyForClaimsInProgress(t *testing.T) {
	const ready = 12
	p := Pool{Key: "p", Prepared: true, Claims: ready, Pool: sandpool.Pool{MaxSessions: ready + 1,
		ReadySessions: ready,
		Cooldown:      5 * time.Minute, Revision: 1, State: sandpool.Succeeded}}
	for i := range ready {
		p.Sandboxes = append(p.Sandboxes,
			Sandbox{ID: sandpool.SandboxID(fmt.Sprint("ready", i)), State: sandpool.Ready,
				Revision: 1, Since: epoch},
			Sandbox{ID: sandpool.SandboxID(fmt.Sprint("spare", i)), State: sandpool.Starting,
				Revision: 1, Session: true, Busy: true, Since: epoch})
	}
	if got := Next(Snapshot{Starts: 2, Pools: []Pool{p}}, epoch); len(got) != 0 {
		t.Errorf("plan = %+v, want nothing to do", got)
	}
	p.Claims = 0
	if got := Next(Snapshot{Pools: []Pool{p}}, epoch); len(got) != ready-1 ||
		got[0].Reason != ReasonSurplus {
		t.Errorf("without claims in progress: %d actions, want %d retirements", len(got), ready-1)
	}
}

// TestRefillWaitsForCalm: while claims find sandboxes ready, refills wait, but not for ever,
// and when nothing is ready no longer than the first requests take.
func TestRefillWaitsForCalm(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, c := range map[string]struct {
		ready          int
		burst, claimed time.Duration // ago
		leases         int           // of the session claimed then
		want           int
	}{
		"in a burst": {ready: 2, burst: Calm / 2, claimed: Calm / 2, want: 0},
		"in a long burst": {ready: 2, burst: patience, claimed: Calm / 2, leases: 1,
			want: 3},
		"half ready, in a long burst":   {ready: 3, burst: patience, claimed: Calm / 2, want: 0},
		"half ready, in an endless one": {ready: 3, burst: calmer, claimed: Calm / 2, want: 2},
		"half ready, after a burst":     {ready: 3, burst: 2 * Calm, claimed: Calm, want: 2},
		"after a burst": {ready: 2, burst: 2 * Calm, claimed: Calm, leases: 1,
			want: 3},
		"nothing ready, in a request": {ready: 0, burst: Calm / 2, claimed: Calm / 2, leases: 1,
			want: 0},
		"nothing ready, in a long one": {ready: 0, burst: 2 * Calm, claimed: Calm, leases: 1,
			want: 5},
		"nothing ready, in a long burst": {ready: 0, burst: patience, claimed: Calm / 2, leases: 1,
			want: 5},
		"nothing ready, all answered": {ready: 0, burst: Calm / 2, claimed: Calm / 2, want: 5},
	} {
		t.Run(name, func(t *testing.T) {
			p := Pool{Key: "p", Prepared: true, Burst: Burst{First: now.Add(-c.burst),
				Last: now.Add(-c.claimed)},
				Pool: sandpool.Pool{State: sandpool.Succeeded, MaxSessions: 100, ReadySessions: 5}}
			for i := range c.ready {
				p.Sandboxes = append(p.Sandboxes, Sandbox{ID: sandpool.SandboxID(rune('a' + i)),
					State: sandpool.Ready})
			}
			p.Sandboxes = append(p.Sandboxes, Sandbox{ID: "claimed", State: sandpool.Claimed,
				Session: true,
				Since:   now.Add(-c.claimed), Used: now, Leases: c.leases})
			got := 0
			for _, a := range Next(Snapshot{Pools: []Pool{p}, Starts: 10}, now) {
				if a.Act == Refill {
					got++
				}
			}
			if got != c.want {
				t.Errorf("%d refills, want %d", got, c.want)
			}
		})
	}
}

// TestStopsKeepUp: where many sandboxes may start at the same time, as many may stop.
func TestStopsKeepUp(t *testing.T) {
	p := Pool{Key: "p", Pool: sandpool.Pool{State: sandpool.Succeeded, Revision: 1}}
	for i := range 100 {
		p.Sandboxes = append(p.Sandboxes, Sandbox{ID: sandpool.SandboxID(fmt.Sprint(i)),
			State: sandpool.Stopping, Revision: 1})
	}
	for most, want := range map[int]int{0: MaxStops - 3, 4: MaxStops - 3, 40: 37} {
		got := 0
		for _, a := range Next(Snapshot{Pools: []Pool{p}, Stops: 3, StopMost: most}, epoch) {
			if a.Act == Stop {
				got++
			}
		}
		if got != want {
			t.Errorf("with %d at the same time, %d stops begin, want %d", most, got, want)
		}
	}
}
