// Package postgres keeps pools, sandboxes and tokens in a PostgreSQL database (14 or newer), which
// several servers may share. It keeps the same contract as package sqlite: package store.
//
// # One transaction, one round trip
//
// What happens often is one call of an SQL function, so that a claim costs one round trip and one
// flush of the database's log. The functions stand in the migrations, beside the tables. Claims
// that arrive while another is under way are sent together, in one transaction.
//
// # Fences
//
// In PostgreSQL's READ COMMITTED a comparison with the pool's epoch would only be true of the past:
// another server may take the pool between the comparison and the commit. So every write of an
// owner locks the pool's row first: a claim against everybody, because it counts the sessions (FOR
// NO KEY UPDATE), others against a change of owner alone (FOR SHARE). Locks are taken in one order:
// rows of pools, by key, then rows of sandboxes, then that of the pool in held_sessions, which a
// trigger writes when a session begins or ends. Claims that are sent together go pool by pool.
//
// # What survives what
//
// A method that has returned has committed, with the database's synchronous_commit. The sandboxes
// live on when the database's machine loses power, so their rows may not be lost, as they may in
// package sqlite.
//
// A connection may break, a database may be restarted, fail over or end a transaction that it
// cannot order (serialization failure, deadlock). Then the write is tried again for some seconds.
// If nobody knows whether the first try was committed, the next is told so and accepts what the
// first has done as its own: a claim tried again answers what the first try would have answered.
// What still fails is an error of class Unavailable.
//
// # Files
//
//	open.go      connections, schema          claim.go      claims, in bursts
//	retry.go     tries and their errors       sandboxes.go  other rows of sandboxes
//	pools.go     pools and secrets            tokens.go     tokens
//	owners.go    who owns a pool              servers.go    who shares the database
//	migrations/  tables and functions
package postgres
