package kube_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool/test/kube/clustertest"
)

// The pools of TestClusterClaims, and how often sessions are claimed.
const (
	manyReady    = 400
	manyClaims   = 400
	claimsSecond = 200
)

// Three servers give out sessions 200 times a second, whose pods nodes of KWOK simulate. Nobody is
// refused, no pod is given twice, and there are never more pods than the pool asks for. How long a
// claim takes is printed, not judged: that is the machine's.
func TestClusterClaims(t *testing.T) {
	c := clustertest.At(t)
	c.FakeNodes(t, 20)
	c.AnswerForFakes(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Context().Value(http.LocalAddrContextKey))
	}))
	f := &fleet{
		settings: "starts: 40\nlimits: {max_sessions: 5000}",
		kubernetes: "  node_selector: {" + clustertest.FakeLabel + ": fake}\n" +
			"  tolerations: [{key: " + clustertest.FakeLabel + ", operator: Exists}]"}
	f.open(t, "claims", "127.0.0.1:8720", "127.0.0.1:8721", "127.0.0.1:8722")
	var servers []*instance
	for _, m := range f.servers {
		servers = append(servers, f.at(t, m))
	}
	servers[0].customPoolOf(t, f.reference, manyReady, manyReady+manyClaims)
	until(t, "the pool is full", func() bool { return f.running(t) == manyReady })

	pods, took := make([]string, manyClaims), make([]time.Duration, manyClaims)
	var wait sync.WaitGroup
	tick := time.NewTicker(time.Second / claimsSecond)
	defer tick.Stop()
	for i := range manyClaims {
		<-tick.C
		wait.Go(func() {
			began := time.Now()
			status, body := servers[i%len(servers)].ask(t, fmt.Sprintf("claim-%d", i), "/")
			pods[i], took[i] = body, time.Since(began)
			if status != http.StatusOK {
				t.Errorf("claim %d is answered %d %s", i, status, body)
			}
		})
	}
	wait.Wait()
	slices.Sort(took)
	t.Logf("%d claims at %d a second: p50 %v, p90 %v, p99 %v, longest %v", manyClaims,
		claimsSecond, took[manyClaims/2], took[manyClaims*9/10], took[manyClaims*99/100],
		took[manyClaims-1])
	slices.Sort(pods)
	if n := len(slices.Compact(pods)); n != manyClaims {
		t.Errorf("%d sessions have %d pods", manyClaims, n)
	}
	until(t, "the pool is full again", func() bool {
		n := f.running(t)
		if n > manyReady+manyClaims {
			t.Fatalf("there are %d pods, more than the pool may have", n)
		}
		return n == manyReady+manyClaims
	})
	if _, err := servers[1].DeletePool(t.Context(), "pool"); err != nil {
		t.Fatal(err)
	}
	until(t, "no pod is left", func() bool {
		return len(podsOf(t, c, f.release.boxes())) == 0
	})
}
