// Package guest is the server side of package agent: the program that runs as
// the first process of an interpreter sandbox, as root, and drives the kernel,
// which runs hostile code as another user.
//
// # Processes
//
//	agent (root)
//	  ├── kernel (user) ── whatever cells start (user)
//	  ├── shell of each terminal (user) ── its session (user)
//	  └── background processes (user) ── the session of each (user)
//
// The kernel is an interpreter that imports and warms up what cells use before the
// snapshot is taken. It is the only one: one more, to fork replacements from, would
// cost every sandbox its memory again. So a kernel that had to be killed is
// replaced by one that starts from nothing, while the answer is on its way: half a
// second, and one more for the cell that first imports pandas. Agent and kernel
// talk over a socket pair; a kernel's standard output and error are pipes that
// the agent empties all the time, so that nothing in the sandbox ever waits for a reader.
//
// A terminal's shell and session end with its connection. They end with a kernel that has to
// be killed too, because only a signal to all processes at once reaches a fork bomb; not so while
// there are other contexts or background processes.
//
// # Who may do what
//
// The user can neither signal nor trace the agent, which is another user's. The
// secret is in the agent's memory alone. The files API acts with the user's
// effective id on a thread of its own, beneath one directory.
//
// # Locks
//
// Driver.slot serialises executions and everything that replaces a kernel;
// Driver.mu guards who is running, for Interrupt. A sink's lock is taken with
// neither or under slot, never the other way round.
package guest
