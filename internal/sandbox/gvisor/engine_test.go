package gvisor

import (
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/sandbox"
)

func TestRestore(t *testing.T) {
	for _, mode := range []sandbox.StartMode{sandbox.Boot, sandbox.Restore} {
		t.Run(string(mode), func(t *testing.T) {
			e := open(t)
			p := prepare(t, e, template(t, mode))
			begin := time.Now()
			h := start(t, e, p, "one")
			t.Logf("%s took %v", mode, time.Since(begin))
			if got := ask(t, e, h, "/state", nil); got != "1" {
				t.Errorf("first count is %s, want 1", got)
			}
			if err := e.Stop(t.Context(), h); err != nil {
				t.Fatal(err)
			}
		})
	}
}
