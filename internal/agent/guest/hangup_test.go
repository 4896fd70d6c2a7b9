package guest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// leave executes code for a caller that leaves after a time, before there can be an answer.
func (s *sandbox) leave(t testing.TB, after time.Duration, code string) {
	t.Helper()
	ctx, cancel := contextFor(t, after)
	defer cancel()
	if res, err := s.Execute(ctx, agent.ExecuteRequest{Code: code}); !errors.Is(err,
		context.DeadlineExceeded) {
		t.Errorf("%q: %+v, %v after its caller left", code, res, err)
	}
}

// promptly executes a cell, which must not wait for those that were left.
func (s *sandbox) promptly(t testing.TB, after, code, want string) {
	t.Helper()
	begin := time.Now()
	res := s.run(t, code)
	if took := time.Since(begin); res.Text != want || res.KernelRestarted || took > 5*time.Minute {
		t.Errorf("after %s: %q after %v, kernel lost %v, error %+v; want %q", after, res.Text,
			took, res.KernelRestarted, res.Error, want)
	}
}

// TestCallerLeaves: a cell whose caller is gone is interrupted until it yields; the state
// is kept, and the next cell does not wait for the end of the first.
func TestCallerLeaves(t *testing.T) {
	s := start(t)
	s.run(t, "kept = 1\nimport time")
	for _, code := range []string{
		"time.sleep(600)",
		"while True: pass",
		"!sleep 600",
		"await __import__('asyncio').sleep(600)",
		"display(1); time.sleep(600)",
		"try: time.sleep(600)\nexcept KeyboardInterrupt: time.sleep(600)",
	} {
		s.leave(t, 300*time.Millisecond, code)
		s.promptly(t, code, "kept", "1")
	}
	enough, begin := errors.New("enough"), time.Now()
	err := s.ExecuteStream(t.Context(), agent.ExecuteRequest{Code: "print('go'); time.sleep(600)"},
		func(agent.Event) error {
			return enough
		})
	if !errors.Is(err, enough) || time.Since(begin) > 5*time.Minute {
		t.Errorf("a stream that was left: %v after %v", err, time.Since(begin))
	}
	s.promptly(t, "a stream", "kept", "1")
}

// TestCallerLeavesAtOnce: it does not matter how early a caller leaves.
func TestCallerLeavesAtOnce(t *testing.T) {
	s := start(t)
	s.run(t, "kept = 1\nimport time")
	for i := range 100 {
		after := time.Duration(i%25) * 100 * time.Microsecond
		s.leave(t, after, "time.sleep(30)")
		s.promptly(t, after.String(), "kept", "1")
	}
}

// TestChannelEnds: a host that hangs up on the standard input is noticed as well.
func TestChannelEnds(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, 300 * time.Millisecond} {
		near, far := socketPair(t)
		s := bootOn(t, far)
		_ = far.Close() // the agent has its own
		s.Client = agent.NewClient(s.dial, "a secret of tests")
		t.Cleanup(s.Close)
		if _, err := s.Init(t.Context(), agent.InitRequest{Secret: "a secret of tests",
			Seed: make([]byte, 32)}); err != nil {
			t.Fatal(err)
		}
		s.Attach(near)
		s.run(t, "kept = 1")
		s.leave(t, after, "import time; time.sleep(600)")
		s.promptly(t, after.String()+" on the channel", "kept", "1")
	}
}

const (
	// stubbornTime is how long stubborn runs.
	stubbornTime = 1500 * time.Millisecond
	// kernelTime is less than a new kernel takes to start, 150 ms on a fast machine.
	kernelTime = 100 * time.Millisecond
)

// stubborn is a cell that no interrupt ends, for a time, from when it prints. (It does not catch
// KeyboardInterrupt: that may come between two statements that are guarded.)
func stubborn(d time.Duration, last string) string {
	return fmt.Sprintf(`import os, signal, time
before = signal.signal(signal.SIGINT, lambda *_: None)
print("stubborn")
end = time.monotonic() + %f
while time.monotonic() < end: time.sleep(0.1)
signal.signal(signal.SIGINT, before)
%s`, d.Seconds(), last)
}

// abandon executes code for a caller that leaves when it has printed something.
func (s *sandbox) abandon(t testing.TB, code string) {
	t.Helper()
	enough := errors.New("enough")
	err := s.ExecuteStream(t.Context(), agent.ExecuteRequest{Code: code}, func(agent.Event) error {
		return enough
	})
	if !errors.Is(err, enough) {
		t.Errorf("%q: %v after its caller left", code, err)
	}
}

// awaitEnd waits for the end of a process.
func (s *sandbox) awaitEnd(t testing.TB, pid string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		all, err := s.Processes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(all, func(p agent.Process) bool {
			return fmt.Sprint(p.PID) == pid
		}) {
			return
		}
	}
	t.Errorf("process %s is still there", pid)
}

// TestGoneBeforeTheStart: a cell whose caller leaves while it waits, for another cell or for a new
// kernel, never runs.
func TestGoneBeforeTheStart(t *testing.T) {
	s := start(t)
	for name, busy := range map[string]func() (until time.Time){
		"another cell": func() time.Time {
			begin := time.Now()
			s.abandon(t, stubborn(stubbornTime, ""))
			return begin.Add(stubbornTime)
		},
		"the next kernel": func() time.Time {
			if res := s.run(t, "import os; os._exit(3)"); res.Outcome != agent.KernelDied {
				t.Errorf("the kernel did not die: %+v", res)
			}
			return time.Now().Add(kernelTime)
		},
		"a kernel that ended between cells": func() time.Time {
			s.awaitEnd(t, s.run(t, "import os, threading; "+
				"threading.Timer(0.2, os._exit, [7]).start(); os.getpid()").Text)
			return time.Now().Add(kernelTime)
		},
	} {
		conclusive := false
		for attempt := 0; attempt < 30 && !conclusive; attempt++ {
			mark := fmt.Sprintf("%s-%d", strings.ReplaceAll(name, " ", "-"), attempt)
			until := busy()
			for i := range 2 {
				s.leave(t, 20*time.Millisecond, fmt.Sprintf("open('%s-%d', 'w').close()\n"+
					"__import__('time').sleep(600)", mark, i))
			}
			conclusive = time.Now().Before(until) // else this machine was too slow to leave early
			res := s.run(t, "import glob; glob.glob('"+mark+"*')")
			if conclusive && res.Text != "[]" {
				t.Errorf("while it waited for %s its caller left, and it ran: %s, error %+v",
					name, res.Text, res.Error)
			}
		}
		if !conclusive {
			t.Errorf("%s: no caller left early enough to tell", name)
		}
	}
}

// TestStubbornAndLeft: a cell that no interrupt ends and nobody waits for is in the way of the next
// call for as long as that would let its own code run; then the kernel is replaced, and the answer
// says so.
func TestStubbornAndLeft(t *testing.T) {
	s := start(t)
	s.run(t, "kept = 1")
	forever := stubborn(10*time.Minute, "")
	s.abandon(t, forever)
	begin := time.Now()
	res := s.runFor(t, 2*time.Second, "'kept' in globals()")
	if took := time.Since(begin); res.Text != "False" || !res.KernelRestarted ||
		!strings.Contains(res.Notice, "did not react to interrupts") ||
		took < 1500*time.Millisecond || took > 5*time.Minute {
		t.Errorf("%+v after %v, error %+v", res, took, res.Error)
	}
	if res := s.run(t, "kept = 1"); res.KernelRestarted || res.Notice != "" {
		t.Errorf("it is said twice: %+v", res)
	}
	s.abandon(t, stubborn(stubbornTime, ""))
	if res := s.run(t, "kept"); res.Text != "1" || res.KernelRestarted {
		t.Errorf("a cell that ended within the patience of the next: %+v", res)
	}
	s.abandon(t, stubborn(time.Second, "os._exit(3)"))
	if res := s.run(t, "1"); res.Text != "1" || !res.KernelRestarted || res.Notice == "" {
		t.Errorf("a kernel that ended under a cell that was left: %+v", res)
	}
	// Of two that wait, the less patient one decides.
	s.abandon(t, forever)
	done := make(chan error, 1)
	go func() {
		_, err := s.Execute(t.Context(), agent.ExecuteRequest{Code: "2", Timeout: time.Minute})
		done <- err
	}()
	begin = time.Now()
	s.runFor(t, time.Second, "1")
	if err := <-done; err != nil || time.Since(begin) > 5*time.Minute {
		t.Errorf("two that wait: %v after %v", err, time.Since(begin))
	}
}
