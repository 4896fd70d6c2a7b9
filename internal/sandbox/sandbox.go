// Package sandbox is the contract between the pool and the engines that run sandboxes. The pool
// decides who gets which sandbox and when one starts or stops; an engine makes that true on a
// machine or a cluster. Neither knows the other's insides.
//
// # What every engine promises
//
// Isolation. Code inside a sandbox is hostile. It reaches no other sandbox, not the host, and no
// network unless the template says so. A security part that the engine cannot set up is an error of
// Prepare or Start, never a weaker sandbox.
//
// Ownership. A sandbox is known by the ID that the caller chose. An engine never invents, reuses or
// renames one, and everything that it takes from the host for a sandbox (processes, cgroups,
// namespaces, mounts, files) can be found from the ID alone, so that a sandbox whose Start was cut
// short by kill -9 is still found by List and given back by Stop.
//
// Clones. Starting may be restoring a snapshot, so two sandboxes of one template may share
// everything that was random when the snapshot was taken. Whoever starts sandboxes gives each its
// own seed before use (see package agent).
//
// Independence. Sandboxes outlive the process that started them. After a restart the new process
// learns of them by List and uses them by the Handle that Start returned, which the caller stores.
//
// # Concurrency
//
// All methods may be called at the same time from many goroutines. Calls for one ID are serialised
// by the engine: a Stop during a Start waits for it or cuts it short, and after the Stop has
// returned nothing of the sandbox exists. A method whose context ends returns promptly with the
// context's error; what it had built by then is undone before it returns (Start, Prepare) or can be
// undone by Stop.
//
// The conformance suite of this contract is package sandboxtest.
package sandbox

import (
	"context"
	"net"
	"time"

	"github.com/sandpool/sandpool"
)

// ID names one sandbox; see sandpool.SandboxID.
type ID = sandpool.SandboxID

// Prepared is what Prepare returns and Start takes. Key names it in logs; the rest
// belongs to the engine. It is meaningful only to the engine value that made it.
type Prepared struct {
	Key      string
	Template Template
	// Engine is the engine's own data.
	Engine any
}

// Handle is what an engine needs to find a sandbox again, as stored bytes with a
// version inside. The caller keeps it and does not look inside.
type Handle struct {
	ID   ID
	Data []byte
	// Steps are what the Start took that returned the handle, in order; others have none.
	Steps []sandpool.Step
}

// Stopwatch takes the time of steps.
type Stopwatch struct {
	last  time.Time
	steps []sandpool.Step
}

// NewStopwatch returns a Stopwatch that runs.
func NewStopwatch() *Stopwatch { return &Stopwatch{last: time.Now()} }

// Lap ends a step, and begins the next.
func (w *Stopwatch) Lap(step string) {
	now := time.Now()
	w.steps = append(w.steps, sandpool.Step{Name: step, Took: now.Sub(w.last)})
	w.last = now
}

// Insert takes steps that somebody else has timed for the time since the last one, and begins the
// next.
func (w *Stopwatch) Insert(steps []sandpool.Step) {
	w.steps = append(w.steps, steps...)
	w.last = time.Now()
}

// Steps are those that have ended.
func (w *Stopwatch) Steps() []sandpool.Step { return w.steps }

// Progress is a step of a long Prepare, for people.
type Progress struct {
	Step    string // "boot", "snapshot" or "done"
	Elapsed time.Duration
}

// Found is a sandbox that List met.
type Found struct {
	ID ID
	// Running is false for remains: a half-started or dead sandbox of which
	// something is left. Stop gives it back.
	Running bool
}

// Runtime is an engine.
type Runtime interface {
	// Prepare makes Start of t fast: it gets the root, checks that the layers exist and, for
	// StartMode Restore, boots a sandbox, waits for its check and takes a
	// snapshot. It is idempotent: a second call for an equal template returns at once,
	// also after a restart of the process; two at the same time do the work
	// once. Nothing half-made is ever used: a Prepare cut short by kill -9
	// starts again. progress may be nil.
	Prepare(ctx context.Context, t Template, progress func(Progress)) (Prepared, error)

	// Start makes a sandbox and returns when its readiness check has passed.
	// An ID that exists already is an error of class Conflict. If Start
	// returns an error nothing of the sandbox is left.
	Start(ctx context.Context, id ID, p Prepared) (Handle, error)

	// Dial opens a byte stream to a TCP port on the sandbox's loopback
	// interface. The stream supports deadlines and is closed when the sandbox ends.
	// A refused port is an error at Dial or an end of file at the first read.
	// After the sandbox ended, Dial fails with an error of class Ended.
	//
	// Channel is another kind of stream: what is written before the first process reads is
	// kept for it, and when the stream is closed its input is at an end. It is there once, and
	// only for the process that started the sandbox; any other Dial of it, while the sandbox
	// runs, is an error of class Conflict, after which a port is to be used.
	Dial(ctx context.Context, h Handle, port int) (net.Conn, error)

	// Stop ends a sandbox, running or not, and gives back everything it held.
	// It is idempotent; stopping an unknown ID is not an error. Only the ID of h need be set;
	// with the rest of h the first process of a template with a Grace first gets its stop
	// signal, and that time to end by itself.
	// When it returns an error, some of it may be left and the call is to be repeated.
	Stop(ctx context.Context, h Handle) error

	// List returns every sandbox of which anything exists under this engine's
	// state, whoever started it. Sandboxes that Prepare uses inside itself are not listed
	// while a live process prepares; remains of a dead one are.
	List(ctx context.Context) ([]Found, error)

	// Wait blocks until the sandbox has ended and says why. It works after a
	// restart and may be called many times; after Stop it reports Stopped. For an unknown
	// sandbox it reports Killed.
	Wait(ctx context.Context, h Handle) (Exit, error)
}

// Requirement is something an engine needs of its host.
type Requirement struct {
	Name   string // "cgroup memory controller"
	OK     bool
	Detail string // what was found
	Fix    string // how to get it, if OK is false; advice, if it is true
}
