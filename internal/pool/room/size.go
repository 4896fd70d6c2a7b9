package room

import "slices"

// Size is what the sandboxes of a pool take.
type Size struct {
	Ready Amount // one that nobody has used
	Used  Amount // the session beyond which one in ten is
}

// guess is a size of which nothing was measured. They are those of Python with its usual
// libraries, rounded up: 44 and 115 MB, 45 threads.
func guess() Size {
	return Size{Ready: Amount{Memory: 64 << 20, Threads: 48},
		Used: Amount{Memory: 128 << 20, Threads: 64}}
}

// usedByReady is how much more a session takes than a ready sandbox, where no session was
// measured yet.
const usedByReady = 2

// forget is how slowly a size follows sessions that take less than those before: by one part in
// forget with each measurement, which halves the difference in some three minutes. It follows
// those that take more at once.
const forget = 256

// Learn returns the size after a measurement of ready sandboxes and of sessions, of which there
// may be none. The zero Size is one of which nothing is known yet.
func (s Size) Learn(ready, used []Amount) Size {
	if len(ready) > 0 {
		sum := Amount{}
		for _, a := range ready {
			sum = sum.Plus(a)
		}
		s.Ready = sum.Over(int64(len(ready)))
	}
	if len(used) > 0 {
		most := ninetieth(used)
		lost := s.Used.Minus(most).Max(Amount{})
		s.Used = most.Max(s.Used.Minus(lost.Plus(Amount{forget - 1, forget - 1,
			forget - 1}).Over(forget)))
	}
	return s
}

// ninetieth returns the 90th percentile of each resource.
func ninetieth(all []Amount) Amount {
	at := func(of func(Amount) int64) int64 {
		values := make([]int64, len(all))
		for i, a := range all {
			values[i] = of(a)
		}
		slices.Sort(values)
		return values[(len(values)-1)*9/10]
	}
	return Amount{
		Memory:  at(func(a Amount) int64 { return a.Memory }),
		Disk:    at(func(a Amount) int64 { return a.Disk }),
		Threads: at(func(a Amount) int64 { return a.Threads }),
	}
}

// Within returns s with guesses for what it does not know, and nothing beyond the limits of one
// sandbox; a limit of zero is not known.
func (s Size) Within(limit Amount) Size {
	if s.Ready == (Amount{}) {
		s.Ready = guess().Ready
	}
	if s.Used == (Amount{}) {
		s.Used = guess().Used.Max(Amount{Memory: usedByReady * s.Ready.Memory, Disk: s.Ready.Disk,
			Threads: s.Ready.Threads})
	}
	s.Used = s.Used.Max(s.Ready)
	known := func(limit, endless int64) int64 {
		if limit <= 0 {
			return endless
		}
		return limit
	}
	end := Endless()
	bound := Amount{known(limit.Memory, end.Memory), known(limit.Disk, end.Disk),
		known(limit.Threads, end.Threads)}
	s.Ready, s.Used = s.Ready.Min(bound), s.Used.Min(bound)
	return s
}

// growthShare is the part of what its limits leave to a session that is kept for it: of memory
// and disk, of which a few sessions may suddenly want all that they may have. What all of them
// together may want beyond it is the reserve's to bear.
const growthShare = 32

// Promise is what is kept for a session that takes used, of a pool of size s: what it may still
// grow to.
func (s Size) Promise(used, limit Amount) Amount {
	s = s.Within(limit)
	target := s.Used.Max(used)
	growth := limit.Minus(target).Max(Amount{}).Over(growthShare)
	growth.Threads = 0 // threads come with a sandbox, and few later
	return target.Minus(used).Plus(growth)
}
