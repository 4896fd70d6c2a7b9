package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
)

// fakeServer is as much of a server as a run needs: sandboxes are ready at once
// and answer 2, but every wrong-th execution answers 3.
type fakeServer struct {
	wrong int

	mu       sync.Mutex // guards what follows
	runs     int
	pools    map[string]*api.SessionPool
	sessions map[string]bool // pool and identifier
}

func (f *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, rest, _ := strings.Cut(r.URL.Path, "/sessionPools/")
	pool, op, _ := strings.Cut(rest, "/")
	session := pool + " " + r.URL.Query().Get("identifier")
	switch {
	case r.Method == http.MethodPut && op == "":
		var p api.SessionPool
		if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		p.Properties.ProvisioningState = "Succeeded"
		f.pools[pool] = &p
	case f.pools[pool] == nil:
		w.WriteHeader(http.StatusNotFound)
		return
	case r.Method == http.MethodDelete && op == "":
		delete(f.pools, pool)
		w.WriteHeader(http.StatusAccepted)
		return
	case op == "status":
		_ = json.NewEncoder(w).Encode(f.status(pool))
		return
	case op == "executions":
		f.runs++
		f.sessions[session] = true
		w.Header().Set("Server-Timing", "claim;dur=0.5")
		fmt.Fprintf(w, `{"status":"Succeeded","result":{"executionResult":%d}}`,
			map[bool]int{true: 3, false: 2}[f.wrong > 0 && f.runs%f.wrong == 0])
		return
	case op == ".management/stopSession":
		delete(f.sessions, session)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	_ = json.NewEncoder(w).Encode(f.pools[pool])
}

func (f *fakeServer) status(pool string) api.PoolStatus {
	scale := f.pools[pool].Properties.ScaleConfiguration
	s := api.PoolStatus{MaxSessions: *scale.MaxConcurrentSessions,
		ReadySessions: *scale.ReadySessionInstances}
	memory, cpu := int64(1<<20), 0.5
	for id := range f.sessions {
		if strings.HasPrefix(id, pool+" ") {
			s.Claimed++
			s.Sandboxes = append(s.Sandboxes, api.SandboxStats{ID: id, State: "claimed",
				MemoryBytes: &memory, CPUSeconds: &cpu})
		}
	}
	s.Ready = min(s.ReadySessions, s.MaxSessions-s.Claimed)
	for i := range s.Ready {
		s.Sandboxes = append(s.Sandboxes, api.SandboxStats{ID: fmt.Sprint(i), State: "ready",
			MemoryBytes: &memory, CPUSeconds: &cpu})
	}
	return s
}

func TestRunCountsErrorsAndLeavesNothing(t *testing.T) {
	f := &fakeServer{wrong: 7, pools: map[string]*api.SessionPool{}, sessions: map[string]bool{}}
	srv := httptest.NewServer(f)
	defer srv.Close()
	c, err := client.New(client.Config{Endpoint: srv.URL, Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), c, Options{N: 10, Burst: 8, Cold: 3, Refill: 4,
		Idle: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Measure{}
	samples, errs := 0, 0
	for _, m := range r.Measures {
		got[m.Name] = m
		switch m.Name {
		case NewSession, RoundTrip, "burst", ColdClaim:
			samples, errs = samples+m.N, errs+m.Errors
		}
	}
	if want := 10 + 100 + 8*rounds + 3; samples+errs != want || errs < want/8 {
		t.Errorf("%d samples and %d errors; want %d together, one in seven wrong", samples, errs,
			want)
	}
	if m := got["claim"]; m.P50 != 0.5 || m.N == 0 {
		t.Errorf("claim = %+v, want the server's 0.5 ms", m)
	}
	for _, name := range []string{"memory per ready", "memory per used", "idle CPU per ready",
		"idle CPU per used"} {
		if got[name].N == 0 {
			t.Errorf("%q was not measured: %+v", name, got[name])
		}
	}
	if got["refill"].P50 <= 0 || len(r.Failures) == 0 {
		t.Errorf("refill = %+v, failures = %q", got["refill"], r.Failures)
	}
	if len(f.pools) != 0 {
		t.Errorf("pools left behind: %v", f.pools)
	}
}
