package gateway

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/gateway/body"
	"github.com/sandpool/sandpool/internal/gateway/request"
)

func TestLargeBody(t *testing.T) {
	w := newWorld(t, Options{MaxBody: 1000})
	large := `{"code":"` + strings.Repeat("#", 1000) + `"}`
	if got := w.do("POST", "executions?identifier=abcd", large); got.status != 413 {
		t.Errorf("announced: %d %s", got.status, got.body)
	}
	o := Options{MaxBody: 1000}.withDefaults()
	r := httptest.NewRequest("POST", "/", strings.NewReader(large))
	r.ContentLength = -1
	if _, err := o.readExecution(httptest.NewRecorder(), r, &body.Hold{},
		request.Limits{}.Code); sandpool.ClassOf(err) != sandpool.TooLarge {
		t.Errorf("chunked: %v", err)
	}
	if acquired, _ := w.counts(); acquired != 0 {
		t.Errorf("a refused body acquired %d leases", acquired)
	}
}
