// Package event is what happens to pools, sandboxes, sessions and executions, told to whoever wants
// to know.
//
// The parts that do things (pool, gateway, control) have an Observer and tell it of each Event, by
// a stable Name. They know nothing of who listens. The server gives all of them one Bus, which does
// two things with an event:
//
//   - it keeps the newest events of each pool, and of the server, in memory, for the API to
//     show and to follow (Recent, Follow);
//   - it passes events on to its sinks (the log; metrics, usage, audit), in order, from one
//     goroutine (Run).
//
// # What an observer may cost
//
// Observe is called with locks held and on the way of a claim. So it never blocks, does no I/O and
// calls nobody back: it copies the event into a ring under a mutex, which takes less than a
// microsecond. A sink that is slow (a log on a pipe that nobody reads) falls behind, and what was
// overwritten meanwhile is counted and said, but nobody waits for it.
//
// # Bounds
//
// An event's texts are clipped, a pool keeps perPool events and the server inAll; beyond inPools
// events of all pools together the pool that was quiet longest loses its own. A noisy pool
// therefore pushes out its own events, and at worst those of pools long asleep.
//
// # Sequence numbers
//
// Each event has a number greater than those before it, also across restarts of the server: a Bus
// counts from the microseconds since 1970 at its start. A reader that asks for what came after the
// last number it saw misses nothing that is still kept.
//
// # Secrets
//
// An event holds no identifier, token, code or value of a caller's, and its sandbox id says which
// session it is about. Err is for the operator of the machine: it names files and engines, and the
// API shows it to nobody else.
package event
