package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sqlite"
)

// together makes claims that are all served in one transaction, and returns their errors.
// Those of the identifiers in givesUp give up before.
func together(t *testing.T, limit int, requests []sandpool.ClaimRequest,
	givesUp ...sandpool.Identifier) (errs map[sandpool.Identifier]error, kept []sandpool.Sandbox) {
	synctest.Test(t, func(t *testing.T) {
		s, err := sqlite.Open(t.Context(), slog.New(slog.DiscardHandler), filepath.Join(t.TempDir(),
			"state.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.CreatePool(t.Context(), sandpool.Pool{ID: claimPool,
			State: sandpool.Succeeded}, nil, "test"); err != nil {
			t.Fatal(err)
		}
		if limit > 0 {
			if err := s.LimitPages(t.Context(), limit); err != nil {
				t.Fatal(err)
			}
		}
		release := s.Hold()
		leave, cancel := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		var mu sync.Mutex // guards errs
		errs = map[sandpool.Identifier]error{}
		for _, r := range requests {
			ctx := t.Context()
			for _, g := range givesUp {
				if g == r.Identifier {
					ctx = leave
				}
			}
			wait.Go(func() {
				_, _, err := s.Claim(ctx, r)
				mu.Lock()
				defer mu.Unlock()
				errs[r.Identifier] = err
			})
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		release()
		wait.Wait()
		if kept, err = s.Sandboxes(t.Context()); err != nil {
			t.Error(err)
		}
		if limit > 0 {
			// The store serves on.
			if err := s.LimitPages(t.Context(), 1000); err != nil {
				t.Fatal(err)
			}
			if _, outcome, err := s.Claim(t.Context(), claimFor("afterwards")); err != nil ||
				outcome != sandpool.ClaimNew {
				t.Errorf("a claim after a full disk: %s, %v", outcome, err)
			}
		}
	})
	return errs, kept
}

var claimPool = sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "n"}

func claimFor(who sandpool.Identifier) sandpool.ClaimRequest {
	return sandpool.ClaimRequest{Epoch: 1, Pool: claimPool, Identifier: who, Max: 100,
		NewID: sandpool.SandboxID("box-of-" + who), NewSecret: "secret"}
}

// Claims that share a transaction do not share their errors.
func TestClaimsTogether(t *testing.T) {
	var requests []sandpool.ClaimRequest
	for i := range 20 {
		requests = append(requests, claimFor(sandpool.Identifier(fmt.Sprintf("user-%d", i))))
	}
	requests[3].Pool.Name = "unknown"
	requests[7].NewID = requests[8].NewID
	errs, kept := together(t, 0, requests, "user-11")
	if class := sandpool.ClassOf(errs["user-3"]); class != sandpool.NotFound {
		t.Errorf("a claim in an unknown pool: %v", errs["user-3"])
	}
	// Either of the two may come first.
	if one, two := errs["user-7"], errs["user-8"]; sandpool.ClassOf(errors.Join(one,
		two)) != sandpool.Conflict || one != nil && two != nil {
		t.Errorf("two claims with one new id: %v and %v", one, two)
	}
	if err := errs["user-11"]; !errors.Is(err, context.Canceled) {
		t.Errorf("a claim that was given up: %v", err)
	}
	owner := map[sandpool.Identifier]sandpool.SandboxID{}
	for _, b := range kept {
		owner[b.Identifier] = b.ID
	}
	for _, r := range requests {
		if got := owner[r.Identifier]; (errs[r.Identifier] == nil) != (got == r.NewID) ||
			errs[r.Identifier] != nil && got != "" {
			t.Errorf("the claim of %s ended with %v, and the store holds %q for it", r.Identifier,
				errs[r.Identifier], got)
		}
	}
	if len(kept) != 17 {
		t.Errorf("%d of 20 claims are kept, want 17", len(kept))
	}
}

// A transaction that cannot be committed is nobody's claim.
func TestClaimsTogetherOnFullDisk(t *testing.T) {
	var requests []sandpool.ClaimRequest
	for i := range 5 {
		r := claimFor(sandpool.Identifier(fmt.Sprintf("user-%d", i)))
		r.NewSecret = strings.Repeat("x", 20<<10)
		requests = append(requests, r)
	}
	errs, kept := together(t, 20, requests)
	for who, err := range errs {
		if sandpool.ClassOf(err) != sandpool.Unavailable || !strings.Contains(err.Error(), "full") {
			t.Errorf("the claim of %s on a full disk: %v", who, err)
		}
	}
	if len(errs) != len(requests) || len(kept) != 0 {
		t.Errorf("%d claims were answered, and %d are kept", len(errs), len(kept))
	}
}

// TestQuotaByIndex: to count one principal's sessions no others' are read.
func TestQuotaByIndex(t *testing.T) {
	plan, err := open(t, filepath.Join(t.TempDir(), "state.db")).PlanOfQuota(t.Context())
	if err != nil || !strings.Contains(plan, "sandboxes_principal") {
		t.Errorf("the plan is %q, %v", plan, err)
	}
}
