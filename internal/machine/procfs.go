package machine

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// procfs finds the files about the machine. A procfs mounted with subset=pid, as ProcSubset=pid of
// a systemd unit does, has none. Root may then open one for itself alone that is mounted nowhere;
// it is there for as long as the file that is returned.
func procfs() (path string, own *os.File, err error) {
	const usual = "/proc"
	if _, err := os.Stat(usual + "/meminfo"); err == nil {
		return usual, nil, nil
	}
	context, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return "", nil, fmt.Errorf("/proc has no files about the machine, and another cannot be "+
			"opened: %w", err)
	}
	defer unix.Close(context)
	if err := unix.FsconfigCreate(context); err != nil {
		return "", nil, fmt.Errorf("open another /proc: %w", err)
	}
	attributes :=
		unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID |
			unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	fd, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return "", nil, fmt.Errorf("open another /proc: %w", err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), os.NewFile(uintptr(fd), "procfs"), nil
}
