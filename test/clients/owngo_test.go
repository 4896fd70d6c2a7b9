package clients_test

import (
	"strings"
	"testing"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
)

// ownGo has our client for Go read executions live, and leave one that would not end.
func (s *server) ownGo(t *testing.T) {
	for _, tt := range []struct{ pool, code, out string }{
		{ample, "x = 6\nprint('hi')\nx * 7", "hi\n"},
		{shell, "echo hi; exit 3", "hi\n"},
		{full, "1", "SessionPoolMaxSessionsReached"},
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
			continue
		}
		ended, _ := last.Execution.(api.Execution)
		if out.String() != tt.out || ended.ID == "" {
			t.Errorf("%s: %q, %+v; want %q and a result", tt.pool, &out, last, tt.out)
		}
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
}
