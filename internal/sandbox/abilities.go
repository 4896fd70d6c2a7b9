package sandbox

import (
	"context"
	"time"
)

// Stats is what one sandbox uses.
type Stats struct {
	Memory  int64         // bytes charged to the sandbox on the host
	CPUTime time.Duration // since it started
}

// StatsReader is the optional ability to measure a sandbox.
type StatsReader interface {
	Stats(ctx context.Context, h Handle) (Stats, error)
}

// WorkingSetRecorder is the optional ability to learn from one sandbox what those
// after it need first of a snapshot, so that they need not wait for it, nor hold the rest.
type WorkingSetRecorder interface {
	// RecordWorkingSet notes what h has used of the snapshot of p since its Start,
	// unless that is known. It holds for all later sandboxes of p: call it before code of a
	// user runs in h.
	RecordWorkingSet(ctx context.Context, p Prepared, h Handle) error
}

// Pruner is the optional ability to give back what Prepare keeps on disk.
type Pruner interface {
	// Prune removes what Prepare made for every key that keep does not hold. A
	// Start of a pruned key needs another Prepare.
	Prune(ctx context.Context, keep []string) error
}

// Executor is the optional ability to run further programs in a sandbox.
type Executor interface {
	// Exec runs a program as the user of the sandbox's first process, and returns when it has
	// ended. A program that cannot be started is an error of class Invalid.
	Exec(ctx context.Context, h Handle, p Program) (ProgramResult, error)
}

// Program is a command line to run in a sandbox.
type Program struct {
	Args []string
	Env  []string // KEY=value
	Dir  string   // empty means "/"
}

// ProgramResult says how a program ended. Output is the last of what it wrote to its standard
// output and error, a few KiB.
type ProgramResult struct {
	Code   int // 128+signal if a signal ended it
	Output string
}
