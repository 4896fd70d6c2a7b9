package pool_test

import (
	"context"
	"errors"
	"sync"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

// storeFaults is a store whose Claim, Stopping and PutPool can be made to fail.
type storeFaults struct {
	store.Store
	mu       sync.Mutex
	claim    error
	stopping error
	put      error
	asked    int             // claims
	hold     <-chan struct{} // claims wait until it is closed
	silent   bool            // Stopping has no answer
}

func (s *storeFaults) fail(claim, stopping error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claim, s.stopping = claim, stopping
}

func (s *storeFaults) silence(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = on
}

func (s *storeFaults) failPut(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put = err
}

func (s *storeFaults) PutPool(ctx context.Context, p sandpool.Pool, secrets sandpool.Secrets,
	epoch int64) error {
	s.mu.Lock()
	err := s.put
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.Store.PutPool(ctx, p, secrets, epoch)
}

func (s *storeFaults) claims() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *storeFaults) Claim(ctx context.Context, r sandpool.ClaimRequest) (sandpool.Sandbox,
	sandpool.ClaimOutcome, error) {
	s.mu.Lock()
	s.asked++
	err, hold := s.claim, s.hold
	s.mu.Unlock()
	if hold != nil {
		<-hold
	}
	if err != nil {
		return sandpool.Sandbox{}, sandpool.ClaimFull, err
	}
	return s.Store.Claim(ctx, r)
}

func (s *storeFaults) Stopping(ctx context.Context, id sandpool.SandboxID, reason string,
	epoch int64) error {
	s.mu.Lock()
	err, silent := s.stopping, s.silent
	s.mu.Unlock()
	if silent {
		<-ctx.Done()
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	return s.Store.Stopping(ctx, id, reason, epoch)
}

// epoch is that of the pool's present owner, by way of a claim that changes nothing.
func (w *world) epoch() int64 {
	w.Helper()
	for epoch := range int64(100) {
		_, _, err := w.store.Store.Claim(w.Context(), sandpool.ClaimRequest{Pool: python,
			Identifier: "nobody", Epoch: epoch})
		if !errors.Is(err, store.ErrNotOwner) {
			w.must(err)
			return epoch
		}
	}
	w.Fatal("the pool's epoch is beyond all that the test does")
	return 0
}
