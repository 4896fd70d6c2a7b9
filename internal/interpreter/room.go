package interpreter

import (
	"context"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/sandpool/sandpool"
)

const (
	// allRoom is the bytes of large answers that are in work at the same time, as they come
	// from the sandbox; what is made of them takes up to ten times as much.
	allRoom = 64 << 20
	// roomTime is how long an answer waits for room.
	roomTime = 30 * time.Second
)

// room bounds the memory of large answers: each has a share of it from before it
// is read until it has been written. Small ones pass by.
type room struct{ left *semaphore.Weighted }

func newRoom() *room { return &room{semaphore.NewWeighted(allRoom)} }

// share is what one answer has of the room. It implements agent.Room.
type share struct {
	of   *room
	size int64
}

// Take waits until there is room. An answer that is larger than all of it takes all.
func (s *share) Take(ctx context.Context, size int64) error {
	size = min(size, allRoom)
	wait, cancel := context.WithTimeout(ctx, roomTime)
	defer cancel()
	if err := s.of.left.Acquire(wait, size); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &sandpool.Error{Class: sandpool.Unavailable, Err: err,
			Message: "The code ran, but the server has too many large answers to send. Write large results to files in /mnt/data and download them."}
	}
	s.size += size
	return nil
}

func (s *share) giveBack() { s.of.left.Release(s.size) }
