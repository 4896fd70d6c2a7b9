package guest

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestInputThatIsNoSocket: it is neither closed nor made non-blocking, and nothing is read from it.
func TestInputThatIsNoSocket(t *testing.T) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r, w := os.NewFile(uintptr(fds[0]), "input"), os.NewFile(uintptr(fds[1]), "writer")
	defer r.Close()
	defer w.Close()
	if _, err := w.WriteString("kept"); err != nil {
		t.Fatal(err)
	}
	new(Server).serveChannel(t.Context(), r)
	flags, err := unix.FcntlInt(uintptr(fds[0]), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("its flags are %#x, %v", flags, err)
	}
	got := make([]byte, 4)
	if n, err := r.Read(got); err != nil || string(got[:n]) != "kept" {
		t.Errorf("it holds %q, %v", got[:n], err)
	}
}
