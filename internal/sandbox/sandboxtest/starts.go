package sandboxtest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

func prepareTwice(s *suite) {
	first := s.prepare()
	var wait sync.WaitGroup
	for range 2 {
		wait.Go(func() {
			again, err := s.Runtime.Prepare(s.ctx, s.Template, func(sandbox.Progress) {})
			if err != nil || again.Key != first.Key {
				s.Errorf("Prepare again = key %q, %v; want key %q", again.Key, err, first.Key)
			}
		})
	}
	wait.Wait()
	afresh, err := s.Reopen(s.T).Prepare(s.ctx, s.Template, nil)
	if err != nil || afresh.Key != first.Key {
		s.Errorf("Prepare after a restart = key %q, %v; want key %q", afresh.Key, err, first.Key)
	}
}

func prepareLimits(s *suite) {
	for field, zero := range map[string]func(*sandpool.Resources){
		"CPU":    func(l *sandpool.Resources) { l.CPU = 0 },
		"Memory": func(l *sandpool.Resources) { l.Memory = 0 },
		"PIDs":   func(l *sandpool.Resources) { l.PIDs = 0 },
		"Disk":   func(l *sandpool.Resources) { l.Disk = 0 },
	} {
		t := s.Template
		zero(&t.Limits)
		if _, err := s.Runtime.Prepare(s.ctx, t, nil); err == nil {
			s.Errorf("Prepare of a template without a limit of %s: no error", field)
		}
	}
}

func prepareCancelled(s *suite) {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	t := s.Template
	t.Env = append(t.Env[:len(t.Env):len(t.Env)], "SANDBOXTEST=cancelled")
	if _, err := s.Runtime.Prepare(ctx, t, nil); !errors.Is(err, context.Canceled) {
		s.Errorf("Prepare with a cancelled context: %v", err)
	}
}

func startAnswers(s *suite) {
	h := s.start()
	s.answers(h)
	s.wantRunning(s.Runtime, h.ID)
	if len(h.Data) == 0 {
		s.Error("the handle holds nothing to adopt the sandbox by")
	}
}

func startConflict(s *suite) {
	h := s.start()
	_, err := s.Runtime.Start(s.ctx, h.ID, s.prepare())
	s.wantClass(err, sandpool.Conflict)
	s.answers(h)
}

func startRace(s *suite) {
	id, p := s.id(), s.prepare()
	const racers = 4
	var wait sync.WaitGroup
	won := make(chan sandbox.Handle, racers)
	for range racers {
		wait.Go(func() {
			h, err := s.Runtime.Start(s.ctx, id, p)
			if err == nil {
				won <- h
				return
			}
			s.wantClass(err, sandpool.Conflict)
		})
	}
	wait.Wait()
	if len(won) != 1 {
		s.Fatalf("%d of %d starts of one id succeeded, want 1", len(won), racers)
	}
	s.answers(<-won)
}

func startCancelled(s *suite) {
	id, p := s.id(), s.prepare()
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	if _, err := s.Runtime.Start(ctx, id, p); !errors.Is(err, context.Canceled) {
		s.Errorf("Start with a cancelled context: %v", err)
	}
	s.wantGone(id)
}

// startCutShort ends the context at several points of a Start. Whether the
// Start wins is open, but what it says must be true.
func startCutShort(s *suite) {
	p := s.prepare()
	for _, after := range []time.Duration{time.Millisecond, 20 * time.Millisecond,
		70 * time.Millisecond} {
		id := s.id()
		ctx, cancel := context.WithTimeout(s.ctx, after)
		h, err := s.Runtime.Start(ctx, id, p)
		cancel()
		if err == nil {
			s.answers(h)
			continue
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			s.Errorf("Start cut short after %s: %v, want the context's error", after, err)
		}
		s.wantGone(id)
	}
}

// startStopped stops a sandbox as soon as anything of it exists.
func startStopped(s *suite) {
	id, p := s.id(), s.prepare()
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Either outcome is right; what counts is that nothing is left.
		_, _ = s.Runtime.Start(s.ctx, id, p)
	}()
	s.until("the sandbox is listed or started", func() bool {
		select {
		case <-done:
			return true
		default:
			_, ok := s.found(s.Runtime, id)
			return ok
		}
	})
	s.stop(sandbox.Handle{ID: id})
	s.wantGone(id)
	<-done
	s.wantGone(id)
}

func startMany(s *suite) {
	const n = 4
	p := s.prepare()
	var wait sync.WaitGroup
	for range n {
		id := s.id()
		wait.Go(func() {
			h, err := s.Runtime.Start(s.ctx, id, p)
			if err != nil {
				s.Errorf("Start(%s) beside others: %v", id, err)
				return
			}
			if err := s.get(h); err != nil {
				s.Errorf("sandbox %s beside others: %v", id, err)
			}
			if err := s.Runtime.Stop(s.ctx, h); err != nil {
				s.Errorf("Stop(%s) beside others: %v", id, err)
			}
			s.wantGone(id)
		})
	}
	wait.Wait()
}
