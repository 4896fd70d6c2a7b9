package body

import (
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestPace checks that a body may pause, and may neither stall nor crawl.
func TestPace(t *testing.T) {
	start := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	const stall = 30 * time.Second
	for _, tt := range []struct {
		name  string
		after time.Duration // since the start
		read  int64
		left  time.Duration
	}{
		{"nothing read yet", 0, 0, stall},
		{"nothing read for a while", 20 * time.Second, 0, 10 * time.Second},
		{"a byte now and then", 29 * time.Second, 29, time.Second},
		{"well on its way", 29 * time.Second, 10 << 20, stall},
		{"slow and steady", 100 * time.Second, 100 * slowest, stall},
		{"credit is bounded by the stall limit", time.Second, 1 << 40, stall},
	} {
		s := &Reader{started: start, stall: stall, read: tt.read}
		now := start.Add(tt.after)
		if got := s.deadline(now).Sub(now); got != tt.left {
			t.Errorf("%s: %v left, want %v", tt.name, got, tt.left)
		}
	}
	// Without a connection there is no deadline to set, and reading works.
	if data, err := io.ReadAll(New(httptest.NewRecorder(), io.LimitReader(strings.NewReader("0123456789abcdef"), 10),
		stall)); len(data) != 10 || err != nil {
		t.Errorf("read %d bytes, %v", len(data), err)
	}
}
