// Package storetest is the conformance suite of pool.Store: what every store
// must do so that the pool's promises hold, and a Porcupine model of claims, against which
// histories of the store and of the pool itself are checked.
package storetest

import (
	"crypto/rand"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pool"
)

// Target is an empty store under test.
type Target struct {
	Store pool.Store
	// Reopen returns another store on the same state, as a restart does. The first may still be used.
	Reopen func(t *testing.T) pool.Store
}

// Run runs the suite, with a new store from open for each subtest.
func Run(t *testing.T, open func(t *testing.T) Target) {
	tests := []struct {
		name string
		run  func(*suite)
	}{
		{"Pools/keeps every field", poolFields},
		{"Pools/case of ids", poolCase},
		{"Pools/delete", poolDelete},
		{"Sandboxes/life", sandboxLife},
		{"Sandboxes/order", sandboxOrder},
		{"Sandboxes/insert", sandboxInsert},
		{"Sandboxes/forbidden changes", sandboxForbidden},
		{"Sandboxes/touch", sandboxTouch},
		{"Sandboxes/unknown", sandboxUnknown},
		{"Claim/ready", claimReady},
		{"Claim/oldest first", claimOldest},
		{"Claim/old revision", claimRevision},
		{"Claim/new", claimNew},
		{"Claim/full", claimFull},
		{"Claim/after stopping", claimAfterStopping},
		{"Claim/pools apart", claimApart},
		{"Claim/one identifier from 50 callers", claimRace},
		{"Claim/history", claimHistory},
		{"Reopen", reopened},
		{"Cancelled", cancelled},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := &suite{T: t, Target: open(t)}
			s.pool = s.putPool("python")
			test.run(s)
		})
	}
}

// suite is one subtest, with a pool that exists.
type suite struct {
	*testing.T
	Target
	pool sandpool.PoolID
}

// start is the time at which tests begin; at(n) is n seconds later.
func at(seconds int) time.Time {
	return time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC).Add(time.Duration(seconds) * time.Second)
}

func newID() sandpool.SandboxID { return sandpool.SandboxID(strings.ToLower(rand.Text())) }

func (s *suite) putPool(name string) sandpool.PoolID {
	s.Helper()
	p := samplePool(name)
	if err := s.Store.PutPool(s.Context(), p); err != nil {
		s.Fatalf("PutPool(%s): %v", name, err)
	}
	return p.ID
}

func samplePool(name string) sandpool.Pool {
	return sandpool.Pool{
		ID:       sandpool.PoolID{Subscription: "Sub", ResourceGroup: "Group", Name: name},
		Location: "westus2", Tags: map[string]string{"owner": "Ann"}, ContainerType: sandpool.PythonLTS, Image: "python:3",
		MaxSessions: 10, ReadySessions: 3, Cooldown: 5 * time.Minute, Network: sandpool.EgressDisabled,
		Resources: sandpool.Resources{CPU: 0.5, Memory: 1 << 30, PIDs: 64, Disk: 1 << 31},
		Revision:  7, Template: "key", State: sandpool.Succeeded, Problem: "none", CreatedAt: at(0), UpdatedAt: at(1),
	}
}

// poolFields also fails when sandpool.Pool gets a field that the sample lacks,
// so that a store cannot forget to keep it.
func poolFields(s *suite) {
	want := samplePool("python")
	v := reflect.ValueOf(want)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			s.Errorf("the sample pool has no %s: give it one, and keep it in the store", v.Type().Field(i).Name)
		}
	}
	bare := sandpool.Pool{ID: sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "bare"}, State: sandpool.InProgress}
	if err := s.Store.PutPool(s.Context(), bare); err != nil {
		s.Fatal(err)
	}
	s.wantPools(want, bare)
	want.State, want.Problem, want.Tags, want.Revision = sandpool.Deleting, "", nil, 8
	if err := s.Store.PutPool(s.Context(), want); err != nil {
		s.Fatal(err)
	}
	s.wantPools(want, bare)
}

func poolCase(s *suite) {
	again := samplePool("PYTHON")
	if err := s.Store.PutPool(s.Context(), again); err != nil {
		s.Fatal(err)
	}
	s.wantPools(again)
}

func poolDelete(s *suite) {
	b := s.insert(1)
	if err := s.Store.DeletePool(s.Context(), s.pool); sandpool.ClassOf(err) != sandpool.Conflict {
		s.Errorf("DeletePool with a sandbox: %v, want class conflict", err)
	}
	s.must(s.Store.Remove(s.Context(), b.ID))
	s.must(s.Store.DeletePool(s.Context(), s.pool))
	s.must(s.Store.DeletePool(s.Context(), s.pool))
	s.wantPools()
}

func (s *suite) wantPools(want ...sandpool.Pool) {
	s.Helper()
	got, err := s.Store.Pools(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	byKey := func(a, b sandpool.Pool) bool { return a.ID.Key() < b.ID.Key() }
	if diff := cmp.Diff(sorted(want, byKey), got); diff != "" {
		s.Errorf("Pools: -want +got\n%s", diff)
	}
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) wantClass(err error, want sandpool.Class) {
	s.Helper()
	if err == nil || sandpool.ClassOf(err) != want {
		s.Errorf("error is %v (class %s), want class %s", err, sandpool.ClassOf(err), want)
	}
}
