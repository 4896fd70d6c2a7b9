package egress_test

import (
	"testing"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/need"
)

// TestUsage: what a sandbox sends to the network is part of what its session has used, and what
// one without a network uses has none.
func TestUsage(t *testing.T) {
	need.Data(t)
	newWorld(t)
	c := newServer(t)
	_, err := c.PutPool(t.Context(), "python", pool("EgressEnabled", nil))
	must(t, err)
	const send = `import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(200): s.sendto(bytes(1000), ("` + elsewhere + `", 9))
print(open("/mnt/data/x", "wb").write(bytes(16 << 20)))`
	if got := prints(t, c, "python", "sender-1", send); got != "16777216" {
		t.Fatalf("it says %q", got)
	}
	must(t, c.DeleteSession(t.Context(), "python", "sender-1"))
	var r api.UsageRecord
	for tick := time.Tick(100 * time.Millisecond); r.Number == 0; <-tick {
		page, err := c.UsageRecords(t.Context(), client.Usage{Pool: "python", Session: "sender-1"})
		must(t, err)
		if len(page.Value) == 1 && !page.Value[0].Running {
			r = page.Value[0]
		}
	}
	if r.EgressBytes < 200*1000 || r.EgressBytes > 300*1000 || r.Executions != 1 ||
		r.DiskByteSeconds == 0 || r.MemoryByteSeconds == 0 || r.CPUSeconds <= 0 {
		t.Errorf("%+v", r)
	}
}
