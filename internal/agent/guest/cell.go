package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sandpool/sandpool"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/guest/output"
	"github.com/sandpool/sandpool/internal/agent/kernels"
	"github.com/sandpool/sandpool/internal/quiet"
)

const (
	// An interrupted cell has yieldTurns turns to end, each as long as yieldTurn at least: a second
	// in all. Where the machine is so busy that the kernel gets little of a second, this process,
	// which is in the same sandbox, wakes late as well, and the turns last longer. All of them
	// together last no longer than longestYield.
	yieldTurns   = 50
	yieldTurn    = 20 * time.Millisecond
	longestYield = 10 * time.Second
	// secondTry is the turn in which it is interrupted again, and so it is in each fifth after
	// that: code may have lost the first interrupt, or made something else of it.
	secondTry = yieldTurns / 2
	// lastRepeat is the longest time between two interrupts of a cell that nobody waits for.
	lastRepeat = time.Second
	// firstRepeat is when a cell that nobody waits for is interrupted again, the next time
	// after twice as long, up to lastRepeat. The first interrupt may have come too
	// early, or the cell made something else of it.
	firstRepeat = 100 * time.Millisecond
	// exitNotice is how long news of a kernel's own end may take to arrive.
	exitNotice = 300 * time.Millisecond
	// shortCell is how long the agent waits for a cell and for nothing else. Most are over
	// by then, and the runtime's way to wait takes three system calls more. Whoever else
	// wants something of the agent waits as long.
	shortCell = 2 * time.Millisecond
)

// kernelFrame is what a kernel says. A hostile cell can say anything: what has not
// the present execution's id is left alone.
type kernelFrame struct {
	Op      string                `json:"op"`
	ID      string                `json:"id"`
	Data    map[string]string     `json:"data"`    // display
	Display string                `json:"display"` // display: its id, if it has one
	Update  bool                  `json:"update"`  // display: replaces the one with its id
	Wait    bool                  `json:"wait"`    // clear: only when there is new output
	Value   map[string]string     `json:"value"`   // done
	Error   *agent.ExecutionError `json:"error"`   // done
	Exit    *int                  `json:"exit"`    // done: a command's status
	NS      int64                 `json:"ns"`      // done
	Info    agent.KernelInfo      `json:"info"`    // done, of warm
}

// cell is one execution on its way.
type cell struct {
	ctx     context.Context // of who waits for it
	d       *Driver
	k       *kernel
	id      string
	feed    *output.Feed // nil without streaming
	start   time.Time
	res     agent.ExecuteResult
	clear   output.Clearing
	cleared int64 // how often the output was cleared, when a display was last kept
	bytes   int   // of displays kept
	expired bool  // the time was over
	yield   yield // since then
	lost    bool  // the kernel is of no more use
	silent  bool  // it has printed nothing; if false, a look will tell
	evicted atomic.Bool
}

// Execute runs a cell; feed may be nil. If ctx ends while the cell waits for its turn, it
// does not start; later it is interrupted until it yields, or its time is over.
func (d *Driver) Execute(ctx context.Context, req agent.ExecuteRequest,
	feed *output.Feed) (agent.ExecuteResult, error) {
	if err := d.take(ctx, req.Timeout); err != nil {
		return agent.ExecuteResult{}, err
	}
	if d.over.Load() {
		d.release()
		return agent.ExecuteResult{}, errOver()
	}
	if !d.kernel.alive() {
		if err := d.revive(); err != nil {
			d.release()
			return agent.ExecuteResult{}, &sandpool.Error{Class: sandpool.Unavailable,
				Code:       "KernelUnavailable",
				Message:    "The kernel could not be restarted. Try again, or delete the session.",
				RetryAfter: time.Second, Err: err}
		}
		if err := d.check(ctx); err != nil {
			return agent.ExecuteResult{}, err
		}
	}
	d.cells++
	c := &cell{ctx: ctx, d: d, k: d.kernel, id: strconv.FormatUint(d.cells, 10), feed: feed,
		start: time.Now()}
	c.res.KernelRestarted, c.res.Notice = d.lost != "", d.lost
	d.lost = ""
	c.run(req)
	if c.lost {
		c.res.KernelRestarted = true
		if ctx.Err() != nil { // nobody hears it of this cell
			d.lost = c.whyLost()
		}
		d.kernel = nil
		go d.renew()
	} else {
		d.release()
	}
	return c.res, nil
}

// revive replaces a kernel that ended since the last cell, or could not be replaced then.
func (d *Driver) revive() error {
	if d.kernel != nil {
		d.lost = lostBetween
		if err := d.kernel.destroy(); err != nil {
			return err
		}
		d.kernel = nil
	}
	return d.replace()
}

func (c *cell) run(req agent.ExecuteRequest) {
	limit := req.MaxOutput
	c.feed.Begin()
	c.k.Out.Begin(limit, c.feed.Stdout(), &c.clear)
	c.k.Err.Begin(limit, c.feed.Stderr(), &c.clear)
	c.d.setRunning(c.k)
	if c.d.over.Load() { // since Execute looked: end could not see what runs
		c.k.kill()
	}
	err := c.converse(req)
	wanted := c.d.setRunning(nil)
	left := []bool{false, false}
	if err != nil {
		c.broken(err)
		c.finish()
		defer c.k.close()
	} else if !c.silent {
		left = quiet.Poll(0, c.k.Out.FD(), c.k.Err.FD())
	}
	c.res.Stdout, c.res.StdoutTruncated = c.k.Out.End(!left[0])
	c.res.Stderr, c.res.StderrTruncated = c.k.Err.End(!left[1])
	c.feed.End()
	c.forget(false)
	switch {
	case err != nil: // broken has said how
	case c.expired:
		c.res.Outcome = agent.TimeoutInterrupted
	case c.res.Error == nil && (c.res.ExitStatus == nil || *c.res.ExitStatus == 0):
		c.res.Outcome = agent.OK
	case wanted && (c.res.Error == nil || interruption(c.res.Error.Name)):
		c.res.Outcome = agent.Interrupted
	default:
		c.res.Outcome = agent.Failed
	}
}

// interruption reports whether kernels call an interrupt so.
func interruption(name string) bool { return name == "KeyboardInterrupt" || name == "Interrupted" }

// setRunning says whose cell Interrupt reaches, and reports whether it was called since.
func (d *Driver) setRunning(k *kernel) (interrupted bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	interrupted, d.interrupted = d.interrupted, false
	d.running = k
	return interrupted
}

// converse sends the cell and takes what comes until it is done. An error means
// that the kernel is of no more use.
func (c *cell) converse(req agent.ExecuteRequest) error {
	if err := c.k.feed(req.Stdin); err != nil {
		return err
	}
	frame, err := c.k.encode(kernels.Request{Op: kernels.OpRun, ID: c.id, Code: req.Code,
		Live: c.feed != nil,
		Args: req.Args, Posix: req.Posix, Input: req.Stdin != "", Env: req.Env, Dir: req.Dir})
	if err != nil {
		return err
	}
	if err := c.k.control.SetDeadline(c.start.Add(req.Timeout)); err != nil {
		return err
	}
	if _, err := c.k.control.Write(frame); err != nil {
		return err
	}
	silent := c.await()
	// What came in time is most likely the end.
	attended := time.Since(c.start) >= shortCell
	if attended {
		defer c.attend()()
		defer c.watch()()
	}
	for {
		var f kernelFrame
		err := c.k.frames.Next(&f)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.expired = true
			interrupt, more := c.yield.next(time.Now())
			if !more {
				return err
			}
			if interrupt {
				c.k.interrupt()
			}
			if err := c.k.control.SetDeadline(time.Now().Add(yieldTurn)); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		switch {
		case f.ID != c.id: // of a thread, say, that an earlier cell left behind
		case f.Op == "display" || f.Op == "clear" || f.Op == "sync":
			if err := c.between(f); err != nil {
				return err
			}
		case f.Op == "done":
			c.done(f)
			c.silent = silent && !attended // nothing came in between
			return nil
		default:
			return fmt.Errorf("the kernel said %q", f.Op)
		}
		if !attended {
			attended = true
			defer c.attend()()
			defer c.watch()()
		}
	}
}

// await waits for the kernel's word, for shortCell at most, and reports whether it came before
// any output. The word is looked for first: what was printed before it is in the pipes by then.
// Who watches the cell gets what it prints meanwhile.
func (c *cell) await() (silent bool) {
	out, errs := c.k.Out.FD(), c.k.Err.FD()
	ready := c.k.control.Await(shortCell, out, errs)
	if c.feed == nil && !ready[0] {
		c.k.control.Await(shortCell - time.Since(c.start))
	}
	for c.feed != nil && !ready[0] && (ready[1] || ready[2]) && time.Since(c.start) < shortCell {
		c.k.Drain()
		ready = c.k.control.Await(shortCell-time.Since(c.start), out, errs)
	}
	return ready[0] && !ready[1] && !ready[2]
}

// between takes what a kernel shows or clears. Output that came before it comes first.
func (c *cell) between(f kernelFrame) error {
	if c.feed != nil || f.Op == "clear" {
		c.k.Drain()
	}
	switch {
	case f.Op == "display":
		c.show(f)
	case f.Op == "clear" && f.Wait:
		c.clear.AtNext()
		c.feed.Clear(true)
	case f.Op == "clear":
		c.clear.Now()
		c.feed.Clear(false)
	}
	if c.feed == nil && f.Op != "clear" {
		return nil
	}
	return c.acknowledge()
}

// show keeps a display, within the bounds. An update of one that an earlier cell showed is kept
// as one of this cell.
func (c *cell) show(f kernelFrame) {
	c.forget(true)
	size := 0
	for mime, data := range f.Data {
		size += len(mime) + len(data)
	}
	if c.bytes += size; c.bytes > agent.MaxDisplayBytes ||
		len(c.res.Displays) >= agent.MaxDisplays {
		c.bytes -= size
		c.res.DisplaysTruncated = true
		return
	}
	shown := agent.Display{ID: f.Display, Data: f.Data}
	c.feed.Display(shown)
	updated := false
	for i := range c.res.Displays {
		if f.Update && c.res.Displays[i].ID == f.Display {
			c.res.Displays[i] = shown
			updated = true
		}
	}
	if !updated {
		c.res.Displays = append(c.res.Displays, shown)
	}
}

// forget drops displays that were shown before the output was cleared.
func (c *cell) forget(fresh bool) {
	if n := c.clear.Seen(fresh); n != c.cleared {
		c.cleared = n
		c.res.Displays, c.res.DisplaysTruncated, c.bytes = nil, false, 0
	}
}

func (c *cell) done(f kernelFrame) {
	c.res.Error, c.res.ExitStatus = f.Error, f.Exit
	c.res.HasValue = f.Value != nil
	c.res.Text = f.Value["text/plain"]
	if len(f.Value) > 1 || c.res.Text == "" { // otherwise the text is all there is
		c.res.Value = f.Value
	}
	c.res.Duration = time.Since(c.start)
	if own := time.Duration(f.NS); own > 0 && own < c.res.Duration {
		c.res.Duration = own
	}
}

// broken says why the kernel is of no more use, before it is cleared away.
func (c *cell) broken(err error) {
	c.lost = true
	c.res.Duration = time.Since(c.start)
	c.res.Outcome = agent.KernelDied
	c.res.Error = &agent.ExecutionError{Name: "KernelDied",
		Message: "The kernel ended. Its state is lost."}
	if c.expired {
		c.res.Outcome = agent.TimeoutRestarted
		c.res.Error = &agent.ExecutionError{Name: "Timeout",
			Message: "The time was over and the code did not react to an interrupt. The kernel " +
				"was restarted; its state is lost."}
	}
	c.d.log.Info("kernel lost", "outcome", c.res.Outcome, "cause", err)
}

// finish ends the kernel, takes what it printed last, and adds how it ended.
func (c *cell) finish() {
	notice := exitNotice
	if c.expired {
		notice = 0
	}
	status, err := c.k.stop(notice)
	if err != nil {
		c.d.log.Error("end the kernel", "error", err)
	}
	c.k.Gather()
	if c.res.Outcome == agent.KernelDied {
		c.res.Error.Message = describeExit(status)
	}
	if c.k.spec.Statuses {
		c.replaced(status)
	}
}

// replaced says how a command ended that took the kernel's place, as exec does, or killed it.
func (c *cell) replaced(status syscall.WaitStatus) {
	n := status.ExitStatus()
	if status.Signaled() {
		n = 128 + int(status.Signal())
	}
	c.res.ExitStatus = &n
	if c.expired || !status.Exited() {
		return
	}
	c.res.Error, c.res.Outcome = nil, agent.OK
	if n != 0 {
		c.res.Outcome = agent.Failed
	}
}

func describeExit(status syscall.WaitStatus) string {
	const lost = "Its state is lost and a new one has been started."
	if status.Signaled() {
		if status.Signal() == syscall.SIGBUS {
			return fmt.Sprintf("The kernel was ended by signal 7 (bus error). Memory that is "+
				"mapped from a file had no more room, "+
				"perhaps in /dev/shm, which holds %d MiB. %s", mib("/dev/shm"), lost)
		}
		return fmt.Sprintf("The kernel was ended by signal %d (%s). %s", int(status.Signal()),
			status.Signal(), lost)
	}
	return fmt.Sprintf("The kernel exited with code %d. %s", status.ExitStatus(), lost)
}

// mib is the size of a filesystem, or 0 if it cannot be learned.
func mib(path string) uint64 {
	var fs unix.Statfs_t
	if unix.Statfs(path, &fs) != nil {
		return 0
	}
	return fs.Blocks * uint64(fs.Bsize) >> 20 // a block's size is not negative
}
