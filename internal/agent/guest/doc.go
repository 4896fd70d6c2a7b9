// Package guest is the server side of package agent: the program that runs as
// the first process of an interpreter sandbox, as root, and drives the kernel,
// which runs hostile code as another user.
//
// # Processes
//
//	agent (root) ── nursery (root, acts as the user; runs no cells)
//	                  └── kernel (user) ── whatever cells start (user)
//
// The nursery is an interpreter that has imported everything; a kernel is a
// fork of it, so replacing a killed kernel takes milliseconds. Agent and kernel
// talk over a socket pair; a kernel's standard output and error are pipes that
// the agent empties all the time, so that nothing in the sandbox ever waits for a reader.
//
// # Who may do what
//
// The user can signal and trace neither agent nor nursery, whose real and saved
// user ids are root's. The secret is in the agent's memory alone. The files
// API acts with the user's effective id on a thread of its own, beneath one
// directory.
//
// # Locks
//
// Driver.slot serialises executions and everything that replaces a kernel;
// Driver.mu guards who is running, for Interrupt. A sink's lock is taken with
// neither or under slot, never the other way round.
package guest
