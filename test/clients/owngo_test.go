package clients_test

import (
	"strings"
	"testing"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
)

// ownGo has our client for Go read executions live, and leave one that would not end.
func (s *server) ownGo(t *testing.T) {
	y := tally{client: ownClient("Go")}
	for _, tt := range []struct{ what, pool, code, out string }{
		{"a stream", ample, "x = 6\nprint('hi')\nx * 7", "hi\n"},
		{"a stream of a command", shell, "echo hi; exit 3", "hi\n"},
		{"a full pool", full, "1", ""},
	} {
		var out strings.Builder
		var last api.ExecutionEvent
		for e, err := range s.Stream(t.Context(), tt.pool, "go-stream", client.Run{Code: tt.code}) {
			if err != nil {
				out.WriteString(err.Error())
			}
			out.WriteString(e.Text)
			last = e
		}
		if tt.pool == full {
			if !strings.Contains(out.String(), "maximum of 1 sessions") {
				t.Errorf("a full pool says %q", &out)
			}
			y.did(tt.what, "refused, by Error")
			continue
		}
		ended, _ := last.Execution.(api.Execution)
		if out.String() != tt.out || ended.ID == "" {
			t.Errorf("%s: %q, %+v; want %q and a result", tt.pool, &out, last, tt.out)
		}
		y.did(tt.what, "works")
	}
	slow := client.Run{Code: "import time\nprint('a', flush=True)\ntime.sleep(200)"}
	for e, err := range s.Stream(t.Context(), ample, "go-stream", slow) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Text != "" {
			break
		}
	}
	e, err := s.Execute(t.Context(), ample, "go-stream", client.Run{Code: "x"})
	if err != nil || e.Failed() {
		t.Errorf("after a stream that was left: %+v, %v", e, err)
	}
	y.did("a stream that is left", "works")
	y.did("a value", "works")
	y.hold(t)
}
