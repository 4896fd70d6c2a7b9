package reply_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sandpool/sandpool/internal/reply"
)

// TestWriter checks what is known of an answer at each way to begin one, and that none is wrapped
// twice.
func TestWriter(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(w http.ResponseWriter)
		status int
		bytes  int64
	}{
		"nothing":  {func(http.ResponseWriter) {}, 0, 0},
		"a body":   {func(w http.ResponseWriter) { _, _ = io.WriteString(w, "hello") }, 200, 5},
		"a status": {func(w http.ResponseWriter) { w.WriteHeader(404); w.WriteHeader(500) }, 404, 0},
		"a hint":   {func(w http.ResponseWriter) { w.WriteHeader(103) }, 0, 0},
		"a switch": {func(w http.ResponseWriter) { w.WriteHeader(101) }, 101, 0},
		"a flush":  {func(w http.ResponseWriter) { w.(http.Flusher).Flush() }, 200, 0},
		"a control": {func(w http.ResponseWriter) {
			_ = http.NewResponseController(w).Flush()
		}, 200, 0},
	} {
		w := reply.Of(httptest.NewRecorder())
		if again := reply.Of(w); again != w {
			t.Fatalf("%s: a Writer was wrapped", name)
		}
		tt.answer(w)
		if w.Status != tt.status || w.Bytes != tt.bytes {
			t.Errorf("%s: %d with %d bytes, want %d with %d", name, w.Status, w.Bytes, tt.status,
				tt.bytes)
		}
	}
}
