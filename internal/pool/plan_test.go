package pool

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

func drawBox(t *rapid.T, id string, revision int64) boxView {
	b := boxView{id: sandpool.SandboxID(id),
		state:    rapid.SampledFrom([]sandpool.SandboxState{sandpool.Starting, sandpool.Ready, sandpool.Claimed, sandpool.Stopping}).Draw(t, "state"),
		revision: rapid.Int64Range(max(1, revision-1), revision).Draw(t, "revision"),
		since:    drawTime(t, "since"), used: drawTime(t, "used"), retryAt: drawTime(t, "retryAt")}
	switch b.state {
	case sandpool.Starting:
		b.busy, b.session = true, rapid.Bool().Draw(t, "session")
	case sandpool.Claimed:
		b.session, b.leases = true, rapid.IntRange(0, 2).Draw(t, "leases")
	case sandpool.Stopping:
		b.busy = rapid.Bool().Draw(t, "busy")
	}
	return b
}

func drawSnapshot(t *rapid.T) snapshot {
	s := snapshot{starts: rapid.IntRange(0, 6).Draw(t, "starts"), stops: rapid.IntRange(0, maxStops).Draw(t, "stops"),
		draining: rapid.IntRange(0, 9).Draw(t, "draining") == 0}
	for i := range rapid.IntRange(0, 3).Draw(t, "pools") {
		p := poolView{key: fmt.Sprint("pool", i), prepared: rapid.IntRange(0, 3).Draw(t, "unprepared") > 0,
			preparing: rapid.Bool().Draw(t, "preparing"), removing: rapid.IntRange(0, 5).Draw(t, "removing") == 0}
		p.pool = sandpool.Pool{MaxSessions: rapid.IntRange(1, 12).Draw(t, "max"), ReadySessions: rapid.IntRange(0, 8).Draw(t, "ready"),
			Cooldown: 5 * time.Minute, Revision: rapid.Int64Range(1, 3).Draw(t, "revision"),
			State: rapid.SampledFrom([]sandpool.ProvisioningState{sandpool.InProgress, sandpool.Succeeded, sandpool.Succeeded, sandpool.Failed, sandpool.Deleting}).Draw(t, "state")}
		if rapid.Bool().Draw(t, "failed") {
			p.refillAt, p.prepareAt = drawTime(t, "refillAt"), drawTime(t, "prepareAt")
		}
		for n := range rapid.IntRange(0, 12).Draw(t, "boxes") {
			p.boxes = append(p.boxes, drawBox(t, fmt.Sprintf("%s-%d", p.key, n), p.pool.Revision))
		}
		s.pools = append(s.pools, p)
	}
	for n := range rapid.IntRange(0, 3).Draw(t, "strays") {
		b := drawBox(t, fmt.Sprint("stray", n), 1)
		b.state = sandpool.Stopping
		s.strays = append(s.strays, b)
	}
	return s
}

// TestPlanIsSafe: whatever the snapshot, plan does nothing that breaks a promise.
func TestPlanIsSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSnapshot(t)
		refills, stops, seen := 0, 0, map[string]bool{}
		for _, a := range plan(s, epoch) {
			p, b := s.find(a)
			if once := fmt.Sprint(a.act, a.pool, a.box); a.act != actRefill && seen[once] {
				t.Fatalf("%+v twice", a)
			} else {
				seen[once] = true
			}
			switch a.act {
			case actRefill:
				refills++
				if s.draining || p.pool.State != sandpool.Succeeded || !p.prepared || epoch.Before(p.refillAt) {
					t.Fatalf("refill of %+v", p)
				}
			case actRetire:
				if reason := safeToRetire(p, b); reason != "" {
					t.Fatalf("%s: retired %+v of %+v", reason, b, p.pool)
				}
			case actStop:
				stops++
				if b.state != sandpool.Stopping || b.busy || epoch.Before(b.retryAt) {
					t.Fatalf("stop of %+v", b)
				}
			case actRemove:
				if p.pool.State != sandpool.Deleting || len(p.boxes) > 0 || p.preparing || p.claims > 0 {
					t.Fatalf("removal of %+v", p)
				}
			case actPrepare:
				if p.prepared || p.preparing || p.pool.State == sandpool.Deleting {
					t.Fatalf("preparation of %+v", p)
				}
			}
		}
		if refills > s.starts || s.stops+stops > max(maxStops, s.stops) {
			t.Fatalf("%d refills of %d allowed, %d stops beside %d", refills, s.starts, stops, s.stops)
		}
	})
}

func (s snapshot) find(a action) (p poolView, b boxView) {
	boxes := s.strays
	for _, each := range s.pools {
		if each.key == a.pool {
			p, boxes = each, each.boxes
		}
	}
	for _, each := range boxes {
		if each.id == a.box {
			b = each
		}
	}
	return p, b
}

// safeToRetire says which promise the end of b breaks.
func safeToRetire(p poolView, b boxView) string {
	switch {
	case b.state == sandpool.Stopping:
		return "retired twice"
	case p.pool.State == sandpool.Deleting:
		return ""
	case b.state == sandpool.Claimed && b.leases > 0:
		return "a request is in flight"
	case b.state == sandpool.Claimed && epoch.Sub(b.used) < p.pool.Cooldown:
		return "its cooldown has not passed"
	case b.state == sandpool.Starting && b.session:
		return "a claim waits for it"
	}
	return ""
}

// step is what the actions do to a snapshot when all goes well.
func (s *snapshot) step(now time.Time, fresh *int) {
	for i := range s.pools { // what was under way completes
		p := &s.pools[i]
		if p.preparing {
			p.preparing, p.prepared, p.prepareAt = false, true, time.Time{}
			if p.pool.State != sandpool.Deleting {
				p.pool.State = sandpool.Succeeded
			}
		}
		var kept []boxView
		for _, b := range p.boxes {
			switch {
			case b.state == sandpool.Stopping && b.busy:
				continue
			case b.state == sandpool.Starting && b.session:
				b.state, b.busy, b.since, b.used = sandpool.Claimed, false, now, now
			case b.state == sandpool.Starting:
				b.state, b.busy, b.since = sandpool.Ready, false, now
			}
			kept = append(kept, b)
		}
		p.boxes = kept
	}
	s.stops = 0
	for _, a := range plan(*s, now) {
		s.do(a, now, fresh)
	}
}

func (s *snapshot) do(a action, now time.Time, fresh *int) {
	for i := range s.pools {
		p := &s.pools[i]
		if p.key != a.pool {
			continue
		}
		switch a.act {
		case actPrepare:
			p.preparing = true
		case actForgive:
			p.refillAt = time.Time{}
		case actRemove:
			p.removing = true
		case actRefill:
			*fresh++
			p.boxes = append(p.boxes, boxView{id: sandpool.SandboxID(fmt.Sprint("new", *fresh)), state: sandpool.Starting, revision: p.pool.Revision, busy: true, since: now})
		}
		for j := range p.boxes {
			switch b := &p.boxes[j]; {
			case b.id != a.box:
			case a.act == actRetire:
				b.state, b.since, b.busy, b.retryAt = sandpool.Stopping, now, false, time.Time{}
			case a.act == actStop:
				b.busy = true
			}
		}
	}
}

// TestPlanSettles: when nothing fails and nobody comes, every pool arrives at the sandboxes it
// should have, every session that nobody uses ends, and deleted pools go.
func TestPlanSettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSnapshot(t)
		s.draining, s.starts, s.strays = false, 3, nil
		for i := range s.pools {
			p := &s.pools[i]
			p.removing = false
			if p.prepared && p.pool.State != sandpool.Deleting {
				p.pool.State = sandpool.Succeeded // the manager enters both at once
			}
		}
		now, fresh := epoch, 0
		for range 200 {
			s.step(now, &fresh)
			now = now.Add(5 * time.Second)
		}
		for _, p := range s.pools {
			if p.pool.State == sandpool.Deleting {
				if !p.removing {
					t.Fatalf("a deleted pool stays: %+v", p)
				}
				continue
			}
			sessions, ready := p.count(p.isSession), p.count(p.isReady)
			for _, b := range p.boxes {
				if b.state == sandpool.Claimed && b.leases == 0 {
					t.Fatalf("an idle session stays: %+v", b)
				}
			}
			want := max(0, min(p.pool.ReadySessions, p.pool.MaxSessions-sessions))
			if ready != want || len(p.boxes) != ready+sessions {
				t.Fatalf("%d ready of %d wanted beside %d sessions, %d sandboxes in all: %+v", ready, want, sessions, len(p.boxes), p)
			}
		}
	})
}

// TestRefillIsFair: a big pool does not keep a small one waiting.
func TestRefillIsFair(t *testing.T) {
	one := func(key string, ready int) poolView {
		return poolView{key: key, prepared: true, pool: sandpool.Pool{MaxSessions: 100, ReadySessions: ready, State: sandpool.Succeeded, Cooldown: time.Minute}}
	}
	got := map[string]int{}
	for _, a := range plan(snapshot{pools: []poolView{one("big", 50), one("small", 1)}, starts: 4}, epoch) {
		got[a.pool]++
	}
	if got["big"] != 3 || got["small"] != 1 {
		t.Errorf("4 starts were dealt as %v", got)
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	if !b.next().IsZero() {
		t.Error("nothing failed, and yet there is a wait")
	}
	for i, want := range []int{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		b.fail(epoch)
		if got := b.next().Sub(epoch); got != time.Duration(want)*time.Second {
			t.Errorf("after %d failures the wait is %s, want %d s", i+1, got, want)
		}
	}
	b.failures = 1 << 40
	if got := b.next().Sub(epoch); got != lastRetry {
		t.Errorf("after very many failures the wait is %s", got)
	}
}

func TestSize(t *testing.T) {
	for bytes, want := range map[int64]string{512: "512 bytes", 1 << 30: "1 GiB", 3 << 29: "1.5 GiB", 200 << 20: "200 MiB"} {
		if got := size(bytes); got != want {
			t.Errorf("size(%d) = %q, want %q", bytes, got, want)
		}
	}
}

// TestPlanKeepsReadyForClaimsInProgress: callers who ask at the same time find the
// sandboxes that are ready for them, also in a pool near its maximum.
func TestPlanKeepsReadyForClaimsInProgress(t *testing.T) {
	const ready = 12
	p := poolView{key: "p", prepared: true, claims: ready, pool: sandpool.Pool{MaxSessions: ready + 1, ReadySessions: ready,
		Cooldown: 5 * time.Minute, Revision: 1, State: sandpool.Succeeded}}
	for i := range ready {
		p.boxes = append(p.boxes,
			boxView{id: sandpool.SandboxID(fmt.Sprint("ready", i)), state: sandpool.Ready, revision: 1, since: epoch},
			boxView{id: sandpool.SandboxID(fmt.Sprint("spare", i)), state: sandpool.Starting, revision: 1, session: true, busy: true, since: epoch})
	}
	if got := plan(snapshot{starts: 2, pools: []poolView{p}}, epoch); len(got) != 0 {
		t.Errorf("plan = %+v, want nothing to do", got)
	}
	p.claims = 0
	if got := plan(snapshot{pools: []poolView{p}}, epoch); len(got) != ready-1 || got[0].reason != reasonSurplus {
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
		"in a burst":                     {ready: 2, burst: calm / 2, claimed: calm / 2, want: 0},
		"in a long burst":                {ready: 2, burst: patience, claimed: calm / 2, leases: 1, want: 3},
		"after a burst":                  {ready: 2, burst: 2 * calm, claimed: calm, leases: 1, want: 3},
		"nothing ready, in a request":    {ready: 0, burst: calm / 2, claimed: calm / 2, leases: 1, want: 0},
		"nothing ready, in a long one":   {ready: 0, burst: 2 * calm, claimed: calm, leases: 1, want: 5},
		"nothing ready, in a long burst": {ready: 0, burst: patience, claimed: calm / 2, leases: 1, want: 5},
		"nothing ready, all answered":    {ready: 0, burst: calm / 2, claimed: calm / 2, want: 5},
	} {
		t.Run(name, func(t *testing.T) {
			p := poolView{key: "p", prepared: true, burstAt: now.Add(-c.burst), claimedAt: now.Add(-c.claimed),
				pool: sandpool.Pool{State: sandpool.Succeeded, MaxSessions: 100, ReadySessions: 5}}
			for i := range c.ready {
				p.boxes = append(p.boxes, boxView{id: sandpool.SandboxID(rune('a' + i)), state: sandpool.Ready})
			}
			p.boxes = append(p.boxes, boxView{id: "claimed", state: sandpool.Claimed, session: true,
				since: now.Add(-c.claimed), used: now, leases: c.leases})
			got := 0
			for _, a := range plan(snapshot{pools: []poolView{p}, starts: 10}, now) {
				if a.act == actRefill {
					got++
				}
			}
			if got != c.want {
				t.Errorf("%d refills, want %d", got, c.want)
			}
		})
	}
}
