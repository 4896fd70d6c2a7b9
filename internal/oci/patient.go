package oci

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A patient asks once more when a registry has had enough for now, and says for how long
// (RFC 9110, section 10.2.3). A longer pause is the caller's to wait for.
type patient struct {
	next http.RoundTripper
	last atomic.Int64 // the pause that was asked for last, if it was too long
}

const (
	// shortPause is how long it waits at most: within the time that a download may stall.
	shortPause = 10 * time.Second
	// pauses is how often it waits for one request.
	pauses = 2
)

// RoundTrip implements http.RoundTripper.
func (p *patient) RoundTrip(r *http.Request) (*http.Response, error) {
	for waited := 0; ; waited++ {
		answer, err := p.next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		wait := pause(answer, time.Now())
		until, bounded := r.Context().Deadline()
		switch {
		case wait == 0:
			return answer, nil
		case waited == pauses, wait > shortPause, r.Body != nil && r.Body != http.NoBody,
			bounded && time.Until(until) < wait:
			p.last.Store(int64(wait))
			return answer, nil
		}
		_, _ = io.CopyN(io.Discard, answer.Body, maxError) // so that the connection can be kept
		answer.Body.Close()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.Context().Done():
			timer.Stop()
			return nil, r.Context().Err()
		}
	}
}

// told is the pause that a registry has asked for in vain; zero if it has not.
func (p *patient) told() time.Duration { return time.Duration(p.last.Load()) }

// pause is how long the registry does not want to be asked; zero if its answer is another.
func pause(answer *http.Response, now time.Time) time.Duration {
	text := strings.TrimSpace(answer.Header.Get("Retry-After"))
	if answer.StatusCode != http.StatusTooManyRequests &&
		answer.StatusCode != http.StatusServiceUnavailable || text == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return max(0, at.Sub(now))
}
