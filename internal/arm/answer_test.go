package arm

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestAnswer checks that an answer is what its pieces make, and what is left of it.
func TestAnswer(t *testing.T) {
	for _, text := range []string{"", "short", strings.Repeat("x", pieceSize-2),
		strings.Repeat("<é\x01", 5*pieceSize)} {
		want, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Encode(text)
		if err != nil || b.Size() != int64(len(want)) {
			t.Fatalf("%d bytes, %v; want %d", b.Size(), err, len(want))
		}
		rec, steps := httptest.NewRecorder(), 0
		err = b.Send(rec, 200, func() {
			steps++
			if left := int64(len(want) - rec.Body.Len()); b.Size() != left {
				t.Errorf("%d bytes are left, not %d", left, b.Size())
			}
		})
		if err != nil || rec.Body.String() != string(want) ||
			steps != (len(want)+pieceSize)/pieceSize {
			t.Errorf("%d bytes in %d steps, %v; want %d", rec.Body.Len(), steps, err, len(want))
		}
	}
	if _, err := Encode(func() {}); err == nil {
		t.Error("what is no JSON was encoded")
	}
}

// TestLeastPace checks that an honest slow caller may pause, and that none may crawl.
func TestLeastPace(t *testing.T) {
	start := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	for _, tt := range []struct {
		name  string
		after time.Duration
		sent  int64
		left  time.Duration
	}{
		{"at the start", 0, 0, pieceTime},
		{"a piece every 29 s", 58 * time.Second, 2 * pieceSize, -24 * time.Second},
		{"slow and steady", 100 * time.Second, 100 * leastPace, pieceTime},
		{"ahead of the pace", 100 * time.Second, 1 << 40, pieceTime},
		{"after a pause of 20 s", 40 * time.Second, 20 * leastPace, 10 * time.Second},
	} {
		now := start.Add(tt.after)
		if got := pieceDeadline(start, now, tt.sent).Sub(now); got != tt.left {
			t.Errorf("%s: %v left, want %v", tt.name, got, tt.left)
		}
	}
}
