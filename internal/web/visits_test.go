package web

import (
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// TestDuring: a connection is no use of its visit, and ends soon after the visit's time.
func TestDuring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVisits(time.Now)
		r := httptest.NewRequest("GET", "/ui/", nil)
		r.AddCookie(cookie(r, v.add("good", time.Time{})))
		found, ok := v.of(r)
		if !ok {
			t.Fatal("no visit")
		}
		began := time.Now()
		ctx, done := v.during(t.Context(), found, lookEvery)
		defer done()
		<-ctx.Done()
		if took := time.Since(began); took < idleTime || took > idleTime+2*lookEvery {
			t.Errorf("the connection ends after %v", took)
		}
		if _, ok := v.of(r); ok {
			t.Error("the visit goes on")
		}
	})
}
