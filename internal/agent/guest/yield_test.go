package guest

import (
	"testing"
	"time"
)

// A cell whose time is over has a second where the machine does what it is asked at once, and so
// many turns where it does not.
func TestYield(t *testing.T) {
	for _, tt := range []struct {
		late, want time.Duration
	}{
		{0, time.Second},
		{80 * time.Millisecond, 5 * time.Second},
		{time.Second, longestYield},
	} {
		var y yield
		begin := time.Unix(0, 0)
		now, interrupts := begin, 0
		for {
			interrupt, more := y.next(now)
			if !more {
				break
			}
			if interrupt {
				interrupts++
			}
			now = now.Add(yieldTurn + tt.late)
		}
		if took := now.Sub(begin); took < tt.want || took > tt.want+yieldTurn+tt.late ||
			interrupts == 0 || interrupts > 6 {
			t.Errorf("turns that begin %v late last %v, want %v; %d interrupts", tt.late, took,
				tt.want, interrupts)
		}
	}
}
