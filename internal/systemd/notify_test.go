package systemd

import (
	"net"
	"path/filepath"
	"testing"
	"time"
)

// TestNotify: the state arrives at the socket that systemd names, of either kind; without one
// there is nobody to tell, and one that is gone is an error.
func TestNotify(t *testing.T) {
	abstract := "@sandpool-test-" + filepath.Base(t.TempDir()) + t.Name()
	for _, path := range []string{filepath.Join(t.TempDir(), "notify"), abstract} {
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		t.Setenv(notifyVariable, path)
		if err := Notify(t.Context(), "READY=1"); err != nil {
			t.Errorf("%q: %v", path, err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 100)
		if n, err := conn.Read(got); err != nil || string(got[:n]) != "READY=1" {
			t.Errorf("%q has %q, %v", path, got[:n], err)
		}
	}
	t.Setenv(notifyVariable, filepath.Join(t.TempDir(), "nowhere"))
	if err := Notify(t.Context(), "READY=1"); err == nil {
		t.Error("nobody listens, and there is no error")
	}
	t.Setenv(notifyVariable, "")
	if err := Notify(t.Context(), "READY=1"); err != nil {
		t.Errorf("without systemd: %v", err)
	}
}
