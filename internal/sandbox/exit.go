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
	// Killed: something outside ended it: a signal, or the host.
	Killed ExitReason = "killed"
	// Stopped: Stop was called.
	Stopped ExitReason = "stopped"
)

// Exit says how a sandbox ended.
type Exit struct {
	Reason ExitReason
	Code   int // of Exited; 128+signal of Killed
}
