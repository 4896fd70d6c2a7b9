// Package plan decides what a pool needs: which template to prepare, which sandboxes to start, to
// ask whether they live, to end, and to give back. It is given what there is and what the time is,
// and changes nothing, so that every decision can be tested without an engine, a store or a clock.
//
// # One pass
//
// Next looks at each pool by itself first, then at all of them, since starts, stops and the
// machine's room are shared:
//
//	keep     delete the pool's row when nothing of it is left; prepare its template; forgive
//	retire   sandboxes that are over: their session's time has passed, their pool is deleted or
//	         was changed, more are ready than are wanted, a caller in line gets their place
//	giveUp   more ready sandboxes, while those that run have grown beyond the machine's room
//	stop     retired sandboxes, longest retired first, MaxStops at a time or more
//	check    sandboxes whose liveness is due, MaxChecks at a time
//	refill   ready sandboxes that are missing, a pool after the other, as starts and room allow
//
// An act that comes too early (RetryAt, RefillAt, PrepareAt, CheckAt) is left out. The caller asks
// again on every beat, and whenever something has changed. To ask too late or too often does no
// harm: the same snapshot gives the same acts, and whoever carries one out marks its sandbox as
// busy before the next pass.
//
// # How many are ready
//
// A pool wants ReadySessions, and never more than its maximum leaves to be claimed. Four things
// make it start fewer at the moment:
//
//   - A start has failed: one at a time, not before RefillAt, until a ready sandbox has lived for
//     10 s.
//   - Claims come in a burst and still find sandboxes ready: a start keeps a core busy for longer
//     than hundreds of claims take, so starts wait for a pause of Calm, a second at most, or ten
//     while half of those that are wanted are ready.
//   - The pool rolls: a sandbox of an earlier revision is still ready for each one that is missing,
//     and counts towards the maximum.
//   - The machine lacks room. The pool's status then says which resource (Short).
//
// # An example
//
// A pool of at most 3 sessions wants 2 ready. It has one session (a) and two ready (b, c). A claim
// takes b: 2 sessions, so only 1 more fits, and c is it; nothing is started. Session a expires:
// Next retires it, then stops it. A session that is being stopped holds no place any more, so one
// refill is due; if a second claim comes within Calm of the first, and finds c, the refill waits.
package plan
