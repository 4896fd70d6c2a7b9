package machine

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/pool/room"
)

// Machine measures. Measure is not to be called twice at the same time.
type Machine struct {
	proc string   // where the files about the machine are
	own  *os.File // what is open there, or nil
	dir  string

	waited time.Duration // of the last measurement, since the machine's start
	stalls int64         // likewise, where the kernel counts no time
	at     time.Time     // of the last measurement
}

// New returns a Machine whose disk is that of dir. One of what it lacks is an error.
func New(dir string) (*Machine, error) {
	proc, own, err := procfs()
	if err != nil {
		return nil, err
	}
	m := &Machine{proc: proc, own: own, dir: dir}
	_, err = m.Measure(time.Now())
	return m, err
}

// Measure returns what is left at now.
func (m *Machine) Measure(now time.Time) (room.Machine, error) {
	memory, err := m.meminfo("MemAvailable")
	disk, err2 := m.disk()
	threads, err3 := m.threads()
	pressure, err4 := m.pressure(now)
	return room.Machine{Left: room.Amount{Memory: memory, Disk: disk, Threads: threads},
			Pressure: pressure},
		errors.Join(err, err2, err3, err4)
}

// Memory is how much memory the machine has, in bytes.
func Memory() (int64, error) {
	proc, own, err := procfs()
	if err != nil {
		return 0, err
	}
	defer own.Close() // of nil is an error that says nothing
	return (&Machine{proc: proc}).meminfo("MemTotal")
}

// meminfo returns a field of /proc/meminfo in bytes (proc_meminfo(5)).
func (m *Machine) meminfo(name string) (int64, error) {
	n, err := m.field("meminfo", name+":")
	return n << 10, err
}

// field returns the number after a name in a file of /proc.
func (m *Machine) field(file, name string) (int64, error) {
	f, err := os.Open(filepath.Join(m.proc, file))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if words := strings.Fields(lines.Text()); len(words) > 1 && words[0] == name {
			return strconv.ParseInt(words[1], 10, 64)
		}
	}
	return 0, errors.Join(fmt.Errorf("%s has no %q", f.Name(), name), lines.Err())
}

// disk returns the bytes that are free to this process.
func (m *Machine) disk() (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(m.dir, &s); err != nil {
		return 0, fmt.Errorf("disk of %q: %w", m.dir, err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// threads returns how many more threads the kernel makes (proc_sys_kernel(5), proc_loadavg(5)).
func (m *Machine) threads() (int64, error) {
	text, err := os.ReadFile(filepath.Join(m.proc, "loadavg"))
	if err != nil {
		return 0, err
	}
	var one, five, fifteen float64
	var running, all int64
	if _, err := fmt.Sscanf(string(text), "%f %f %f %d/%d", &one, &five, &fifteen, &running,
		&all); err != nil {
		return 0, fmt.Errorf("loadavg %q: %w", text, err)
	}
	most, err := m.number("sys/kernel/threads-max")
	ids, err2 := m.number("sys/kernel/pid_max")
	return min(most, ids) - all, errors.Join(err, err2)
}

func (m *Machine) number(file string) (int64, error) {
	text, err := os.ReadFile(filepath.Join(m.proc, file))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

// manyStalls is how many waits for memory in a second are as bad as nothing but waiting, on a
// kernel that counts waits and no time.
const manyStalls = 1000

// pressure returns the share of the time since the last measurement in which something waited for
// memory. A kernel without pressure stall information (it is built without, or started with psi=0)
// counts how often something had to reclaim memory itself before it got any.
func (m *Machine) pressure(now time.Time) (float64, error) {
	since := now.Sub(m.at)
	first := m.at.IsZero() || since <= 0
	m.at = now
	share := func(part float64) float64 {
		if first {
			return 0
		}
		return min(max(part, 0), 1)
	}
	waited, err := m.waitTime()
	if err == nil {
		before := m.waited
		m.waited = waited
		return share(float64(waited-before) / float64(since)), nil
	}
	stalls, err := m.allStalls()
	if err != nil {
		return 0, err
	}
	before := m.stalls
	m.stalls = stalls
	return share(float64(stalls-before) / since.Seconds() / manyStalls), nil
}

// waitTime is for how long something has waited for memory since the machine's start (the
// kernel's Documentation/accounting/psi.rst).
func (m *Machine) waitTime() (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(m.proc, "pressure/memory"))
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	_, total, found := strings.Cut(line, "total=")
	if !strings.HasPrefix(line, "some ") || !found {
		return 0, fmt.Errorf("pressure of memory %q has no total", line)
	}
	micros, err := strconv.ParseInt(total, 10, 64)
	return time.Duration(micros) * time.Microsecond, err
}

// allStalls is how often something had to reclaim memory for itself, in every zone of it.
func (m *Machine) allStalls() (sum int64, err error) {
	text, err := os.ReadFile(filepath.Join(m.proc, "vmstat"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(name, "allocstall") {
			continue
		}
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("vmstat %q: %w", line, err)
		}
		sum += n
	}
	return sum, nil
}
