package sandbox_test

import (
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// A boot may take as long as its probe goes on, whatever of that a probe leaves open.
func TestBootTimeout(t *testing.T) {
	for _, c := range []struct {
		ready sandpool.Probe
		want  time.Duration
	}{
		{sandpool.Probe{}, time.Minute},
		{sandpool.Probe{Period: 250 * time.Millisecond}, time.Minute},
		{sandpool.Probe{Delay: time.Minute}, 2 * time.Minute},
		{sandpool.Probe{Failures: 30, Period: time.Second}, 30 * time.Second},
		{sandpool.Probe{Failures: 2}, 20 * time.Second},
		{sandpool.Probe{Failures: 1, Period: time.Second, Timeout: 5 * time.Second,
			Delay: time.Second}, 6 * time.Second},
		{sandpool.Probe{Period: 4 * time.Minute}, 12 * time.Minute},
		{sandpool.Probe{Timeout: time.Minute}, 3 * time.Minute},
	} {
		if got := (sandbox.Template{Ready: c.ready}).BootTimeout(); got != c.want {
			t.Errorf("%+v: %v, want %v", c.ready, got, c.want)
		}
	}
	if got := (sandbox.Template{ReadyTimeout: time.Second}).BootTimeout(); got != time.Second {
		t.Errorf("a time that is named is %v", got)
	}
}
