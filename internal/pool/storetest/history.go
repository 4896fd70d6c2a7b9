package storetest

import (
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/sandpool/sandpool"
)

// History records what concurrent callers asked and got. It is ready to use when zero.
type History struct {
	mu  sync.Mutex // guards ops
	ops []porcupine.Operation
}

// ask is a call's input: a claim for an identifier, or the stop of a sandbox.
type ask struct {
	identifier sandpool.Identifier
	stop       sandpool.SandboxID
}

// answer is what a claim got.
type answer struct {
	sandbox sandpool.SandboxID
	outcome sandpool.ClaimOutcome
}

// Claim records do, a claim for identifier, and returns the sandbox it got.
func (h *History) Claim(client int, identifier sandpool.Identifier, do func() (sandpool.SandboxID, sandpool.ClaimOutcome)) sandpool.SandboxID {
	call := time.Now()
	id, outcome := do()
	h.add(client, call, ask{identifier: identifier}, answer{id, outcome})
	return id
}

// Stop records do, which frees the sandbox's identifier. It may be repeated for one sandbox.
func (h *History) Stop(client int, id sandpool.SandboxID, do func()) {
	call := time.Now()
	do()
	h.add(client, call, ask{stop: id}, answer{})
}

func (h *History) add(client int, call time.Time, in ask, out answer) {
	end := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Output: out,
		Call: call.UnixNano(), Return: end.UnixNano()})
}

// Check fails the test unless the history can be explained by one claim or stop
// after the other, and every sandbox served one identifier only.
func (h *History) Check(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	owner := map[sandpool.SandboxID]sandpool.Identifier{}
	for _, op := range h.ops {
		in, id := op.Input.(ask), op.Output.(answer).sandbox
		if id == "" {
			continue
		}
		if before, ok := owner[id]; ok && before != in.identifier {
			t.Errorf("sandbox %s served %q and %q", id, before, in.identifier)
		}
		owner[id] = in.identifier
	}
	model := sessions(owner)
	if result := porcupine.CheckOperationsTimeout(model, h.ops, time.Minute); result != porcupine.Ok {
		t.Errorf("the history of %d operations is %s", len(h.ops), result)
	}
}

// sessions models one identifier: its state is the sandbox it holds, or "".
// A stop belongs to the identifier that owns the sandbox.
func sessions(owner map[sandpool.SandboxID]sandpool.Identifier) porcupine.Model {
	return porcupine.Model{
		Partition: func(ops []porcupine.Operation) [][]porcupine.Operation {
			parts := map[sandpool.Identifier][]porcupine.Operation{}
			for _, op := range ops {
				in := op.Input.(ask)
				if in.stop != "" {
					in.identifier = owner[in.stop]
				}
				parts[in.identifier] = append(parts[in.identifier], op)
			}
			var list [][]porcupine.Operation
			for _, part := range parts {
				list = append(list, part)
			}
			return list
		},
		Init: func() any { return sandpool.SandboxID("") },
		Step: func(state, input, output any) (bool, any) {
			return step(state.(sandpool.SandboxID), input.(ask), output.(answer))
		},
	}
}

func step(held sandpool.SandboxID, in ask, out answer) (bool, any) {
	switch {
	case in.stop != "":
		if in.stop == held {
			return true, sandpool.SandboxID("")
		}
		return true, held
	case out.outcome == sandpool.ClaimFull:
		return held == "", held
	case out.outcome == sandpool.ClaimExisting:
		return held != "" && out.sandbox == held, held
	}
	return held == "" && out.sandbox != "", out.sandbox
}
