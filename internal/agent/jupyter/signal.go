package jupyter

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setDefault gives a signal back to the system: Go's runtime makes a panic of those for faults,
// even if they are sent.
func setDefault(s unix.Signal) error {
	// struct kernel_sigaction, all zero: SIG_DFL, no flags, no restorer, an empty mask.
	var action [4]uintptr
	const maskSize = 8
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s),
		uintptr(unsafe.Pointer(&action)), 0, maskSize, 0, 0); errno != 0 && s != unix.SIGKILL {
		return fmt.Errorf("give back the signal %d: %w", int(s), errno)
	}
	return nil
}
