package sandboxtest

import (
	"context"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// NetworkTarget is an engine under the test of what sandboxes reach.
type NetworkTarget struct {
	Target
	// One and Other are servers outside, as ADDRESS:PORT, both on the public network.
	One, Other string
	// Hold has the first process of a sandbox open a connection, and says whether it is open.
	Hold func(ctx context.Context, h sandbox.Handle, to string) (bool, error)
	// Carries says whether bytes come back by the connection that was held last.
	Carries func(ctx context.Context, h sandbox.Handle) (bool, error)
}

// RunNetwork holds an engine with sandbox.NetworkSetter and sandbox.RefusalReader to what they
// promise.
func RunNetwork(t *testing.T, open func(t *testing.T) NetworkTarget) {
	for _, test := range []struct {
		name string
		run  func(*networkSuite)
	}{
		{"disabled", networkDisabled},
		{"allowed", networkAllowed},
		{"changed", networkChanged},
		{"taken over", networkAdopted},
		{"wrong", networkWrong},
		{"counted", networkCounted},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			t.Cleanup(cancel)
			target := open(t)
			test.run(&networkSuite{suite{T: t, Target: target.Target, ctx: ctx}, target})
		})
	}
}

type networkSuite struct {
	suite
	net NetworkTarget
}

// begin starts a sandbox that may reach what is allowed; nothing means everything.
func (s *networkSuite) begin(status sandpool.NetworkStatus, allow ...string) sandbox.Handle {
	s.Helper()
	s.Template.Network = sandpool.Network{Status: status, Allow: allow}
	return s.start()
}

// want fails the test if a server is reached that must not be, or the other way round.
func (s *networkSuite) want(what string, h sandbox.Handle, to string, want bool) {
	s.Helper()
	got, err := s.net.Hold(s.ctx, h, to)
	if err != nil {
		s.Fatalf("%s: ask the first process: %v", what, err)
	}
	if got != want {
		s.Errorf("%s: %s is reached: %v", what, to, got)
	}
}

func (s *networkSuite) set(h sandbox.Handle, status sandpool.NetworkStatus, allow ...string) {
	s.Helper()
	setter, ok := s.Runtime.(sandbox.NetworkSetter)
	if !ok {
		s.Fatal("the engine is no NetworkSetter")
	}
	err := setter.SetNetwork(s.ctx, h, sandpool.Network{Status: status, Allow: allow})
	if err != nil {
		s.Fatalf("SetNetwork: %v", err)
	}
}

func (s *networkSuite) carries(what string, h sandbox.Handle, want bool) {
	s.Helper()
	got, err := s.net.Carries(s.ctx, h)
	if err != nil || got != want {
		s.Errorf("%s: the open connection carries: %v, %v", what, got, err)
	}
}

// A sandbox without a network reaches nothing, and does not get one later.
func networkDisabled(s *networkSuite) {
	h := s.begin(sandpool.EgressDisabled, s.net.One)
	s.want("disabled", h, s.net.One, false)
	s.set(h, sandpool.EgressEnabled)
	s.want("enabled too late", h, s.net.One, false)
	s.set(h, sandpool.EgressDisabled)
	s.want("disabled again", h, s.net.One, false)
}

func networkAllowed(s *networkSuite) {
	all := s.begin(sandpool.EgressEnabled)
	s.want("everything public", all, s.net.One, true)
	s.want("everything public", all, s.net.Other, true)
	some := s.begin(sandpool.EgressEnabled, s.net.One)
	s.want("one", some, s.net.One, true)
	s.want("one", some, s.net.Other, false)
}

// A change holds when the call returns, for open connections as well.
func networkChanged(s *networkSuite) {
	h := s.begin(sandpool.EgressEnabled, s.net.One)
	s.want("before", h, s.net.One, true)
	s.carries("before", h, true)
	s.set(h, sandpool.EgressEnabled, s.net.One, s.net.Other)
	s.carries("more is allowed", h, true)
	s.set(h, sandpool.EgressEnabled, s.net.Other)
	s.carries("it is taken back", h, false)
	s.want("after", h, s.net.One, false)
	s.want("after", h, s.net.Other, true)
	s.set(h, sandpool.EgressDisabled)
	s.carries("nothing is allowed", h, false)
	s.want("nothing is allowed", h, s.net.Other, false)
	s.set(h, sandpool.EgressEnabled, s.net.Other)
	s.want("allowed again", h, s.net.Other, true)
}

// A process that takes the engine's state over goes on with what was set last.
func networkAdopted(s *networkSuite) {
	h := s.begin(sandpool.EgressEnabled, s.net.One)
	s.set(h, sandpool.EgressEnabled, s.net.Other)
	s.want("before", h, s.net.Other, true)
	s.Runtime = s.Reopen(s.T)
	s.carries("taken over", h, true)
	s.want("taken over", h, s.net.Other, true)
	s.want("taken over", h, s.net.One, false)
	s.set(h, sandpool.EgressEnabled, s.net.One)
	s.want("changed by the next", h, s.net.One, true)
	s.want("changed by the next", h, s.net.Other, false)
}

// What cannot be had is an error, and changes nothing.
func networkWrong(s *networkSuite) {
	h := s.begin(sandpool.EgressEnabled, s.net.One)
	setter, _ := s.Runtime.(sandbox.NetworkSetter)
	wrong := sandpool.Network{Status: sandpool.EgressEnabled,
		Allow: []string{"https://example.com/"}}
	if err := setter.SetNetwork(s.ctx, h, wrong); sandpool.ClassOf(err) != sandpool.Invalid {
		s.Errorf("SetNetwork of a wrong entry: %v", err)
	}
	s.want("after a wrong entry", h, s.net.One, true)
	s.want("after a wrong entry", h, s.net.Other, false)
	s.stop(h)
	if err := setter.SetNetwork(s.ctx, h,
		sandpool.Network{}); sandpool.ClassOf(err) != sandpool.Ended {
		s.Errorf("SetNetwork of a sandbox that is gone: %v", err)
	}
}

// countLimit is how long a refusal may take to be counted.
const countLimit = 20 * time.Second

func networkCounted(s *networkSuite) {
	h := s.begin(sandpool.EgressEnabled, s.net.One)
	reader, ok := s.Runtime.(sandbox.RefusalReader)
	if !ok {
		s.Fatal("the engine is no RefusalReader")
	}
	if got, err := reader.Refusals(s.ctx, h); err != nil || got.Packets+got.Names != 0 {
		s.Errorf("before anything was refused: %+v, %v", got, err)
	}
	s.want("one", h, s.net.Other, false)
	host, service, err := net.SplitHostPort(s.net.Other)
	if err != nil {
		s.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(countLimit); ; <-tick.C {
		got, err := reader.Refusals(s.ctx, h)
		found := slices.ContainsFunc(got.Recent, func(r sandpool.Refusal) bool {
			return r.Host == host && strconv.Itoa(int(r.Port)) == service &&
				r.Protocol == "tcp" && r.Count > 0
		})
		if err == nil && got.Packets > 0 && found {
			return
		}
		if err != nil || time.Now().After(end) {
			s.Fatalf("what was refused is %+v, %v", got, err)
		}
	}
}
