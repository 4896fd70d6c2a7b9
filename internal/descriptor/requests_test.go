package descriptor

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestRequests: requests under way have a bound, of which nobody has more than half; whoever ends
// one may have another, and what nobody asks for is not counted.
func TestRequests(t *testing.T) {
	q := NewRequests(4)
	leave := make(chan struct{})
	in, out := make(chan int), make(chan struct{})
	h := q.Bound(func(r *http.Request) string { return r.Header.Get("Caller") },
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			in <- http.StatusServiceUnavailable
		}),
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			in <- http.StatusOK
			<-leave
		}))
	ask := func(caller string) int {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Caller", caller)
		go func() {
			h.ServeHTTP(httptest.NewRecorder(), r)
			out <- struct{}{}
		}()
		return <-in
	}
	const ok, full = http.StatusOK, http.StatusServiceUnavailable
	admitted := 0
	for i, step := range []struct {
		caller string
		want   int
	}{
		{"a", ok}, {"a", ok}, {"a", full}, {"", ok}, {"b", ok}, {"c", ok}, {"c", full}, {"d", full},
		{"", ok},
	} {
		got := ask(step.caller)
		if got != step.want {
			t.Errorf("step %d, %q: %d, want %d", i, step.caller, got, step.want)
		}
		if got == full {
			<-out
		} else {
			admitted++
		}
	}
	close(leave)
	for range admitted {
		<-out
	}
	if q.held != 0 || len(q.by) != 0 {
		t.Errorf("when all have left, %d are there, of %v", q.held, q.by)
	}
	if got := ask("a"); got != ok {
		t.Errorf("after all have left: %d", got)
	}
	<-out
}

// TestRoom: connections, and the streams and the taken-over connections of requests, leave
// descriptors for sandboxes.
func TestRoom(t *testing.T) {
	for _, limit := range []uint64{256, 1024, 4096, 65536, Wanted} {
		if taken := uint64(3 * Share(limit)); taken > limit*3/4 {
			t.Errorf("of %d descriptors, callers take %d", limit, taken)
		}
	}
}
