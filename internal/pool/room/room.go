// Package room says what the machine can bear: whether one more sandbox may be started, and one
// more session begun, so that those that are there go on as before.
//
// # What is counted
//
// Three things run out together with sandboxes: memory, the disk that holds what they write, and
// threads. What is left of each is measured every second, and so is what sandboxes take. From
// what is left go
//
//   - a reserve, for the server and for those that run;
//   - what sandboxes that are being started will take;
//   - what each session may still grow to: what sessions of its pool take at their ninetieth
//     percentile, and a little of what its limits leave beyond that (growthShare). Limits alone
//     would be a promise that nobody calls in: a session of 1 GiB takes a tenth of that.
//
// The rest is what new sessions may have. Between two measurements it is a ledger: whoever begins
// a session takes what the session is expected to need, and who ends one gives it back.
//
// # Who gives way
//
// A session takes from ready sandboxes, of whatever pool, before it is refused. A refill takes
// only what leaves room for a few sessions and some of the reserve besides, so that one does not
// start what the next claim gives up. Nothing of this touches a session that is there.
//
// The package decides and counts; it measures nothing, and its caller guards it.
package room

import "math"

// Resource is something that runs out.
type Resource string

// The resources.
const (
	Memory  Resource = "memory"
	Disk    Resource = "disk"
	Threads Resource = "threads"
)

// Amount is how much there is of each resource, in bytes, bytes and threads of the host.
type Amount struct{ Memory, Disk, Threads int64 }

// Plus returns a and b together.
func (a Amount) Plus(b Amount) Amount {
	return Amount{a.Memory + b.Memory, a.Disk + b.Disk, a.Threads + b.Threads}
}

// Minus returns what a is without b.
func (a Amount) Minus(b Amount) Amount {
	return Amount{a.Memory - b.Memory, a.Disk - b.Disk, a.Threads - b.Threads}
}

// Over returns a divided by n.
func (a Amount) Over(n int64) Amount { return Amount{a.Memory / n, a.Disk / n, a.Threads / n} }

// Max returns the greater of each resource.
func (a Amount) Max(b Amount) Amount {
	return Amount{max(a.Memory, b.Memory), max(a.Disk, b.Disk), max(a.Threads, b.Threads)}
}

// Min returns the lesser of each resource.
func (a Amount) Min(b Amount) Amount {
	return Amount{min(a.Memory, b.Memory), min(a.Disk, b.Disk), min(a.Threads, b.Threads)}
}

// Lacks returns the first resource of which there is less than nothing, or "".
func (a Amount) Lacks() Resource {
	switch {
	case a.Memory < 0:
		return Memory
	case a.Disk < 0:
		return Disk
	case a.Threads < 0:
		return Threads
	}
	return ""
}

// Has reports whether there is any of a resource.
func (a Amount) Has(r Resource) bool {
	switch r {
	case Memory:
		return a.Memory > 0
	case Disk:
		return a.Disk > 0
	case Threads:
		return a.Threads > 0
	}
	return false
}

// Endless is what a machine has that nobody measures.
func Endless() Amount { return Amount{math.MaxInt64 / 4, math.MaxInt64 / 4, math.MaxInt64 / 4} }

// Machine is a measurement.
type Machine struct {
	// Left is what anybody may still take.
	Left Amount
	// Pressure is the share of the time since the last measurement, from 0 to 1, in which
	// something had to wait for memory.
	Pressure float64
}

// Within returns what is left where the sandboxes together are bounded as well: by limit, of which
// they may still take left. The server and the rest of the machine are not within that bound, so
// no more than a quarter of it counts as the reserve of those that run in it; one that is smaller
// than the machine's reserve would have room for nothing.
func (m Machine) Within(reserve, limit, left Amount) Machine {
	of := func(machine, reserve, limit, left int64) int64 {
		if left >= machine+reserve { // before it is added to
			return machine
		}
		return min(machine, left+reserve-min(reserve, limit/4))
	}
	m.Left.Memory = of(m.Left.Memory, reserve.Memory, limit.Memory, left.Memory)
	m.Left.Disk = of(m.Left.Disk, reserve.Disk, limit.Disk, left.Disk)
	m.Left.Threads = of(m.Left.Threads, reserve.Threads, limit.Threads, left.Threads)
	return m
}

// nearly is how many reserves of memory must be left for pressure not to count: it is then a
// sandbox at its own limit that waits, which is nobody else's affair.
const nearly = 3

// Strain is the pressure that says something about the machine.
func (m Machine) Strain(reserve Amount) float64 {
	if m.Left.Memory > nearly*reserve.Memory {
		return 0
	}
	return min(max(m.Pressure, 0), 1)
}

// Strained is the strain from which ready sandboxes are not refilled, and starts come slower.
const Strained = 0.1

// Starts is how many starts may run at the same time, of those that run on a machine without
// strain. It is never zero: a start that waits for ever helps nobody.
func Starts(limit int, strain float64) int {
	if strain < Strained {
		return limit
	}
	return max(1, int(float64(limit)*(1-strain)/2))
}
