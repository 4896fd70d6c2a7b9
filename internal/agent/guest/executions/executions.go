// Package executions keeps executions that go on without a caller: what they have said so far, for
// whoever comes to read it, and how they ended.
//
// An execution's record is a list of numbered events. A reader says which one it has seen last
// and gets the rest, those to come included; so a reader that was cut off loses nothing
// and sees nothing twice. Nothing waits for a reader: while an execution runs, its record
// is bounded by what its result may hold. When executions have ended, the oldest are forgotten once
// all of them together are more than agent.MaxRecord.
package executions

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/guest/output"
)

// Runner runs a cell, which says to the feed what it prints and shows.
type Runner func(context.Context, agent.ExecuteRequest, *output.Feed) (agent.ExecuteResult, error)

// Registry is the executions of a sandbox. Its methods may be called at the same time.
type Registry struct {
	mu    sync.Mutex   // guards the fields below it, and those of each execution
	all   []*execution // the oldest first
	bytes int64        // of those that have ended
}

// execution is one of a Registry, whose mu guards it.
type execution struct {
	view    agent.Execution
	cancel  context.CancelFunc
	records []agent.Record
	read    int64 // the last record that somebody has got
	bytes   int64
	changed chan struct{} // closed, and made anew, when there is more to read
	line    *line         // nil unless records go somewhere as they are made
}

// Start begins an execution.
func (g *Registry) Start(ctx context.Context, req agent.StartRequest, run Runner) (agent.Execution,
	error) {
	ctx, e, err := g.admit(ctx, req, nil)
	if err != nil {
		return agent.Execution{}, err
	}
	view := e.view // before it can change
	go g.run(ctx, e, req.ExecuteRequest, run)
	return view, nil
}

// admit makes an execution, and the context that it is to run in.
func (g *Registry) admit(ctx context.Context, req agent.StartRequest, l *line) (context.Context,
	*execution, error) {
	if req.ID == "" || len(req.ID) > agent.MaxExecutionID || strings.IndexFunc(req.ID, unfit) >= 0 {
		return nil, nil, sandpool.Errorf(sandpool.Invalid, "InvalidExecutionId", "executionId",
			"The id of an execution has 1 to %d letters, digits, hyphens, underscores and dots.",
			agent.MaxExecutionID)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.find(req.ID) != nil {
		return nil, nil, sandpool.Errorf(sandpool.Conflict, "ExecutionExists", "executionId",
			"There is an execution with the id %q already. Choose another.", req.ID)
	}
	if len(g.all) == agent.MaxExecutions && !g.forgetOne() {
		return nil, nil, agent.TooMany()
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e := &execution{cancel: cancel, changed: make(chan struct{}), line: l,
		view: agent.Execution{ID: req.ID, State: agent.ExecutionWaiting, Created: time.Now(),
			Timeout: req.Timeout, Context: cmp.Or(req.Context, req.Kernel)}}
	g.all = append(g.all, e)
	return ctx, e, nil
}

func unfit(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' &&
		c != '_' && c != '.'
}

// run runs an execution and records what it says.
func (g *Registry) run(ctx context.Context, e *execution, req agent.ExecuteRequest, run Runner) {
	res, err := run(ctx, req, output.NewFeed(req.MaxOutput, recorder{g, e}))
	e.cancel()
	g.end(e, res, err)
}

// recorder records what an execution says as it is said.
type recorder struct {
	g *Registry
	e *execution
}

var _ output.Taker = recorder{}

// Begun implements output.Taker.
func (r recorder) Begun() {
	r.g.mu.Lock()
	defer r.g.mu.Unlock()
	if r.e.view.State == agent.ExecutionWaiting {
		r.e.view.State, r.e.view.Started = agent.ExecutionRunning, time.Now()
		r.g.add(r.e, agent.Record{State: agent.ExecutionRunning})
	}
}

// Event implements output.Taker.
func (r recorder) Event(ev agent.Event) {
	r.g.mu.Lock()
	defer r.g.mu.Unlock()
	if r.e.join(ev) {
		r.g.wake(r.e)
		return
	}
	r.g.add(r.e, agent.Record{Event: ev})
}

// Still implements output.Taker.
func (r recorder) Still() {
	r.g.mu.Lock()
	defer r.g.mu.Unlock()
	if r.e.line != nil {
		r.e.line.push(r.g, r.e)
	}
}

// joined is the length of a text that takes no more in.
const joined = 32 << 10

// join makes text a part of the last record, if that is of the same stream and nobody has it yet.
// The caller holds the registry's mu.
func (e *execution) join(ev agent.Event) bool {
	if len(e.records) == 0 {
		return false
	}
	last := &e.records[len(e.records)-1]
	text := &last.Stdout
	if ev.Stderr != "" {
		text = &last.Stderr
	}
	more := ev.Stdout + ev.Stderr
	if more == "" || *text == "" || len(*text) >= joined || last.Number <= e.read {
		return false
	}
	*text += more
	e.bytes += int64(len(more))
	return true
}

// add appends to a record and wakes its readers. The caller holds mu.
func (g *Registry) add(e *execution, r agent.Record) {
	e.view.Events++
	r.Number = e.view.Events
	e.records = append(e.records, r)
	e.bytes += size(r)
	if e.line != nil {
		e.line.add(g, e, r)
	}
	g.wake(e)
}

// wake wakes the readers of an execution. The caller holds mu.
func (g *Registry) wake(e *execution) {
	close(e.changed)
	e.changed = make(chan struct{})
}

// size is what a record takes of memory, about.
func size(r agent.Record) int64 {
	n := 256 + len(r.Stdout) + len(r.Stderr)
	if r.Display != nil {
		for mime, data := range r.Display.Data {
			n += len(mime) + len(data)
		}
	}
	return int64(n)
}

func sizeOfResult(r agent.ExecuteResult) int64 {
	n := 1024 + len(r.Stdout) + len(r.Stderr) + len(r.Text)
	for _, d := range r.Displays {
		for mime, data := range d.Data {
			n += len(mime) + len(data)
		}
	}
	for mime, data := range r.Value {
		n += len(mime) + len(data)
	}
	if r.Error != nil {
		n += len(r.Error.Message) + len(r.Error.Traceback)
	}
	return int64(n)
}

// end records how an execution ended.
func (g *Registry) end(e *execution, res agent.ExecuteResult, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e.view.State, e.view.Ended = agent.ExecutionEnded, time.Now()
	if err == nil {
		e.view.Outcome, e.view.Took = res.Outcome, res.Duration
	}
	last := e.view
	last.Events++
	if err != nil {
		e.view.Fault = agent.FaultOf(err)
		last.Fault = e.view.Fault
	} else {
		e.view.Result = &res
		brief := res
		brief.Stdout, brief.Stderr, brief.Displays = "", "", nil
		last.Result = &brief
		e.bytes += sizeOfResult(res)
	}
	g.add(e, agent.Record{Execution: &last})
	g.bytes += e.bytes
	for g.bytes > agent.MaxRecord && g.forgetOne() {
	}
}

// Wait returns when an execution has ended, or ctx has.
func (g *Registry) Wait(ctx context.Context, id string) (agent.Execution, error) {
	for {
		g.mu.Lock()
		e := g.find(id)
		if e == nil {
			g.mu.Unlock()
			return agent.Execution{}, unknown(id)
		}
		view, changed := e.view, e.changed
		g.mu.Unlock()
		if view.State == agent.ExecutionEnded {
			view.Result = nil
			return view, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return agent.Execution{}, ctx.Err()
		}
	}
}

// forgetOne forgets the oldest execution that has ended, unless it is the newest of all. The
// caller holds mu.
func (g *Registry) forgetOne() bool {
	for i, e := range g.all {
		if e.view.State == agent.ExecutionEnded &&
			(i < len(g.all)-1 || len(g.all) == agent.MaxExecutions) {
			g.bytes -= e.bytes
			g.all = slices.Delete(g.all, i, i+1)
			return true
		}
	}
	return false
}

func (g *Registry) find(id string) *execution {
	for _, e := range g.all {
		if e.view.ID == id {
			return e
		}
	}
	return nil
}

func unknown(id string) error {
	return sandpool.Errorf(sandpool.NotFound, "ExecutionNotFound", "executionId",
		"No execution available for operation Id: %.128s. It never was, or is kept no more.", id)
}

// List returns all executions, the oldest first, without results.
func (g *Registry) List() []agent.Execution {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]agent.Execution, len(g.all))
	for i, e := range g.all {
		list[i] = e.view
		list[i].Result = nil
	}
	return list
}

// Get returns an execution, with its result if it has ended.
func (g *Registry) Get(id string) (agent.Execution, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.find(id)
	if e == nil {
		return agent.Execution{}, unknown(id)
	}
	return e.view, nil
}

// Cancel ends an execution, and does not wait for that.
func (g *Registry) Cancel(id string) (agent.Execution, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.find(id)
	if e == nil {
		return agent.Execution{}, unknown(id)
	}
	if e.view.State != agent.ExecutionEnded {
		e.view.Canceled = true
		e.cancel()
	}
	view := e.view
	view.Result = nil
	return view, nil
}

// Read calls emit with the records after a number, until the last or until ctx ends.
func (g *Registry) Read(ctx context.Context, id string, after int64,
	emit func(agent.Record) error) error {
	g.mu.Lock()
	e := g.find(id)
	if e == nil {
		g.mu.Unlock()
		return unknown(id)
	}
	first := e.view.Events - int64(len(e.records)) + 1
	g.mu.Unlock()
	if after+1 < first {
		return sandpool.Errorf(sandpool.NotFound, "EventsNotKept", "after",
			"The events before number %d are kept no more. Read the execution's result.", first)
	}
	return g.read(ctx, e, after, emit)
}

// read is Read of an execution that may have been forgotten meanwhile.
func (g *Registry) read(ctx context.Context, e *execution, after int64,
	emit func(agent.Record) error) error {
	for {
		more, changed := g.after(e, after)
		for _, r := range more {
			if err := emit(r); err != nil {
				return err
			}
			if after = r.Number; r.Execution != nil {
				return nil
			}
		}
		if len(more) > 0 {
			continue
		}
		if err := ended(g, e, after); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// after returns the records after a number, which do not change from now on, and what is closed
// when there are more.
func (g *Registry) after(e *execution, number int64) ([]agent.Record, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, _ := slices.BinarySearchFunc(e.records, number+1, func(r agent.Record, n int64) int {
		return cmp.Compare(r.Number, n)
	})
	more := e.records[at:]
	if len(more) > 0 {
		e.read = e.view.Events
	}
	return more, e.changed
}

// ended is an error for a reader who waits for more than there will ever be.
func ended(g *Registry, e *execution, after int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e.view.State == agent.ExecutionEnded && after >= e.view.Events {
		return sandpool.Errorf(sandpool.Invalid, "NoSuchEvent", "after",
			"The execution has ended with event %d; there is none after it.", e.view.Events)
	}
	return nil
}
