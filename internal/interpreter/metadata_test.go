package interpreter

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// TestMetadataTurns checks that a pool that is slow to answer holds up neither other
// pools nor, without end, those who ask about itself.
func TestMetadataTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := New(Options{})
		slow, quick := sandpool.Pool{ID: sandpool.PoolID{Name: "slow"}}, sandpool.Pool{
			ID: sandpool.PoolID{Name: "quick"}}
		slow.Revision, quick.Revision = 1, 1
		begin := func(_ context.Context, id sandpool.PoolID) error {
			set.mu.Lock()
			defer set.mu.Unlock()
			set.found[id.Key()] = finding{revision: 1, info: agent.KernelInfo{Runtime: "python"}}
			return nil
		}
		end, err := set.turns.take(t.Context(), slow.ID)
		if err != nil {
			t.Fatal(err)
		}
		started := time.Now()
		if info, err := set.KernelInfo(t.Context(), quick, begin); err != nil ||
			info.Runtime != "python" {
			t.Errorf("the other pool: %v, %v", info, err)
		}
		if took := time.Since(started); took != 0 {
			t.Errorf("the other pool waited %v", took)
		}
		if _, err := set.KernelInfo(t.Context(), slow, begin); sandpool.ClassOf(
			err) != sandpool.Unavailable {
			t.Errorf("the slow pool: %v", err)
		}
		if took := time.Since(started); took != turnTime {
			t.Errorf("the slow pool: waited %v, want %v", took, turnTime)
		}
		end()
		again, err := set.turns.take(t.Context(), slow.ID)
		if err != nil {
			t.Fatalf("the turn was not given back: %v", err)
		}
		again()
	})
}
