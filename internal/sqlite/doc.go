// Package sqlite keeps pools, sandboxes and tokens in one SQLite file. It is the allocator of a
// single machine: Claim is one transaction, and a unique index makes a second sandbox for one
// identifier impossible even for a second server on the file.
//
// # What survives what
//
// The journal is a write-ahead log. Every commit has been handed to the kernel when a method
// returns, so kill -9 at any moment loses nothing. Rows of pools and tokens are also synced to the
// disk before the method returns: a revoked token stays revoked after a power cut. Rows of
// sandboxes are not: a power cut ends all sandboxes of the machine, so that a claim lost with it
// has nothing left to protect, and a sync for each would make a claim ten times as slow. A power
// cut never damages the file.
//
// # Connections
//
// One connection writes; whoever wants to write waits for it. Others read, each from a snapshot,
// and never wait for the writer. Once a write has begun it is not cut short by its context: it
// takes microseconds, and a commit whose outcome nobody knows would be worse.
package sqlite
