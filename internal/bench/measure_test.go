package bench

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool/api"
)

func TestPercentile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	for _, tt := range []struct {
		values []float64
		p      int
		want   float64
	}{
		{hundred, 50, 50}, {hundred, 90, 90}, {hundred, 99, 99}, {hundred, 100, 100},
		{[]float64{7}, 50, 7}, {[]float64{7}, 99, 7}, {[]float64{1, 2}, 50, 1}, {[]float64{1, 2},
			90, 2}, {nil, 50, 0},
	} {
		if got := percentile(tt.values, tt.p); got != tt.want {
			t.Errorf("percentile(%v, %d) = %v, want %v", tt.values, tt.p, got, tt.want)
		}
	}
}

func TestMeasureShowsErrors(t *testing.T) {
	b := &bench{}
	var s series
	s.duration(3 * time.Millisecond)
	s.duration(time.Millisecond)
	b.failed(&s, errors.New("boom"))
	want := Measure{Name: "x", Unit: "ms", N: 2, Errors: 1, P50: 1, P90: 3, P99: 3, Max: 3}
	if diff := cmp.Diff(want, s.measure("x", "ms", "")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"boom"}, b.report.Failures); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
}

func TestUsageComparesTheSameSandbox(t *testing.T) {
	at := func(id, state string, seconds float64, bytes int64) api.SandboxStats {
		return api.SandboxStats{ID: id, State: state, CPUSeconds: &seconds, MemoryBytes: &bytes}
	}
	before := api.PoolStatus{Sandboxes: []api.SandboxStats{at("a", "ready", 1, 0),
		at("b", "claimed", 1, 0)}}
	after := api.PoolStatus{Sandboxes: []api.SandboxStats{at("a", "ready", 1.5, 1<<20),
		at("b", "claimed", 9, 9<<20), at("c", "ready", 5, 3<<20)}}
	memory, cpu := usage(before, after, "ready", 10*time.Second)
	if diff := cmp.Diff([]float64{1, 3}, memory.values); diff != "" {
		t.Errorf("memory (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]float64{5}, cpu.values); diff != "" || cpu.errors != 1 {
		t.Errorf("CPU, %d errors (-want +got):\n%s", cpu.errors, diff)
	}
}
