package sandbox

// ExitReason says why a sandbox ended.
type ExitReason string

// The reasons of an exit.
const (
	// Exited: the first process ended by itself; Exit.Code is its code, 128+signal if a signal
	// inside the sandbox ended it.
	Exited ExitReason = "exited"
	// OutOfMemory: the sandbox went over Limits.Memory and was killed.
	OutOfMemory ExitReason = "out of memory"
	// HostOutOfMemory: the host, or a group of sandboxes that has a limit together, had no
	// memory left, and this one was killed for it. It had not reached its own limit.
	HostOutOfMemory ExitReason = "host out of memory"
	// Crashed: what isolates the sandbox failed, through a fault of its own. The engine has
	// written to its log how.
	Crashed ExitReason = "crashed"
	// Killed: something outside ended it: a signal, or the host.
	Killed ExitReason = "killed"
	// Evicted: the node that it ran on, or its operator, wanted the room: the node was short of
	// memory or disk, the sandbox wrote more than Limits.Disk, or the node was drained.
	Evicted ExitReason = "evicted"
	// Preempted: a cluster gave its place to something of a higher priority.
	Preempted ExitReason = "preempted"
	// NodeLost: the node that it ran on does not answer, or is gone.
	NodeLost ExitReason = "node lost"
	// Stopped: Stop was called.
	Stopped ExitReason = "stopped"
)

// Exit says how a sandbox ended.
type Exit struct {
	Reason ExitReason
	Code   int // of Exited; otherwise 128 and a signal's number, or 0 where there was none
}
