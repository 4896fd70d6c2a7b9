package sandboxtest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/sandbox"
)

func dialRefused(s *suite) {
	h := s.start()
	conn, err := s.Runtime.Dial(s.ctx, h, 9) // discard: nothing in a template listens there
	if err == nil {
		defer conn.Close()
		if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			s.Fatalf("set deadline: %v", err)
		}
		if n, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			s.Errorf("Read from a port without listener = %d, %v; want an end", n, err)
		}
	}
	s.answers(h)
}

func dialDeadline(s *suite) {
	h := s.start()
	conn, err := s.Runtime.Dial(s.ctx, h, s.Template.Ready.HTTP.Port)
	if err != nil {
		s.Fatalf("Dial: %v", err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		s.Fatalf("set deadline: %v", err)
	}
	if _, err := conn.Read(make([]byte, 1)); !isTimeout(err) {
		s.Errorf("Read past its deadline: %v, want a timeout", err)
	}
}

func dialUnknown(s *suite) {
	_, err := s.Runtime.Dial(s.ctx, sandbox.Handle{ID: s.id()}, s.Template.Ready.HTTP.Port)
	s.wantClass(err, sandpool.Ended)
}

func dialCancelled(s *suite) {
	h := s.start()
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	if conn, err := s.Runtime.Dial(ctx, h, s.Template.Ready.HTTP.Port); !errors.Is(err,
		context.Canceled) {
		s.Errorf("Dial with a cancelled context = %v, %v", conn, err)
	}
}

func stopIdempotent(s *suite) {
	h := s.start()
	s.stop(sandbox.Handle{ID: h.ID})
	s.wantGone(h.ID)
	s.stop(h)
	s.stop(sandbox.Handle{ID: s.id()})
	_, err := s.Runtime.Dial(s.ctx, h, s.Template.Ready.HTTP.Port)
	s.wantClass(err, sandpool.Ended)
}

func stopConcurrent(s *suite) {
	h := s.start()
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			if err := s.Runtime.Stop(s.ctx, h); err != nil {
				s.Errorf("Stop beside others: %v", err)
			}
			s.wantGone(h.ID)
		})
	}
	wait.Wait()
}

func stopCloses(s *suite) {
	h := s.start()
	conn, err := s.Runtime.Dial(s.ctx, h, s.Template.Ready.HTTP.Port)
	if err != nil {
		s.Fatalf("Dial: %v", err)
	}
	defer conn.Close()
	s.stop(h)
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err == nil {
		if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			s.Errorf("Read of a stopped sandbox's stream: %v, want an end", err)
		}
	}
}

func waitStopped(s *suite) {
	h := s.start()
	one, two := s.wait(s.Runtime, h), s.wait(s.Runtime, h)
	s.stop(h)
	for _, exit := range []sandbox.Exit{<-one, <-two, <-s.wait(s.Runtime, h)} {
		if exit.Reason != sandbox.Stopped {
			s.Errorf("Wait of a stopped sandbox = %+v, want stopped", exit)
		}
	}
}

func waitUnknown(s *suite) {
	if exit := <-s.wait(s.Runtime, sandbox.Handle{ID: s.id()}); exit.Reason != sandbox.Killed {
		s.Errorf("Wait of an unknown sandbox = %+v, want killed", exit)
	}
}

func waitCancelled(s *suite) {
	h := s.start()
	ctx, cancel := context.WithTimeout(s.ctx, 20*time.Millisecond)
	defer cancel()
	if exit, err := s.Runtime.Wait(ctx, h); !errors.Is(err, context.DeadlineExceeded) {
		s.Errorf("Wait with a context that ends = %+v, %v", exit, err)
	}
	s.answers(h)
}

// adoptRunning uses a sandbox by its stored handle in a new process's engine.
func adoptRunning(s *suite) {
	h := s.start()
	next := s.Reopen(s.T)
	s.wantRunning(next, h.ID)
	stored := sandbox.Handle{ID: h.ID, Data: append([]byte(nil), h.Data...)}
	s.Runtime = next
	s.answers(stored)
	_, err := next.Start(s.ctx, h.ID, s.prepare())
	s.wantClass(err, sandpool.Conflict)
	exits := s.wait(next, stored)
	s.stop(stored)
	if exit := <-exits; exit.Reason != sandbox.Stopped {
		s.Errorf("Wait of an adopted, then stopped sandbox = %+v, want stopped", exit)
	}
	s.wantGone(h.ID)
}

func adoptCrashed(s *suite) {
	if s.Crash == nil {
		need.Lack(s, "the target cannot crash a sandbox")
	}
	h := s.start()
	next := s.Reopen(s.T)
	exits := s.wait(next, h)
	s.Crash(s.T, h.ID)
	if exit := <-exits; exit.Reason == sandbox.Stopped {
		s.Errorf("Wait of an adopted sandbox that crashed = %+v", exit)
	}
}

func crash(s *suite) {
	if s.Crash == nil {
		need.Lack(s, "the target cannot crash a sandbox")
	}
	h := s.start()
	exits := s.wait(s.Runtime, h)
	s.Crash(s.T, h.ID)
	if exit := <-exits; exit.Reason == sandbox.Stopped || exit.Reason == "" {
		s.Errorf("Wait of a sandbox that crashed = %+v", exit)
	}
	if f, ok := s.found(s.Runtime, h.ID); ok && f.Running {
		s.Errorf("List says that a crashed sandbox runs")
	}
	_, err := s.Runtime.Dial(s.ctx, h, s.Template.Ready.HTTP.Port)
	s.wantClass(err, sandpool.Ended)
	s.stop(h)
	s.wantGone(h.ID)
}

func leftBehind(s *suite) {
	if s.Leave == nil {
		need.Lack(s, "the target cannot leave remains")
	}
	id := s.id()
	s.Leave(s.T, id)
	next := s.Reopen(s.T)
	if f, ok := s.found(next, id); !ok || f.Running {
		s.Errorf("List says %+v, %v of the remains; want them listed, not running", f, ok)
	}
	if err := next.Stop(s.ctx, sandbox.Handle{ID: id}); err != nil {
		s.Errorf("Stop of remains: %v", err)
	}
	if f, ok := s.found(next, id); ok {
		s.Errorf("List has %+v after Stop", f)
	}
}

func stats(s *suite) {
	reader, ok := s.Runtime.(sandbox.StatsReader)
	if !ok {
		need.Lack(s, "the engine measures nothing")
	}
	h := s.start()
	got, err := reader.Stats(s.ctx, h)
	if err != nil || got.Memory <= 0 || got.CPUTime < 0 || got.Threads <= 0 || got.Cache < 0 ||
		got.Cache >= got.Memory {
		s.Errorf("Stats = %+v, %v; want the memory and the threads in use", got, err)
	}
	if got.Disk < 0 || got.Sent != 0 {
		s.Errorf("Stats = %+v; want what it has written, and that it has sent nothing", got)
	}
	s.stop(h)
	if got, err := reader.Stats(s.ctx, h); err == nil {
		s.Errorf("Stats of a stopped sandbox = %+v, no error", got)
	}
}

func weights(s *suite) {
	weigher, ok := s.Runtime.(sandbox.Weigher)
	if !ok {
		need.Lack(s, "the engine has no weights")
	}
	h := s.start()
	first, err := weigher.CPUTime(h.ID)
	for _, weight := range []int{1, 10000, 100} {
		err = errors.Join(err, weigher.SetWeight(h.ID, weight))
	}
	if err != nil {
		s.Error(err)
	}
	if next, err := weigher.CPUTime(h.ID); err != nil || first <= 0 || next < first {
		s.Errorf("CPUTime = %v, later %v, %v; want that of its start at least", first, next, err)
	}
	s.stop(h)
	if got, err := weigher.CPUTime(h.ID); err == nil {
		s.Errorf("CPUTime of a stopped sandbox = %v, no error", got)
	}
	if weigher.SetWeight(h.ID, 100) == nil {
		s.Error("SetWeight of a stopped sandbox: no error")
	}
}

func workingSet(s *suite) {
	recorder, ok := s.Runtime.(sandbox.WorkingSetRecorder)
	if !ok {
		need.Lack(s, "the engine learns nothing")
	}
	for range 2 { // the second time it is known
		h := s.start()
		if err := recorder.RecordWorkingSet(s.ctx, s.prepare(), h); err != nil {
			s.Errorf("RecordWorkingSet: %v", err)
		}
		s.answers(h)
		s.stop(h)
	}
}
