package agent_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/internal/agent"
)

// scarce is a room that has err for everybody.
type scarce struct {
	err   error
	taken []int64
	sent  int
}

func (s *scarce) Sent() { s.sent++ }

func (s *scarce) Take(_ context.Context, n int64) error {
	s.taken = append(s.taken, n)
	return s.err
}

// TestRoomOfAnswers checks that a large answer waits for room before it is read, a
// small one does not, and that one without room breaks the link alone.
func TestRoomOfAnswers(t *testing.T) {
	text := strings.Repeat("x", agent.LargeAnswer)
	c := clientSaying(t, func(io.Writer) {}, func(w io.Writer) {
		frame, err := agent.EncodeFrame(agent.Answer{Result: &agent.ExecuteResult{Outcome: agent.OK,
			Stdout: text}})
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(frame)
	})
	room := &scarce{}
	for range 2 {
		if res, err := c.Execute(t.Context(), agent.ExecuteRequest{Code: "1", Room: room}); err !=
			nil || res.Stdout != text {
			t.Fatalf("with room: %d bytes, %v", len(res.Stdout), err)
		}
	}
	if len(room.taken) != 2 || room.taken[0] <= agent.LargeAnswer {
		t.Errorf("room was taken for %v, want twice, for more than %d bytes", room.taken,
			agent.LargeAnswer)
	}
	if room.sent != 2 {
		t.Errorf("requests were sent %d times, want 2", room.sent)
	}
	room.err = errors.New("no room")
	if _, err := c.Execute(t.Context(), agent.ExecuteRequest{Code: "1", Room: room}); !errors.Is(
		err, room.err) {
		t.Errorf("without room: %v", err)
	}
	text = "small"
	if res, err := c.Execute(t.Context(), agent.ExecuteRequest{Code: "1", Room: room}); err !=
		nil || res.Stdout != text {
		t.Errorf("a small answer after it: %q, %v", res.Stdout, err)
	}
}

// TestLargeFrames checks that a reader asks once about each large frame, however it arrives.
func TestLargeFrames(t *testing.T) {
	var wire bytes.Buffer
	for _, text := range []string{strings.Repeat("a", 1<<20), "b", strings.Repeat("c", 2<<20)} {
		frame, err := agent.EncodeFrame(text)
		if err != nil {
			t.Fatal(err)
		}
		wire.Write(frame)
	}
	var asked []int64
	r := agent.NewFrameReader(&wire, 4<<20)
	r.Large = func(size int64) error {
		asked = append(asked, size)
		return nil
	}
	var text string
	for _, want := range []int{1 << 20, 1, 2 << 20} {
		if err := r.Next(&text); err != nil || len(text) != want {
			t.Fatalf("read %d bytes and %v, want %d", len(text), err, want)
		}
	}
	if len(asked) != 2 || asked[0] != 1<<20+2 || asked[1] != 2<<20+2 {
		t.Errorf("asked about %v", asked)
	}
}
