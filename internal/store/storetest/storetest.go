// Package storetest is the conformance suite of package store: what every store
// must do so that the pool's promises hold, and a Porcupine model of claims, against which
// histories of the store and of the pool itself are checked.
package storetest

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

// Target is an empty store under test.
type Target struct {
	Store store.Store
	// Reopen returns another store on the same state, as a restart does. The first may still be
	// used.
	Reopen func(t *testing.T) store.Store
}

// Run runs the suite, with a new store from open for each subtest.
func Run(t *testing.T, open func(t *testing.T) Target) {
	tests := []struct {
		name string
		run  func(*suite)
	}{
		{"Pools/keeps every field", poolFields},
		{"Pools/case of ids", poolCase},
		{"Pools/between", poolsBetween},
		{"Pools/named", poolsNamed},
		{"Pools/delete", poolDelete},
		{"Pools/secrets", poolSecrets},
		{"Owners/created", ownCreated},
		{"Owners/passed on", ownPassed},
		{"Servers", serversJoin},
		{"Owners/writes of an earlier one", ownFenced},
		{"Owners/two that fight", ownFight},
		{"Sandboxes/life", sandboxLife},
		{"Sandboxes/order", sandboxOrder},
		{"Sandboxes/insert", sandboxInsert},
		{"Sandboxes/forbidden changes", sandboxForbidden},
		{"Sandboxes/touch", sandboxTouch},
		{"Sandboxes/unknown", sandboxUnknown},
		{"Losses", losses},
		{"Documents", documents},
		{"Usage/keeps every field", usageFields},
		{"Usage/writes of an earlier owner", usageFenced},
		{"Usage/times", usageTimes},
		{"Usage/tidied", usageTidied},
		{"Claim/ready", claimReady},
		{"Claim/oldest first", claimOldest},
		{"SessionsOf", sessionsOf},
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
