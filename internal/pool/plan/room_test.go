package plan

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pool/room"
)

// size is that of the sandboxes of these tests.
var size = room.Size{Ready: room.Amount{Memory: 40}, Used: room.Amount{Memory: 100}}

// left is a ledger with so much memory left, of a machine with a reserve of 80.
func left(memory int64, pressure float64) room.Ledger {
	const plenty = 1 << 40
	var l room.Ledger
	l.Measure(room.Machine{Left: room.Amount{Memory: memory + 80, Disk: plenty, Threads: plenty},
		Pressure: pressure},
		room.Amount{Memory: 80}, room.Amount{})
	return l
}

// full is a ledger of a machine whose disk is full.
func full() room.Ledger {
	const plenty = 1 << 40
	var l room.Ledger
	l.Measure(room.Machine{Left: room.Amount{Memory: plenty, Disk: 10, Threads: plenty}},
		room.Amount{Disk: 20}, room.Amount{})
	return l
}

func withReady(key string, want, have, claims int) Pool {
	p := Pool{Key: key, Prepared: true, Size: size, Claims: claims,
		Pool: sandpool.Pool{State: sandpool.Succeeded, Revision: 1, ReadySessions: want,
			MaxSessions: 100}}
	for n := range have {
		p.Sandboxes = append(p.Sandboxes, Sandbox{ID: sandpool.SandboxID(fmt.Sprint(key, n)),
			State: sandpool.Ready, Revision: 1,
			Since: epoch.Add(time.Duration(n-100) * time.Second)})
	}
	return p
}

// text is the actions as words.
func text(todo []Action) (words []string) {
	for _, a := range todo {
		switch a.Act {
		case Retire:
			words = append(words, "retire "+string(a.Sandbox))
		case Short:
			words = append(words, a.Pool+" lacks "+a.Reason)
		default:
			words = append(words, string(a.Act)+" "+a.Pool)
		}
	}
	return words
}

func TestRoom(t *testing.T) {
	unprepared := withReady("a", 2, 0, 0)
	unprepared.Prepared, unprepared.Pool.State = false, sandpool.InProgress
	for _, test := range []struct {
		why   string
		room  room.Ledger
		pools []Pool
		want  []string
	}{
		{"nothing was measured", room.Ledger{}, []Pool{withReady("a", 2, 0, 0)},
			[]string{"refill a", "refill a"}},
		{"plenty", left(1000, 0), []Pool{withReady("a", 2, 0, 0)},
			[]string{"refill a", "refill a"}},
		{"a session and the slack fit after the first alone", left(149, 0),
			[]Pool{withReady("a", 2, 0, 0)}, []string{"refill a", "a lacks memory"}},
		{"room for the sandbox and not for its session", left(60, 0),
			[]Pool{withReady("a", 2, 0, 0)}, []string{"a lacks memory"}},
		{"all that are wanted are there", left(60, 0), []Pool{withReady("a", 2, 2, 0)}, nil},
		{"pools share", left(180, 0), []Pool{withReady("a", 9, 0, 0), withReady("b", 9, 0, 0)},
			[]string{"refill a", "refill b", "a lacks memory", "b lacks memory"}},
		{"nothing left, nothing taken", left(0, 0), []Pool{withReady("a", 2, 2, 0)}, nil},
		{"sandboxes that run have grown", left(-1, 0), []Pool{withReady("a", 3, 3, 0)},
			[]string{"retire a2"}},
		{"they have grown more", left(-100, 0), []Pool{withReady("a", 3, 3, 0),
			withReady("b", 4, 4, 0)},
			[]string{"retire b3", "retire a2", "retire b2"}},
		{"more than there is to give", left(-1000, 0), []Pool{withReady("a", 2, 2, 0)},
			[]string{"retire a1", "retire a0"}},
		{"claims are about to take them", left(-1000, 0), []Pool{withReady("a", 3, 3, 2)},
			[]string{"retire a2"}},
		{"under strain the reserve grows, and nothing is refilled", left(5, 0.5),
			[]Pool{withReady("a", 3, 2, 0)},
			[]string{"retire a1", "a lacks memory"}},
		{"a preparation waits for room", left(99, 0), []Pool{unprepared},
			[]string{"a lacks memory"}},
		{"a preparation has room", left(100, 0), []Pool{unprepared}, []string{"prepare a"}},
		{"the disk is full, of which ready ones have nothing", full(),
			[]Pool{withReady("a", 3, 2, 0)}, []string{"a lacks disk"}},
	} {
		got := text(Next(Snapshot{Pools: test.pools, Starts: 2, Room: test.room}, epoch))
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.why, got, test.want)
		}
	}
}
