package sandbox

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The signals that the C library leaves to programs (signal(7)).
const (
	realtimeMin = unix.Signal(34)
	realtimeMax = unix.Signal(64)
)

// ParseSignal reads a signal as images name one: "SIGTERM", "term", "15" or, of the real-time
// ones, "SIGRTMIN+3". It returns 0 for what is none.
//
// https://github.com/opencontainers/image-spec/blob/main/config.md#properties
func ParseSignal(text string) unix.Signal {
	if n, err := strconv.ParseUint(text, 10, 8); err == nil {
		if s := unix.Signal(n); s <= realtimeMax {
			return s
		}
		return 0
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if s := unix.SignalNum(name); s != 0 {
		return s
	}
	for _, end := range []struct {
		name string
		at   unix.Signal
		sign string
	}{{"SIGRTMIN", realtimeMin, "+"}, {"SIGRTMAX", realtimeMax, "-"}} {
		offset, ok := strings.CutPrefix(name, end.name)
		if !ok {
			continue
		}
		n, err := strconv.Atoi("0" + strings.TrimPrefix(offset, end.sign))
		if err != nil || offset != "" && offset != end.sign+strconv.Itoa(n) {
			return 0
		}
		if end.sign == "-" {
			n = -n
		}
		if s := end.at + unix.Signal(n); s >= realtimeMin && s <= realtimeMax {
			return s
		}
	}
	return 0
}
