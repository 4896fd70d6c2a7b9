// Package sandboxtest is the conformance suite of sandbox.Runtime, and Fake, an
// engine in memory whose faults can be ordered. The suite asks what the
// contract's comments promise and nothing else, so that the fake and every real
// engine pass the same one, and what the pool is tested against is what it runs on.
package sandboxtest

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// Target is an engine under test. The suite removes every sandbox it starts and
// looks at no other, so several tests may share an engine's state. A target without one of the
// functions but Reopen lacks the tests that need it, which package need does not take lightly.
type Target struct {
	Runtime sandbox.Runtime
	// Template passes its readiness check, which is one by HTTP, and answers 200 to the same
	// request and to one for "/" at any later time. It has no channel; with one its first process
	// sends back what it reads there. With the variable GUEST_SIGNALS it writes the name of a
	// signal there as a line, and ends, or does not if the value is "deaf". Its root has Users and
	// Groups.
	Template sandbox.Template
	// Reopen returns a new Runtime value on the same state, as a restart does.
	Reopen func(t *testing.T) sandbox.Runtime
	// Crash ends a running sandbox from outside, without the engine.
	Crash func(t *testing.T, id sandbox.ID)
	// Leave makes the remains of a Start that kill -9 cut short.
	Leave func(t *testing.T, id sandbox.ID)
	// Input waits until the first process of a running sandbox has met the end of its standard
	// input, and returns how many bytes it has read there.
	Input func(ctx context.Context, id sandbox.ID) (int64, error)
	// Self asks the first process of a running sandbox.
	Self func(ctx context.Context, h sandbox.Handle) (Self, error)
	// Quit makes the first process exit with a code.
	Quit func(t *testing.T, h sandbox.Handle, code int)
	// Say makes the first process write text to its standard output, or its standard error.
	Say func(t *testing.T, h sandbox.Handle, toErr bool, text string)
	// Exit is the command line of a program in the root that prints "code" and exits with one.
	Exit func(code int) []string
	// Without are the optional abilities that the engine says it does not have. The suite checks
	// that it says so, in place of what they do.
	Without []Ability
}

// limit is the deadline of a subtest: far beyond any engine's need.
const limit = 2 * time.Minute

// Run runs the suite, with what open returns for each subtest.
func Run(t *testing.T, open func(t *testing.T) Target) {
	tests := []struct {
		name string
		run  func(*suite)
	}{
		{"Prepare/twice", prepareTwice},
		{"Prepare/needs limits", prepareLimits},
		{"Prepare/cancelled", prepareCancelled},
		{"Start/answers", startAnswers},
		{"Start/conflict", startConflict},
		{"Start/race of one id", startRace},
		{"Start/cancelled", startCancelled},
		{"Start/cut short", startCutShort},
		{"Start/stopped meanwhile", startStopped},
		{"Start/many at once", startMany},
		{"Dial/refused", dialRefused},
		{"Dial/deadline", dialDeadline},
		{"Dial/unknown", dialUnknown},
		{"Dial/cancelled", dialCancelled},
		{"Channel/echoes", channelEchoes},
		{"Channel/of each clone", channelApart},
		{"Channel/race", channelRace},
		{"Channel/none", channelNone},
		{"Channel/hung up", channelHungUp},
		{"Channel/adopted", channelAdopted},
		{"Channel/ended", channelStopped},
		{"Channel/not taken", channelNotTaken},
		{"Process/user", processUser},
		{"Process/secrets", processSecrets},
		{"Process/host files", processFiles},
		{"Probe/tcp", probeTCP},
		{"Probe/program", probeExec},
		{"Probe/never", probeNever},
		{"Exec", execCodes},
		{"Log/kept", logKept},
		{"Log/followed", logFollowed},
		{"Log/none", logNone},
		{"Stop/signal", stopSignal},
		{"Stop/deaf", stopDeaf},
		{"Stop/idempotent", stopIdempotent},
		{"Stop/at once", stopConcurrent},
		{"Stop/closes streams", stopCloses},
		{"Wait/stopped", waitStopped},
		{"Wait/unknown", waitUnknown},
		{"Wait/cancelled", waitCancelled},
		{"Wait/exited", waitExited},
		{"Adopt/running", adoptRunning},
		{"Adopt/crashed", adoptCrashed},
		{"Crash", crash},
		{"Remains", leftBehind},
		{"Stats", stats},
		{"Weights", weights},
		{"Working set", workingSet},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			t.Cleanup(cancel)
			s := &suite{T: t, Target: open(t), ctx: ctx}
			if of := abilityOf(test.name); slices.Contains(s.Without, of) {
				s.absent(of)
				return
			}
			test.run(s)
		})
	}
}

// suite is one subtest.
type suite struct {
	*testing.T
	Target
	ctx context.Context
}

// id returns a new id, whose sandbox is stopped when the test ends.
func (s *suite) id() sandbox.ID {
	id := sandbox.ID("t" + strings.ToLower(rand.Text()[:15]))
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if err := s.Runtime.Stop(ctx, sandbox.Handle{ID: id}); err != nil {
			s.Errorf("Stop(%s) at the end: %v", id, err)
		}
	})
	return id
}

func (s *suite) prepare() sandbox.Prepared {
	s.Helper()
	p, err := s.Runtime.Prepare(s.ctx, s.Template, nil)
	if err != nil {
		s.Fatalf("Prepare: %v", err)
	}
	return p
}

func (s *suite) start() sandbox.Handle {
	s.Helper()
	h, err := s.Runtime.Start(s.ctx, s.id(), s.prepare())
	if err != nil {
		s.Fatalf("Start: %v", err)
	}
	return h
}

func (s *suite) stop(h sandbox.Handle) {
	s.Helper()
	if err := s.Runtime.Stop(s.ctx, h); err != nil {
		s.Fatalf("Stop(%s): %v", h.ID, err)
	}
}

// answers fails the test unless the sandbox answers a request of its readiness check.
func (s *suite) answers(h sandbox.Handle) {
	s.Helper()
	if err := s.get(h); err != nil {
		s.Fatalf("sandbox %s: %v", h.ID, err)
	}
}

// answersAt is answers for a port and a path.
func (s *suite) answersAt(h sandbox.Handle, port int, path string) {
	s.Helper()
	if err := s.getAt(h, port, path); err != nil {
		s.Fatalf("sandbox %s: %v", h.ID, err)
	}
}

func (s *suite) get(h sandbox.Handle) error {
	return s.getAt(h, s.Template.Ready.HTTP.Port, s.Template.Ready.HTTP.Path)
}

func (s *suite) getAt(h sandbox.Handle, port int, path string) error {
	conn, err := s.Runtime.Dial(s.ctx, h, port)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	request, err := http.NewRequestWithContext(s.ctx, http.MethodGet, "http://sandbox"+path, nil)
	if err != nil {
		return err
	}
	request.Close = true
	if err := request.Write(conn); err != nil {
		return fmt.Errorf("write request: %w", err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("answer is %s", answer.Status)
	}
	return nil
}

// found returns what List of r says of id.
func (s *suite) found(r sandbox.Runtime, id sandbox.ID) (f sandbox.Found, ok bool) {
	s.Helper()
	list, err := r.List(s.ctx)
	if err != nil {
		s.Fatalf("List: %v", err)
	}
	for _, each := range list {
		if each.ID == id {
			if ok {
				s.Errorf("List has %s twice", id)
			}
			f, ok = each, true
		}
	}
	return f, ok
}

func (s *suite) wantGone(id sandbox.ID) {
	s.Helper()
	if f, ok := s.found(s.Runtime, id); ok {
		s.Errorf("List still has %+v", f)
	}
}

func (s *suite) wantRunning(r sandbox.Runtime, id sandbox.ID) {
	s.Helper()
	if f, ok := s.found(r, id); !ok || !f.Running {
		s.Errorf("List says %+v, %v of %s; want it running", f, ok, id)
	}
}

func (s *suite) wantClass(err error, want sandpool.Class) {
	s.Helper()
	if err == nil || sandpool.ClassOf(err) != want {
		s.Errorf("error is %v (class %s), want class %s", err, sandpool.ClassOf(err), want)
	}
}

// wait returns what Wait says, in a channel.
func (s *suite) wait(r sandbox.Runtime, h sandbox.Handle) <-chan sandbox.Exit {
	exits := make(chan sandbox.Exit, 1)
	go func() {
		exit, err := r.Wait(s.ctx, h)
		if err != nil {
			s.Errorf("Wait(%s): %v", h.ID, err)
		}
		exits <- exit
	}()
	return exits
}

// until polls for a condition that another goroutine brings about.
func (s *suite) until(what string, ok func() bool) {
	s.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			s.Fatalf("waited in vain until %s", what)
		}
	}
}

// isTimeout reports whether err is that of a deadline on a connection.
func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// Ability is something that an engine may do without, if it says so.
type Ability string

// The abilities.
const (
	Channels    Ability = "channel"     // refused by Prepare as Unsupported
	Logs        Ability = "log"         // no sandbox.LogReader, or with less than it promises
	Measures    Ability = "stats"       // no sandbox.StatsReader, or the same
	Weights     Ability = "weights"     // no sandbox.Weigher
	WorkingSets Ability = "working set" // no sandbox.WorkingSetRecorder
)

// abilityOf says which ability a test is of; empty means what every engine does.
func abilityOf(test string) Ability {
	first, _, _ := strings.Cut(strings.ToLower(test), "/")
	if test == "Stop/signal" { // it listens at the channel
		return Channels
	}
	switch a := Ability(first); a {
	case Channels, Logs, Measures, Weights, WorkingSets:
		return a
	}
	return ""
}

// absent checks that the engine says of an ability that it does not have it.
func (s *suite) absent(a Ability) {
	s.Helper()
	has := false
	switch a {
	case Channels:
		s.Template.Channel = true
		_, err := s.Runtime.Prepare(s.ctx, s.Template, nil)
		s.wantClass(err, sandpool.Unsupported)
	case WorkingSets:
		_, has = s.Runtime.(sandbox.WorkingSetRecorder)
	}
	if has {
		s.Errorf("the engine has %q, which its target says it does not have", a)
	}
}
