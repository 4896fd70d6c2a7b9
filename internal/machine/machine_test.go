package machine

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/pool/room"
)

// proc writes the files of a machine.
func proc(t *testing.T, files map[string]string) *Machine {
	m := &Machine{proc: t.TempDir(), dir: t.TempDir()}
	for name, text := range files {
		path := filepath.Join(m.proc, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func files() map[string]string {
	return map[string]string{
		"meminfo": "MemTotal:       24684384 kB\nMemFree:  1 kB\nMemAvailable:    " +
			"   2048 kB\n",
		"loadavg":                "3.08 1.86 0.79 5/144 21404\n",
		"sys/kernel/threads-max": "192729\n",
		"sys/kernel/pid_max":     "32768\n",
		"vmstat":                 "allocstall_dma 1\nallocstall_normal 10\npgfault 7\n",
		"pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\nfull " +
			"avg10=0.00 avg60=0.00 avg300=0.00 total=5\n",
	}
}

func TestMeasure(t *testing.T) {
	m := proc(t, files())
	began := time.Now()
	got, err := m.Measure(began)
	if err != nil || got.Left.Memory != 2<<20 || got.Left.Threads != 32768-144 ||
		got.Left.Disk <= 0 || got.Pressure != 0 {
		t.Errorf("Measure = %+v, %v", got, err)
	}
	write(t, m, "pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\n")
	if got, err := m.Measure(began.Add(2 * time.Second)); err != nil || got.Pressure != 0.25 {
		t.Errorf("Measure = %+v, %v; want a quarter of the time under pressure", got, err)
	}
	if got, err := m.Measure(began.Add(3 * time.Second)); err != nil || got.Pressure != 0 {
		t.Errorf("Measure = %+v, %v; want that the pressure is over", got, err)
	}
}

func write(t *testing.T, m *Machine, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.proc, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A kernel without pressure stall information is judged by how often memory had to be reclaimed.
func TestMeasureWithoutPSI(t *testing.T) {
	all := files()
	delete(all, "pressure/memory")
	m := proc(t, all)
	began := time.Now()
	if got, err := m.Measure(began); err != nil || got.Pressure != 0 {
		t.Errorf("Measure = %+v, %v", got, err)
	}
	write(t, m, "vmstat", "allocstall_dma 101\nallocstall_normal 410\n")
	if got, err := m.Measure(began.Add(time.Second)); err != nil || got.Pressure != 0.5 {
		t.Errorf("Measure = %+v, %v; want half", got, err)
	}
}

// What cannot be read is an error and never a machine with room for everything.
func TestMeasureFails(t *testing.T) {
	for name := range files() {
		all := files()
		all[name] = "nonsense"
		if name == "pressure/memory" {
			delete(all, "vmstat")
		}
		if name == "vmstat" {
			continue // it is read only where there is no pressure
		}
		if got, err := proc(t, all).Measure(time.Now()); err == nil {
			t.Errorf("with a %s of nonsense Measure = %+v", name, got)
		}
	}
}

// This machine can be measured.
func TestThisMachine(t *testing.T) {
	m, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	total, err := Memory()
	got, err2 := m.Measure(time.Now())
	if err != nil || err2 != nil || got.Left.Memory <= 0 || got.Left.Memory > total ||
		got.Left.Lacks() != room.Resource("") {
		t.Errorf("Measure = %+v of %d, %v, %v", got, total, err, err2)
	}
}

// hidden is there in the process that TestHidden starts in a mount namespace of its own.
const hidden = "MACHINE_TEST_HIDDEN"

// TestHidden: where /proc has the files of processes alone, a procfs of its own has the others.
func TestHidden(t *testing.T) {
	need.Root(t)
	if os.Getenv(hidden) == "" {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHidden$")
		child.Env = append(os.Environ(), hidden+"=1")
		// which makes mounts private, too
		child.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		if out, err := child.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, "subset=pid"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/proc/meminfo"); err == nil {
		t.Error("/proc/meminfo is there: nothing is hidden")
	}
	m, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.Measure(time.Now())
	if err != nil || got.Left.Memory <= 0 || got.Left.Threads <= 0 {
		t.Errorf("Measure = %+v, %v", got, err)
	}
	if n, err := Memory(); err != nil || n <= got.Left.Memory {
		t.Errorf("Memory = %d, %v", n, err)
	}
}
