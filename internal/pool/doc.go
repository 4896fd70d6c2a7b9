// Package pool gives identifiers their sandboxes and keeps enough of them ready. It knows the store
// and the engine by their contracts, and what runs inside a sandbox by a Guest.
//
// # What is where
//
// A sandbox exists in three places: as a row in the store, as processes that the engine runs, and
// as a sandboxState in memory, which is the row together with what only this process needs (leases,
// timers, failures). The row is the truth about who holds the sandbox. The engine is the truth
// about whether it runs. Memory mirrors both and may be ahead of the store in one case: a sandbox
// that ended is Stopping in memory before its row is, so that no further request reaches it.
//
// # What is written before what
//
// The row is there before the engine is asked to start a sandbox, and goes after the engine has
// said that nothing of it is left. A claim is a transaction of the store before the first byte of a
// request reaches the sandbox. So after kill -9 at any moment each sandbox is one of these: it has
// a row and runs, and is adopted; it has a row and does not run, or not to the end of its start,
// and is stopped; it has no row, and is stopped.
//
// # The states of a sandbox
//
//	            claim (nothing ready)
//	          ┌───────────────┐
//	          │               ▼
//	(new) ─▶ starting ─▶ ready ─▶ claimed ─▶ stopping ─▶ (gone)
//	             │         │                    ▲
//	             └─────────┴────────────────────┘
//
// Whoever ends a sandbox calls retire and nothing else: its state is Stopping, leases' contexts end
// with the cause, and the next plan stops it. Attempts to stop are repeated until one succeeds.
//
// # Decisions and their execution
//
// Run is one loop. It takes a snapshot of memory, asks plan.Next what to do, begins it, and writes
// down which pools have changed. Nothing in the loop waits: what takes time (a preparation, a
// start, a stop, a question whether a sandbox lives) is a goroutine that Run waits for in the end,
// takes mu for its result, and kicks the loop. Claims do not go through the loop. The first request
// of an identifier starts a claim, which all its requests wait for and which none of them can
// cancel.
//
// # Locks
//
// Manager.mu guards everything in memory. No call of the store or the engine is made while it is
// held. Manager.rows is taken before it, by whoever writes a pool's row, so that the store sees the
// rows of pools in the order in which memory does.
//
// # Owners
//
// A Manager touches the pools that it owns and no others; packages store and lease say what that
// is. Twice a second it shows that it lives and looks who owns what (survey). What lease.Next then
// says is carried out in a goroutine: pools of servers that died are adopted as after a restart,
// and pools are passed on to servers with fewer (passOn).
//
// Every write names the epoch of the ownership. If one is refused, the Manager forgets the pool and
// leaves its sandboxes to the new owner (disown). It serves no session from memory when it could
// not show in time that it lives. A Manager without a name is alone with its store, owns all pools,
// and does nothing of this.
//
// # Where to look
//
//	manager.go   the Manager and its settings          run.go     the loop
//	pools.go     pools: made, shown, deleted           prepare.go what sandboxes start from
//	claim.go     from an identifier to a lease         session.go sessions as callers see them
//	start.go     starts, and how many at a time        stop.go    stops, and the watch for ends
//	guest.go     what runs inside: its liveness, its   adopt.go   what an earlier run left, and
//	             end, the first start                             what nobody knows
//	owner.go     who owns a pool                       state.go   memory's part of a sandbox
//	plan/        every decision, as pure functions     room.go    what the machine can bear
//	logs.go      what sandboxes wrote                  room/      that, as pure functions
//	lease/       who should own what                   meter/     what sessions use
//	refusal/     what they were refused on the network
//	share/       who comes first where processors are busy
package pool
