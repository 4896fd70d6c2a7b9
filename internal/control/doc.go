// Package control serves the control plane: pools as the Azure resource type
// Microsoft.App/sessionPools, and the few calls that operators need beyond it (tokens and the
// status of a pool).
//
// A pool's request is checked whole: every problem is reported at once, each with the name of the
// field. What this server does not build is refused, never accepted and ignored. A pool that is
// accepted goes to the Pools of package pool.
//
// Operations that take time answer at once and name an operation to poll. An operation has no
// record of its own: its id says which pool it is about, and its state is read off the pool. So it
// survives a restart, and there is nothing to expire.
package control
