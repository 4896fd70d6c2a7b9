package oci

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
)

// A registry that has had enough for a moment is asked again after it, wherever it says so; one
// that wants a longer pause is told on with it.
func TestBusyRegistry(t *testing.T) {
	for _, c := range []struct {
		where, pause string
		status, busy int
		want         time.Duration // that the error says; zero for none
	}{
		{"/v2/", "1", http.StatusTooManyRequests, 1, 0},
		{"/manifests/", "1", http.StatusTooManyRequests, 2, 0},
		{"/blobs/", "1", http.StatusServiceUnavailable, 1, 0},
		{"/manifests/", "1", http.StatusTooManyRequests, 99, time.Second},
		{"/manifests/", "3600", http.StatusTooManyRequests, 99, time.Hour},
		{"/manifests/", "", http.StatusTooManyRequests, 99, time.Minute},
		{"/manifests/", "soon", http.StatusTooManyRequests, 99, time.Minute},
	} {
		t.Run(strings.TrimSpace(c.where+" "+c.pause), func(t *testing.T) {
			t.Parallel()
			h := newHub(t)
			h.push("1", small(t))
			var asked []time.Time
			h.ask(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, c.where) && (c.where == "/v2/" ||
					!strings.Contains(r.URL.Path, c.where)) {
					return false
				}
				h.mu.Lock()
				asked = append(asked, time.Now())
				n := len(asked)
				h.mu.Unlock()
				if n > c.busy {
					return false
				}
				w.Header().Set("Retry-After", c.pause)
				problem(w, c.status, "TOOMANYREQUESTS", "slow down")
				return true
			})
			client, store := newClient(t, Config{})
			_, err := pull(t, client, h.host()+"/app:1", Credentials{})
			if c.want == 0 {
				if err != nil || asked[1].Sub(asked[0]) < time.Second {
					t.Errorf("%v, asked at %v", err, asked)
				}
				clean(t, store, 1)
				return
			}
			wantCode(t, err, CodeBusy, "slow down")
			var e *sandpool.Error
			if !errors.As(err, &e) || e.RetryAfter != c.want {
				t.Errorf("%v says to try again after %v, want %v", err, e.RetryAfter, c.want)
			}
			if len(asked) > pauses+1 {
				t.Errorf("asked %d times", len(asked))
			}
		})
	}
}

// The pause is a number of seconds or a date.
func TestPause(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{"": 0, "0": 0, "7": 7 * time.Second,
		" 7 ": 7 * time.Second, "-1": 0, "99999999999999999999": 0,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Fri, 02 Jan 2026 03:04:00 GMT": 0} {
		answer := &http.Response{StatusCode: http.StatusTooManyRequests,
			Header: http.Header{"Retry-After": {text}}}
		if got := pause(answer, now); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
		if answer.StatusCode = http.StatusNotFound; pause(answer, now) != 0 {
			t.Errorf("%q of another answer is a pause", text)
		}
	}
}
