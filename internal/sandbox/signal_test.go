package sandbox_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/sandbox"
)

// A signal is named in the ways in which images do.
func TestParseSignal(t *testing.T) {
	for text, want := range map[string]unix.Signal{
		"SIGTERM": unix.SIGTERM, "TERM": unix.SIGTERM, "sigterm": unix.SIGTERM, "15": unix.SIGTERM,
		"SIGUSR1": unix.SIGUSR1, "WINCH": unix.SIGWINCH, "9": unix.SIGKILL, "3": unix.SIGQUIT,
		"SIGRTMIN": 34, "SIGRTMIN+3": 37, "RTMIN+30": 64, "rtmax-14": 50, "SIGRTMAX": 64, "37": 37,
		"": 0, "SIG": 0, "0": 0, "65": 0, "-1": 0, "256": 0, "SIGNONSENSE": 0, "SIGRTMIN+31": 0,
		"SIGRTMIN3": 0, "SIGRTMIN+": 0, "SIGRTMIN-1": 0, "SIGRTMIN++1": 0, "SIGRTMAX+1": 0,
		"SIGRTMIN+03": 0, "SIGSIGTERM": 0, " 15": 0, "TERM\n": 0,
	} {
		if got := sandbox.ParseSignal(text); got != want {
			t.Errorf("%q is %d, want %d", text, got, want)
		}
	}
}
