package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/sandpool/sandpool"
)

// History records what concurrent callers asked and got. It is ready to use when zero.
type History struct {
	mu   sync.Mutex // guards ops and open
	ops  []porcupine.Operation
	open []int     // places in ops of calls that may go on although they have returned
	once sync.Once // sets zero
	zero time.Time
}

// ask is a call's input: a claim for an identifier, the stop of a sandbox, or
// the stop of whatever an identifier holds.
type ask struct {
	identifier sandpool.Identifier
	sandbox    sandpool.SandboxID // to stop
	stop       bool
}

// answer is what a call got.
type answer struct {
	sandbox sandpool.SandboxID
	outcome sandpool.ClaimOutcome
	either  bool // of a claim: whether the sandbox was held before is not told
	none    bool // of a stop: the identifier held nothing
	maybe   bool // of a stop: nobody knows whether it was carried out
}

// Claim records do, a claim for identifier, and returns the sandbox it got.
func (h *History) Claim(client int, identifier sandpool.Identifier, do func() (sandpool.SandboxID,
	sandpool.ClaimOutcome)) sandpool.SandboxID {
	call := time.Now()
	id, outcome := do()
	h.add(client, call, ask{identifier: identifier}, answer{sandbox: id, outcome: outcome})
	return id
}

// Acquire records do, which gets identifier its sandbox, held before or not. A
// call that got none and changed nothing returns "", and is not recorded.
func (h *History) Acquire(client int, identifier sandpool.Identifier,
	do func() sandpool.SandboxID) {
	call := time.Now()
	if id := do(); id != "" {
		h.add(client, call, ask{identifier: identifier}, answer{sandbox: id, either: true})
	}
}

// Stop records do, which frees the sandbox's identifier. It may be repeated for one sandbox.
func (h *History) Stop(client int, id sandpool.SandboxID, do func()) {
	call := time.Now()
	do()
	h.add(client, call, ask{sandbox: id, stop: true}, answer{})
}

// StopSession records do, which frees identifier and reports whether it found a session.
func (h *History) StopSession(client int, identifier sandpool.Identifier, do func() bool) {
	call := time.Now()
	found := do()
	h.add(client, call, ask{identifier: identifier, stop: true}, answer{none: !found})
}

// TryStopSession is StopSession for a call of which nobody may know what it did: it may have freed
// the identifier, or do so later, but not after Settle, or never. One that was refused has done
// nothing.
func (h *History) TryStopSession(client int, identifier sandpool.Identifier,
	do func() (found, known, refused bool)) {
	call := time.Now()
	found, known, refused := do()
	if refused {
		return
	}
	end := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	op := porcupine.Operation{ClientId: client, Input: ask{identifier: identifier, stop: true},
		Output: answer{none: known && !found, maybe: !known}, Call: h.at(call), Return: h.at(end)}
	if !known {
		h.open = append(h.open, len(h.ops))
	}
	h.ops = append(h.ops, op)
}

// Settle says that calls whose callers had ended by then have done by now what they ever do.
func (h *History) Settle(then time.Time) {
	now := h.at(time.Now())
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = slices.DeleteFunc(h.open, func(i int) bool {
		if h.ops[i].Return > h.at(then) {
			return false
		}
		h.ops[i].Return = now
		return true
	})
}

// at is t by the clock that is never set: on a machine whose time is, calls would seem to come in
// another order than they did.
func (h *History) at(t time.Time) int64 {
	h.once.Do(func() { h.zero = time.Now() })
	return int64(t.Sub(h.zero))
}

func (h *History) add(client int, call time.Time, in ask, out answer) {
	end := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Output: out,
		Call: h.at(call), Return: h.at(end)})
}

// Check fails the test unless the history can be explained by one claim or stop
// after the other, and every sandbox served one identifier only.
func (h *History) Check(t *testing.T) {
	t.Helper()
	for _, fault := range h.faults() {
		t.Error(fault)
	}
}

// faults says what cannot be explained.
func (h *History) faults() (list []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, i := range h.open {
		h.ops[i].Return = h.at(time.Now())
	}
	owner := map[sandpool.SandboxID]sandpool.Identifier{}
	for _, op := range h.ops {
		in, id := op.Input.(ask), op.Output.(answer).sandbox
		if id == "" {
			continue
		}
		if before, ok := owner[id]; ok && before != in.identifier {
			list = append(list, fmt.Sprintf("sandbox %s served %q and %q", id, before,
				in.identifier))
		}
		owner[id] = in.identifier
	}
	model := sessions(owner)
	if result := porcupine.CheckOperationsTimeout(model, h.ops,
		time.Minute); result != porcupine.Ok {
		list = append(list, fmt.Sprintf("the history of %d operations is %s%s", len(h.ops), result,
			unexplained(model, h.ops)))
	}
	return list
}

// unexplained tells the story of an identifier up to the first answer that cannot be explained.
func unexplained(model porcupine.Model, ops []porcupine.Operation) string {
	for _, part := range model.Partition(ops) {
		slices.SortFunc(part, func(a, b porcupine.Operation) int {
			return cmp.Compare(a.Return, b.Return)
		})
		n := 1
		for ; n <= len(part); n++ {
			// Calls that go on later may have done already what they do.
			begun := slices.Clone(part[:n])
			for _, op := range part[n:] {
				if in := op.Input.(ask); in.stop && op.Call <= part[n-1].Return {
					begun = append(begun, op)
				}
			}
			if porcupine.CheckOperationsTimeout(model, begun, time.Minute) == porcupine.Illegal {
				break
			}
		}
		if n > len(part) {
			continue
		}
		var b strings.Builder
		for _, op := range part[max(0, n-25):min(len(part), n+10)] {
			fmt.Fprintf(&b, "\n%v to %v: client %d: %+v: %+v", time.Duration(op.Call),
				time.Duration(op.Return), op.ClientId, op.Input, op.Output)
		}
		return b.String()
	}
	return ""
}

// session is the state of one identifier: the sandbox it holds, and those that it held.
type session struct {
	held sandpool.SandboxID
	gone string
}

func (s session) stop() session {
	if s.held == "" {
		return s
	}
	return session{gone: s.gone + " " + string(s.held)}
}

// sessions models the identifiers, each for itself. A stop belongs to the identifier that owns the
// sandbox.
func sessions(owner map[sandpool.SandboxID]sandpool.Identifier) porcupine.Model {
	model := porcupine.NondeterministicModel{
		Partition: func(ops []porcupine.Operation) [][]porcupine.Operation {
			parts := map[sandpool.Identifier][]porcupine.Operation{}
			for _, op := range ops {
				in := op.Input.(ask)
				if in.sandbox != "" {
					in.identifier = owner[in.sandbox]
				}
				parts[in.identifier] = append(parts[in.identifier], op)
			}
			var list [][]porcupine.Operation
			for _, part := range parts {
				list = append(list, part)
			}
			return list
		},
		Init: func() []any { return []any{session{}} },
		Step: func(state, input, output any) (next []any) {
			s, out := state.(session), output.(answer)
			if out.maybe {
				next = append(next, s) // it was never carried out
			}
			if ok, changed := step(s, input.(ask), out); ok {
				next = append(next, changed)
			}
			return next
		},
	}
	return model.ToModel()
}

func step(s session, in ask, out answer) (bool, any) {
	switch {
	case in.stop && in.sandbox != "":
		if in.sandbox == s.held {
			return true, s.stop()
		}
		return true, s
	case in.stop:
		return !out.none || s.held == "", s.stop()
	case out.either && s.held != "", out.outcome == sandpool.ClaimExisting && !out.either:
		return s.held != "" && out.sandbox == s.held, s
	case out.outcome == sandpool.ClaimFull && !out.either:
		return s.held == "", s
	}
	fresh := out.sandbox != "" && !strings.Contains(s.gone, string(out.sandbox))
	return s.held == "" && fresh, session{held: out.sandbox, gone: s.gone}
}
