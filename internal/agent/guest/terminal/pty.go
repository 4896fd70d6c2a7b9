package terminal

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/sandpool/sandpool/internal/agent"
	"golang.org/x/sys/unix"
)

// openPTY makes a pseudo terminal: the end that the agent keeps, and the one of the programs
// in it, which is the user's, so that they can open it by its name too.
func openPTY(size agent.TerminalSize, uid, gid int) (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open a pseudo terminal: %w", err)
	}
	number, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	master = os.NewFile(uintptr(fd), "terminal") // polled, since it does not block
	if err == nil {
		err = resize(master, size)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("prepare a pseudo terminal: %w", err),
			master.Close())
	}
	name := "/dev/pts/" + strconv.FormatUint(uint64(number), 10)
	fd, err = unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Fchown(fd, uid, gid)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open %q: %w", name, err), master.Close())
	}
	return master, os.NewFile(uintptr(fd), name), nil
}

// resize sets the size; the system tells the programs in the foreground.
func resize(master *os.File, size agent.TerminalSize) error {
	return control(master, func(fd int) error {
		// checked
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(size.Columns),
			Row: uint16(size.Rows)})
	})
}

// readNow reads what there is, without waiting. Deadlines do not count.
func readNow(master *os.File, p []byte) (n int, err error) {
	err = control(master, func(fd int) error {
		n, err = unix.Read(fd, p)
		return err
	})
	return max(n, 0), err
}

// control calls f with the descriptor of file. File.Fd would make the file a blocking one.
func control(file *os.File, f func(fd int) error) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	if e := conn.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}
