package kube_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/postgres"
	"github.com/sandpool/sandpool/test/kube/clustertest"
)

// What TestClusterClaims asks for: claimsSecond sessions a second for claimTime, and starts at the
// same time.
const (
	fewReady     = 400
	claimsSecond = 200
	starts       = 40
)

// Three servers give out sessions 200 times a second, whose pods nodes of KWOK simulate. Nobody is
// refused and no pod is given twice. By the API server's audit log, there is never a pod more than
// the pool has sessions and ready ones to have, and no more than starts at a time are on their way,
// until the pool's server is killed: then those that it was starting are made up for. How long a
// claim takes is printed, not judged: that is the machine's.
func TestClusterClaims(t *testing.T) {
	ready, claims := fewReady, 2*claimsSecond
	if n := clustertest.Many(); n > 0 {
		ready, claims = n, 10*claimsSecond
	}
	c := clustertest.At(t)
	c.FakeNodes(t, max(20, ready/5))
	c.AnswerForFakes(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Context().Value(http.LocalAddrContextKey))
	}))
	f := &fleet{
		settings: fmt.Sprintf("starts: %d\nlimits: {max_sessions: %d}", starts, 4*ready),
		kubernetes: "  node_selector: {" + clustertest.FakeLabel + ": fake}\n" +
			"  tolerations: [{key: " + clustertest.FakeLabel + ", operator: Exists}]"}
	f.open(t, "claims", "127.0.0.1:8720", "127.0.0.1:8721", "127.0.0.1:8722")
	b := &burst{t: t, size: claims, rate: claimsSecond}
	for _, m := range f.servers {
		b.servers = append(b.servers, f.at(t, m))
	}
	began := time.Now()
	b.servers[0].customPoolOf(t, f.reference, ready, ready+claims+1)
	b.await("the pool is full", ready)
	t.Logf("%d pods are ready after %v", ready, time.Since(began).Round(time.Second))

	b.run()
	killed := time.Now()
	owner := f.owner(t)
	f.servers[owner].end(t, syscall.SIGKILL) // while the pool is refilled
	b.servers = slices.Delete(b.servers, owner, owner+1)
	b.check()
	b.await("the pool is full again", ready)
	t.Logf("%d pods more are ready after %v", claims, time.Since(killed).Round(time.Second))
	bounded(t, c.Audit(t, f.release.boxes()), b, ready, killed)
	if _, err := b.servers[0].DeletePool(t.Context(), "pool"); err != nil {
		t.Fatal(err)
	}
	within(t, fillTime, "no pod is left", func() bool {
		return len(podsOf(t, c, f.release.boxes())) == 0
	})
}

// owner is the index of the server that has the only pool.
func (f *fleet) owner(t *testing.T) int {
	t.Helper()
	name := ownerIn(t, f.store)
	return slices.IndexFunc(f.servers, func(m *member) bool { return m.name == name })
}

// ownerIn is the name of the server that has the only pool of a store.
func ownerIn(t *testing.T, store string) string {
	t.Helper()
	db, err := postgres.Open(t.Context(), slog.New(slog.DiscardHandler), store)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	holds, err := db.Holds(t.Context())
	if err != nil || len(holds) != 1 {
		t.Fatalf("the pools are %v, %v", holds, err)
	}
	return holds[0].Owner
}

// bounded fails if there was a pod too many at any time.
func bounded(t *testing.T, pods []*clustertest.PodLife, b *burst, ready int, killed time.Time) {
	t.Helper()
	begun := slices.Clone(b.began)
	slices.SortFunc(begun, time.Time.Compare)
	asked := func(at time.Time) int {
		n, _ := slices.BinarySearchFunc(begun, at, time.Time.Compare)
		return n
	}
	most, coming, over := 0, 0, -ready
	for i, p := range pods {
		// What was made until then, less what has ended. Pods are in the order of their creation.
		there, starting := i+1, 0
		for _, q := range pods[:i+1] {
			ended := !q.Gone.IsZero() && q.Gone.Before(p.Created)
			if ended {
				there--
			} else if q.Running.IsZero() || q.Running.After(p.Created) {
				starting++
			}
		}
		surge := 0
		if p.Created.After(killed) {
			surge = starts
		}
		if want := ready + asked(p.Created) + surge; there > want {
			t.Errorf("at %v there were %d pods, want at most %d", p.Created, there, want)
		}
		if starting > starts+surge {
			t.Errorf("at %v %d pods were on their way, want at most %d", p.Created, starting,
				starts+surge)
		}
		most, coming = max(most, there), max(coming, starting)
		over = max(over, there-ready-asked(p.Created))
	}
	t.Logf("%d pods were made; there were %d at most, %d of them on their way at most, and %d "+
		"more than sessions and ready ones to have", len(pods), most, coming, max(0, over))
	if most < ready {
		t.Errorf("the audit log has %d pods, fewer than the %d that were ready", most, ready)
	}
}

// burst is many claims at a fixed rate.
type burst struct {
	t       *testing.T
	size    int
	rate    int // a second
	servers []*instance

	began []time.Time // when each was sent
	took  []time.Duration
	late  []time.Duration // how long after it was due
	pods  []string
}

// run sends the claims, each when it is due whatever became of those before, and waits for their
// answers.
func (b *burst) run() {
	b.t.Helper()
	b.began, b.pods = make([]time.Time, b.size), make([]string, b.size)
	b.took, b.late = make([]time.Duration, b.size), make([]time.Duration, b.size)
	caller := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: b.rate,
		MaxConnsPerHost: b.rate}}
	defer caller.CloseIdleConnections()
	var wait sync.WaitGroup
	first := time.Now()
	for i := range b.size {
		due := first.Add(time.Duration(i) * time.Second / time.Duration(b.rate))
		timer := time.NewTimer(time.Until(due))
		select {
		case <-timer.C:
		case <-b.t.Context().Done():
		}
		wait.Go(func() {
			b.began[i] = time.Now()
			b.late[i] = b.began[i].Sub(due)
			var err error
			b.pods[i], err = b.ask(caller, b.servers[i%len(b.servers)], fmt.Sprintf("claim-%d", i))
			b.took[i] = time.Since(b.began[i])
			if err != nil {
				b.t.Errorf("claim %d: %v", i, err)
			}
		})
	}
	wait.Wait()
}

// ask asks the container of an identifier, and returns what it says.
func (b *burst) ask(caller *http.Client, s *instance, identifier string) (string, error) {
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, s.PoolEndpoint("pool")+
		"/?identifier="+identifier, nil)
	if err != nil {
		return "", err
	}
	r.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := caller.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d %s", resp.StatusCode, text)
	}
	return string(text), err
}

// check fails if two sessions have one pod, and prints how long claims took.
func (b *burst) check() {
	b.t.Helper()
	for what, times := range map[string][]time.Duration{"answered after": b.took,
		"sent too late by": b.late} {
		slices.Sort(times)
		b.t.Logf("%d claims at %d a second, %s: p50 %v, p90 %v, p99 %v, longest %v", b.size, b.rate,
			what, times[b.size/2], times[b.size*9/10], times[b.size*99/100], times[b.size-1])
	}
	pods := slices.Sorted(slices.Values(b.pods))
	if n := len(slices.Compact(pods)); n != b.size {
		b.t.Errorf("%d sessions have %d pods", b.size, n)
	}
}

// fillTime bounds how long many pods may take to start or to end.
const fillTime = 10 * time.Minute

// await waits until the pool has as many ready sandboxes as it should, and none on its way.
func (b *burst) await(what string, ready int) {
	b.t.Helper()
	within(b.t, fillTime, what, func() bool {
		ctx, cancel := context.WithTimeout(b.t.Context(), 10*time.Second)
		defer cancel()
		n, err := b.servers[0].PoolCounts(ctx, "pool")
		if err != nil {
			b.t.Log(err) // the pool may be on its way to another server
		}
		return err == nil && n.Ready >= ready && n.Starting == 0 && n.Stopping == 0
	})
}
