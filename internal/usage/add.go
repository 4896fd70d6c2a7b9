package usage

import (
	"cmp"
	"math/bits"
	"slices"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// maxGroups bounds the rows of an answer.
const maxGroups = 10_000

// maxSteps bounds the steps of an answer: six weeks of hours.
const maxSteps = 1008

// period is a time that is asked for. Zero means no bound.
type period struct{ since, until time.Time }

// share is the part of a session that lies in a period: from when to when since it began. A session
// without length is at its beginning. ok says that there is one.
func (p period) share(u sandpool.Usage) (from, to time.Duration, ok bool) {
	to = u.Lasted
	if !p.since.IsZero() {
		from = min(max(0, p.since.Sub(u.Began)), u.Lasted)
	}
	if !p.until.IsZero() {
		to = min(max(0, p.until.Sub(u.Began)), u.Lasted)
	}
	if u.Lasted == 0 {
		return 0, 0, !u.Began.Before(p.since) && (p.until.IsZero() || u.Began.Before(p.until))
	}
	return from, to, from < to
}

// part is what of a total falls on the time from from to to of a session: as if it had been used
// evenly. Parts of neighbouring times add up to the part of both, without a remainder.
func part(total int64, from, to, lasted time.Duration) int64 {
	if lasted == 0 {
		return total
	}
	return upTo(total, to, lasted) - upTo(total, from, lasted)
}

func upTo(total int64, at, lasted time.Duration) int64 {
	if at >= lasted || total <= 0 {
		return total
	}
	// at < lasted, so the quotient is less than total, and the division cannot overflow.
	hi, lo := bits.Mul64(uint64(total), uint64(at))
	quotient, _ := bits.Div64(hi, lo, uint64(lasted))
	return int64(quotient)
}

// group is what sessions have in common.
type group struct {
	at                          time.Time
	pool, principal, identifier string
}

// sum is what the sessions of a group have used.
type sum struct {
	pool                                     string // as it is spelled
	sessions, memory, disk, sent, executions int64
	lasted, cpu                              time.Duration
}

// totals adds up.
type totals struct {
	period
	pool, principal, identifier bool
	step                        time.Duration // zero if there are no steps
	groups                      map[group]*sum
}

// add adds a record.
func (t *totals) add(u sandpool.Usage) error {
	from, to, ok := t.share(u)
	if !ok {
		return nil
	}
	if t.step == 0 {
		return t.addTo(time.Time{}, u, from, to)
	}
	// the first step that the share is in
	at := u.Began.Add(from).Truncate(t.step)
	for {
		one := period{since: maxTime(at, t.since), until: at.Add(t.step)}
		if !t.until.IsZero() && t.until.Before(one.until) {
			one.until = t.until
		}
		if from, to, ok := one.share(u); ok {
			if err := t.addTo(at, u, from, to); err != nil {
				return err
			}
		}
		if at = at.Add(t.step); !at.Before(u.Began.Add(to)) {
			return nil
		}
	}
}

func maxTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func (t *totals) addTo(at time.Time, u sandpool.Usage, from, to time.Duration) error {
	g := group{at: at}
	if t.pool {
		g.pool = u.Pool.Key()
	}
	if t.principal {
		g.principal = u.By
	}
	if t.identifier {
		g.identifier = u.Identifier
	}
	s := t.groups[g]
	if s == nil {
		if len(t.groups) >= maxGroups {
			return sandpool.Errorf(sandpool.Invalid, "TooManyTotals", api.ByParameter,
				"There are more than %d totals. Ask for a shorter time, a narrower scope, longer "+
					"steps, or by less.", maxGroups)
		}
		s = &sum{pool: u.Pool.String()}
		t.groups[g] = s
	}
	s.sessions++
	s.lasted += to - from
	s.cpu += time.Duration(part(int64(u.CPU), from, to, u.Lasted))
	s.memory += part(u.Memory, from, to, u.Lasted)
	s.disk += part(u.Disk, from, to, u.Lasted)
	s.sent += part(u.Sent, from, to, u.Lasted)
	s.executions += part(u.Executions, from, to, u.Lasted)
	return nil
}

// value returns the totals in order.
func (t *totals) value() []api.UsageTotal {
	out := []api.UsageTotal{}
	for g, s := range t.groups {
		one := api.UsageTotal{Principal: g.principal, IdentifierHash: g.identifier,
			Sessions: s.sessions, Used: api.Used{SessionSeconds: s.lasted.Seconds(),
				CPUSeconds: s.cpu.Seconds(), MemoryByteSeconds: s.memory, DiskByteSeconds: s.disk,
				EgressBytes: s.sent, Executions: s.executions}}
		if t.pool {
			one.Pool = s.pool
		}
		if t.step > 0 {
			one.Time = &g.at
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b api.UsageTotal) int {
		earlier := 0
		if a.Time != nil {
			earlier = a.Time.Compare(*b.Time)
		}
		return cmp.Or(earlier, cmp.Compare(a.Pool, b.Pool), cmp.Compare(a.Principal, b.Principal),
			cmp.Compare(a.IdentifierHash, b.IdentifierHash))
	})
	return out
}

// recordOf is a record as callers read it.
func recordOf(u sandpool.Usage) api.UsageRecord {
	return api.UsageRecord{Number: u.Number, Pool: u.Pool.String(), Sandbox: string(u.Sandbox),
		IdentifierHash: u.Identifier, Principal: u.By, Began: u.Began, Until: u.Until(),
		Running: !u.Ended, Used: api.Used{SessionSeconds: u.Lasted.Seconds(),
			CPUSeconds: u.CPU.Seconds(), MemoryByteSeconds: u.Memory, DiskByteSeconds: u.Disk,
			EgressBytes: u.Sent, Executions: u.Executions}}
}
