package netns

import (
	"bytes"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Whoever asks what a sandbox has sent learns of everything until then, however often it asked
// before: a session's last bytes are those that its record would lack.
func TestSent(t *testing.T) { both(t, trySent) }

func trySent(t *testing.T, w *world) {
	n := w.open(t, t.TempDir())
	b := w.join(n, "a", enabled())
	data := b.packet(w.public, unix.IPPROTO_UDP, udpTo(80, string(bytes.Repeat([]byte("x"), 1000))))
	before, err := n.Sent("a")
	must(t, err)
	for range 3 {
		b.send(slices.Repeat([][]byte{data}, 10)...)
		after, err := n.Sent("a")
		must(t, err)
		if after < before+10*int64(len(data)) {
			t.Errorf("%d bytes after ten packets of %d more than %d", after, len(data), before)
		}
		before = after
	}
	if sent, err := n.Sent("b"); sent != 0 || err != nil {
		t.Errorf("a sandbox that has no network sent %d bytes, %v", sent, err)
	}
}
