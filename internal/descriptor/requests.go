package descriptor

import (
	"net/http"
	"sync"
)

// Requests bounds the requests that are under way: each may have a stream into a sandbox beside its
// connection, and those that are held (uploads, executions, terminals, tunnels) are so for as long
// as their callers like.
type Requests struct {
	max int

	mu   sync.Mutex // guards what is below
	held int
	by   map[string]int // callers who have some
}

// NewRequests returns a bound of max requests, of which one caller has half.
func NewRequests(max int) *Requests { return &Requests{max: max, by: map[string]int{}} }

// Bound passes requests on to next, and those for which there is no room to full. next must not
// return before it has closed what it took over. A request without a caller is not counted.
func (q *Requests) Bound(caller func(*http.Request) string, full, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := caller(r)
		switch {
		case name == "":
			next.ServeHTTP(w, r)
		case q.take(name):
			defer q.release(name)
			next.ServeHTTP(w, r)
		default:
			full.ServeHTTP(w, r)
		}
	})
}

func (q *Requests) take(name string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held >= q.max || q.by[name] >= (q.max+1)/2 {
		return false
	}
	q.held++
	q.by[name]++
	return true
}

func (q *Requests) release(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held--
	if q.by[name]--; q.by[name] == 0 {
		delete(q.by, name)
	}
}
