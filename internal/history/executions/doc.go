// Package executions keeps what sessions ran, for pools that want it: the code, who sent it, how it
// ended, and how its output began. Those who may run code in a session may read it, also for a
// while after the session's end.
//
// # In memory alone
//
// Code and output are what users entrust to a session, which ends and takes them with it. On disk
// they would outlive it in blocks, snapshots and backups, whatever is deleted later, and every
// execution would write twice. So a Keeper has them in the memory of the pool's owner: they end
// with the server, and with the pool's passing on to another one.
//
// # What is in the way of whom
//
// A Keeper has so many bytes, a pool and a session have a part of them each, and a text begins
// with its first few thousand. What is beyond takes the place of what is oldest with whoever holds
// the most:
//
//	Keeper ─▶ pools ─▶ callers ─▶ sessions ─▶ executions, the oldest first
//	  all      part                 part
//
// The search for room goes down these levels and takes the largest holder at each. So a caller who
// floods a pool, with one identifier or with thousands, loses what is its own, and none of another
// caller's who holds less.
//
// # No history, no cost
//
// Whoever runs code has a lease on the session, which has a pointer to the pool's settings; it is
// nil where nothing is kept, and nothing here is called. The manager of pools tells the Keeper
// which pools keep history, under its own lock. What is told of another pool is not kept: so an
// execution that began before its pool was deleted or stopped keeping leaves nothing behind.
package executions
