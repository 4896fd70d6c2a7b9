package otlp_test

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/internal/otlp"
)

// TestRedirect: a collector that sends its callers elsewhere does not send the keys and what is
// told there, and what it says is an error.
func TestRedirect(t *testing.T) {
	reached := make(chan http.Header, 8)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		reached <- r.Header
	}))
	defer elsewhere.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		collector := httptest.NewServer(http.RedirectHandler(elsewhere.URL, status))
		c, err := otlp.New(otlp.Config{Setting: "otlp", Endpoint: collector.URL,
			Headers: []string{"x-key=S3CRET"}})
		if err != nil {
			t.Fatal(err)
		}
		err = c.Send(t.Context(), otlp.Logs, otlp.Request("1", func(*otlp.Message) {}))
		if err == nil || !strings.Contains(err.Error(), strconv.Itoa(status)) ||
			strings.Contains(err.Error(), "S3CRET") {
			t.Errorf("%d: %v", status, err)
		}
		c.CloseIdle()
		collector.Close()
	}
	if len(reached) > 0 {
		t.Errorf("somebody else is told, with %v", <-reached)
	}
}
