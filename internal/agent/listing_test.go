package agent_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/internal/agent"
)

// taking is a Room that says how much it was asked for.
type taking struct {
	asked int64
	err   error
}

func (*taking) Sent() {}
func (r *taking) Take(_ context.Context, bytes int64) error {
	r.asked += bytes
	return r.err
}

// TestRoomForListings: a list that turns out to be large takes room for the longest before more of
// it is read, and one that is not takes none.
func TestRoomForListings(t *testing.T) {
	var size int
	c := clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `[{"name":"`+strings.Repeat("x", size)+`"}]`)
	})
	full := errors.New("full")
	for _, tt := range []struct {
		size  int
		room  *taking
		asked int64
		err   error
	}{
		{1000, &taking{}, 0, nil},
		{agent.LargeAnswer - 100, &taking{}, 0, nil},
		{agent.LargeAnswer + 100, &taking{}, 32 << 20, nil},
		{agent.LargeAnswer + 100, &taking{err: full}, 32 << 20, full},
	} {
		size = tt.size
		files, err := c.List(t.Context(), "", true, tt.room)
		if !errors.Is(err, tt.err) || tt.room.asked != tt.asked ||
			err == nil && len(files[0].Name) != size {
			t.Errorf("%d bytes: %d files, %v; room for %d", size, len(files), err, tt.room.asked)
		}
	}
}
