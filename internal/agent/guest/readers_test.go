package guest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// TestReaders: so many callers follow a log, an execution or an end at a time, and one more is
// refused until one of them leaves.
func TestReaders(t *testing.T) {
	s := start(t)
	c := s.Client
	if _, err := c.StartProcess(t.Context(), agent.ProcessRequest{ID: "p",
		Args: []string{"sh", "-c", "echo begun; sleep 1000"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Start(t.Context(), agent.StartRequest{ID: "e", ExecuteRequest: agent.
		ExecuteRequest{Code: "print('begun', flush=True); import time; time.sleep(1000)",
		Timeout: time.Hour}}); err != nil {
		t.Fatal(err)
	}
	for name, follow := range map[string]func(ctx context.Context, begun func()) error{
		"log": func(ctx context.Context, begun func()) error {
			return c.ProcessLogs(ctx, "p", 0, true, func(agent.ProcessRecord) error {
				begun()
				return nil
			})
		},
		"events": func(ctx context.Context, begun func()) error {
			return c.Follow(ctx, "e", 0, nil, func(agent.Record) error {
				begun()
				return nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, leave := context.WithTimeout(t.Context(), time.Minute)
			defer leave()
			begun := make(chan struct{}, agent.MaxReaders)
			ended := make(chan error, agent.MaxReaders)
			for range agent.MaxReaders {
				tell := sync.OnceFunc(func() { begun <- struct{}{} })
				go func() { ended <- follow(ctx, tell) }()
			}
			for range agent.MaxReaders {
				select {
				case <-begun:
				case err := <-ended:
					t.Fatalf("a reader ended before its first record: %v", err)
				}
			}
			var refused *sandpool.Error
			if err := follow(t.Context(), func() {}); !errors.As(err, &refused) ||
				refused.Code != "TooManyReaders" {
				t.Errorf("one more: %v", err)
			}
			leave()
			for range agent.MaxReaders {
				<-ended //nolint:errcheck // all have left
			}
			s.until(t, func() error {
				ctx, leave := context.WithTimeout(t.Context(), 5*time.Second)
				defer leave()
				if err := follow(ctx, leave); errors.As(err, &refused) {
					return err
				}
				return nil
			})
		})
	}
}
