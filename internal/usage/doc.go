// Package usage counts what sessions use, and answers who used what.
//
// # A record
//
// Each session has one record, whose key is its sandbox: that serves no other session. All numbers
// in it are totals, and whoever writes it writes all of them. So a record that is written twice
// counts once, whatever was lost between.
//
//	SessionAllocated        twice a second       SessionEnded      before the sandbox's row goes
//	   Began ──────────────▶ Save ──▶ Save ──────▶ Ended ─────────▶ Settle
//	                           │                                       │
//	                           └────────────▶ store.Usages ◀───────────┘
//
// Nothing is written on the way of a claim or of an execution: the pool and the observer of
// executions change numbers in memory. Save writes them beside the work, those of sessions that
// began or ran code at once, the others every checkpoint. Settle is part of giving a
// sandbox back: its row in the store goes when the session's record is final, not before. A server
// that dies between them finds the row, and settles.
//
// # Time
//
// How long a session lasted is measured by the monotonic clock, so a clock that is set changes
// nothing. That clock ends with the server's life, so each life counts up a mark in the store,
// twice a second while there are sessions. A record says how far the life had come when it was
// written, and the mark how far it came in the end: the difference is what a server that died did
// not write.
//
//	record: lasted 40 s, written at 100 s of life L      mark of L: 103 s      ⇒ lasted 43 s
//
// A session that goes on under a new life also gets the time between the two, by the machine's
// clock. One whose sandbox is gone ended with the mark.
//
// # Several servers
//
// The owner of a pool records its sessions and names its epoch, which grows with each owner. What
// an earlier owner writes later changes nothing. Who takes a pool reads the records of its sessions
// and goes on with them.
package usage
