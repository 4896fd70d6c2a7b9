package plan

import (
	"fmt"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
)

// BenchmarkNext decides for a large pool, half of whose sandboxes are ready.
func BenchmarkNext(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := Pool{Key: "p", Prepared: true, Pool: sandpool.Pool{State: sandpool.Succeeded,
				MaxSessions: n, ReadySessions: n / 2, Cooldown: time.Hour, Revision: 1}}
			for i := range n {
				box := Sandbox{ID: sandpool.SandboxID(fmt.Sprint(i)), State: sandpool.Ready,
					Revision: 1, Since: epoch, Used: epoch}
				if i%2 == 0 {
					box.State, box.Session = sandpool.Claimed, true
				}
				p.Sandboxes = append(p.Sandboxes, box)
			}
			s := Snapshot{Pools: []Pool{p}, Starts: 4}
			for b.Loop() {
				if todo := Next(s, epoch); len(todo) > 0 {
					b.Fatalf("there is to do %v", todo)
				}
			}
		})
	}
}
