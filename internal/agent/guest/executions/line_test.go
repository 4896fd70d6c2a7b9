package executions

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/guest/output"
)

// host is a connection of which the other end takes as much at once as it likes.
type host struct {
	mu     sync.Mutex
	got    []byte
	offers int
	takes  func() int // of an offer
	gone   error
}

func (h *host) SetWriteDeadline(time.Time) error { return nil }

func (h *host) Offer(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.offers++
	if h.gone != nil {
		return 0, h.gone
	}
	n := min(h.takes(), len(p))
	h.got = append(h.got, p[:n]...)
	return n, nil
}

func (h *host) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone != nil {
		return 0, h.gone
	}
	h.got = append(h.got, p...)
	return len(p), nil
}

func (h *host) calls() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.offers
}

// records are those that the host has got.
func (h *host) records(t *testing.T) (all []agent.Record) {
	t.Helper()
	r := agent.NewFrameReader(strings.NewReader(string(h.got)), 1<<20)
	for {
		var a agent.Answer
		if err := r.Next(&a); err != nil {
			return all
		}
		if a.Record == nil {
			t.Fatalf("answer %+v", a)
		}
		all = append(all, *a.Record)
	}
}

func request(id, code string) agent.StartRequest {
	return agent.StartRequest{ID: id, ExecuteRequest: agent.ExecuteRequest{Code: code,
		MaxOutput: 1 << 20}}
}

// TestRun: a host gets every record once and in order, however little of them it takes at once, and
// so does a reader beside it.
func TestRun(t *testing.T) {
	for name, takes := range map[string]func() int{
		"all":     func() int { return 1 << 20 },
		"nothing": func() int { return 0 },
		"some":    func() int { return rand.IntN(200) },
	} {
		var g Registry
		h := &host{takes: takes}
		if sent, err := g.Run(t.Context(), request("e", strings.Repeat("x", 300)), printing,
			h); err != nil || !sent {
			t.Fatalf("%s: %v, %v", name, sent, err)
		}
		var text strings.Builder
		all := h.records(t)
		for i, r := range all {
			if r.Number != int64(i+1) {
				t.Errorf("%s: record %d has the number %d", name, i+1, r.Number)
			}
			text.WriteString(r.Stdout)
		}
		e, err := g.Get("e")
		if err != nil || e.Result == nil || e.Result.Stdout != text.String() ||
			all[len(all)-1].Execution == nil || e.Events != int64(len(all)) {
			t.Errorf("%s: %d records with %d bytes, of %d; %v", name, len(all), text.Len(),
				e.Events, err)
		}
	}
}

// TestRunShort: what a short execution says is sent with few calls, and that it runs at once if it
// says nothing. That delays nothing that it says then.
func TestRunShort(t *testing.T) {
	var g Registry
	h := &host{takes: func() int { return 1 << 20 }}
	run := func(_ context.Context, _ agent.ExecuteRequest, f *output.Feed) (agent.ExecuteResult,
		error) {
		f.Begin()
		f.Stdout()([]byte("2\n"))
		return agent.ExecuteResult{Outcome: agent.OK}, nil
	}
	if _, err := g.Run(t.Context(), request("a", "1"), run, h); err != nil || h.offers != 2 ||
		len(h.records(t)) != 3 {
		t.Errorf("%d calls with %+v, %v", h.offers, h.records(t), err)
	}
	long := func(_ context.Context, _ agent.ExecuteRequest, f *output.Feed) (agent.ExecuteResult,
		error) {
		f.Begin()
		f.Still()
		if all := h.records(t); len(all) != 4 || all[3].State != agent.ExecutionRunning {
			t.Errorf("while it is still: %+v", all)
		}
		f.Stdout()([]byte("2\n"))
		if all := h.records(t); len(all) != 5 || all[4].Stdout != "2\n" {
			t.Errorf("what it says first, soon after: %+v", all)
		}
		return agent.ExecuteResult{}, nil
	}
	if _, err := g.Run(t.Context(), request("b", "1"), long, h); err != nil {
		t.Error(err)
	}
}

// TestRunPace: what comes soon after another thing waits for what comes with it, and not for long.
func TestRunPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Registry
		h := &host{takes: func() int { return 1 << 20 }}
		run := func(_ context.Context, _ agent.ExecuteRequest,
			f *output.Feed) (agent.ExecuteResult, error) {
			f.Begin()
			for _, want := range []int{1, 3} {
				for range 1000 {
					f.Stdout()([]byte("a\n"))
				}
				if calls := h.calls(); calls != want {
					t.Errorf("%d calls at once, want %d", calls, want)
				}
				<-time.After(2 * pace)
			}
			f.Stdout()([]byte("b\n"))
			return agent.ExecuteResult{}, nil
		}
		if _, err := g.Run(t.Context(), request("e", ""), run, h); err != nil {
			t.Error(err)
		}
		var text strings.Builder
		all := h.records(t)
		for _, r := range all {
			text.WriteString(r.Stdout)
		}
		if want := strings.Repeat("a\n", 2000) + "b\n"; len(all) > 7 || text.String() != want {
			t.Errorf("%d records with %d bytes of %d", len(all), text.Len(), len(want))
		}
	})
}

// TestRunAlone: an execution goes on when its host is gone, and one that is refused sends nothing.
func TestRunAlone(t *testing.T) {
	var g Registry
	h := &host{takes: func() int { return 1 << 20 }, gone: errors.New("gone")}
	if sent, err := g.Run(t.Context(), request("e", "xxxx"), printing, h); !sent || err == nil {
		t.Errorf("%v, %v", sent, err)
	}
	if e, err := g.Get("e"); err != nil || e.Outcome != agent.OK {
		t.Errorf("%+v, %v", e, err)
	}
	h = &host{takes: func() int { return 1 << 20 }}
	if sent, err := g.Run(t.Context(), request("e", "x"), printing, h); sent || err == nil ||
		len(h.got) > 0 {
		t.Errorf("the same id again: %v, %v, %q", sent, err, h.got)
	}
}

// TestJoin: text that nobody has read yet is one record with what follows it on its stream.
func TestJoin(t *testing.T) {
	var g Registry
	run := func(_ context.Context, _ agent.ExecuteRequest, f *output.Feed) (agent.ExecuteResult,
		error) {
		for _, p := range []string{"a", "b", "\xc3", "\xa4"} {
			f.Stdout()([]byte(p))
		}
		f.Stderr()([]byte("c"))
		f.Stdout()(binary.BigEndian.AppendUint16(nil, 0xc341)[:1]) // half a rune, at the end
		f.End()
		return agent.ExecuteResult{}, nil
	}
	if _, err := g.Start(t.Context(), request("e", ""), run); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Wait(t.Context(), "e"); err != nil {
		t.Fatal(err)
	}
	got := ""
	if err := g.Read(t.Context(), "e", 0, func(r agent.Record) error {
		got += "<" + r.Stdout + strings.ToUpper(r.Stderr) + ">"
		return nil
	}); err != nil || got != "<abä><C><\xc3><>" {
		t.Errorf("%q, %v", got, err)
	}
}
