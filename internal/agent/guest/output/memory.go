package output

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/sandpool/sandpool/internal/agent/kernels"
	"golang.org/x/sys/unix"
)

// memory is the memory in which a kernel gathers what it prints before it moves it into
// its pipes; package kernels describes it. Hostile code can write anything there: what says
// where text starts and ends is checked, and the memory cannot be made smaller under us.
type memory struct {
	file *os.File
	mem  []byte
}

// newMemory makes the memory. Its file is to be handed to a kernel.
func newMemory() (*memory, error) {
	fd, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memory for output: %w", err)
	}
	file := os.NewFile(uintptr(fd), "output")
	if err := file.Truncate(kernels.OutputSize); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("memory for output: %w", err)
	}
	const whole = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, whole); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("seal the memory for output: %w", err)
	}
	mem, err := unix.Mmap(fd, 0, kernels.OutputSize, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED)
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("map the memory for output: %w", err)
	}
	o := &memory{file: file, mem: mem}
	for stream := range 2 {
		for window := range 2 { // there is no text until a kernel says so
			binary.LittleEndian.PutUint64(o.area(stream)[8*(1+window):], kernels.WindowSize)
		}
	}
	return o, nil
}

// area returns the part of one stream: 0 is standard output, 1 standard error.
func (o *memory) area(stream int) area {
	start := stream * kernels.AreaSize
	return o.mem[start : start+kernels.AreaSize : start+kernels.AreaSize]
}

// lock keeps the kernel from moving text until unlock. It reports false if the kernel is
// about to do that, or code holds the lock.
func (o *memory) lock() bool {
	return unix.FcntlFlock(o.file.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}) == nil
}

func (o *memory) unlock() {
	// cannot fail on a file that is open
	_ = unix.FcntlFlock(o.file.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_UNLCK})
}

func (o *memory) close() {
	_ = unix.Munmap(o.mem)
	_ = o.file.Close()
}

// area is what a kernel gathered for one stream: two windows of text.
type area []byte

// empty reports that there is nothing to take.
func (a area) empty() bool {
	return len(a.window(0)) == 0 && len(a.window(1)) == 0
}

// window returns the text of a window that was not moved yet.
func (a area) window(i int) []byte {
	text := a[kernels.AreaHeader+i*kernels.WindowSize:][:kernels.WindowSize]
	start := binary.LittleEndian.Uint64(a[8*(1+i):])
	if start >= uint64(len(text)) {
		return nil
	}
	text = text[start:]
	if end := bytes.IndexByte(text, kernels.TextEnd); end >= 0 {
		text = text[:end]
	}
	return text
}

// take returns a copy of the gathered text and marks it as taken. The window that is in use has
// the newer text.
func (a area) take() []byte {
	used := int(a[0] & 1)
	var taken []byte
	for _, i := range []int{1 - used, used} {
		text := a.window(i)
		taken = append(taken, text...)
		start := a[8*(1+i):]
		binary.LittleEndian.PutUint64(start, binary.LittleEndian.Uint64(start)+uint64(len(text)))
	}
	return taken
}
