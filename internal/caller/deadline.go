package caller

import (
	"errors"
	"os"
	"sync"
	"time"
)

// A deadline is that of one direction of a connection. Most are set and set anew without any call
// having waited, and the next is later than the one before. So the runtime is told of one when a
// call waits, and not while it knows an earlier one: when that comes, it is told anew.
type deadline struct {
	// tell tells the runtime.
	tell func(time.Time) error

	// mu guards the fields below it.
	mu sync.Mutex
	// want is the deadline, zero if there is none, and told what the runtime knows.
	want, told time.Time
	// waits says that a call waits.
	waits bool
}

// set sets the deadline, also of a call that waits.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.want = t
	if d.waits {
		d.update()
	}
}

// update tells the runtime of a deadline that it does not know an earlier one than. The caller
// holds mu.
func (d *deadline) update() {
	if !d.want.IsZero() && (d.told.IsZero() || d.told.After(d.want)) {
		d.told = d.want
		_ = d.tell(d.want) // the call will tell what is wrong
	}
}

// do has the raw connection's Read or Write call try until try is true, or the deadline has come.
func (d *deadline) do(call func(func(uintptr) bool) error, try func(fd uintptr) bool) error {
	if d.passed() {
		return os.ErrDeadlineExceeded
	}
	for {
		waited := false
		err := call(func(fd uintptr) bool {
			if try(fd) {
				return true
			}
			waited = true
			d.mu.Lock()
			defer d.mu.Unlock()
			d.waits = true
			d.update()
			return false
		})
		if err == nil && !waited {
			return nil
		}
		if !d.early(err) {
			return err
		}
	}
}

// early ends a wait. It reports whether that ended before the deadline, with the runtime's.
func (d *deadline) early(err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waits = false
	if !errors.Is(err, os.ErrDeadlineExceeded) || d.over() {
		return false
	}
	d.told = d.want
	return d.tell(d.want) == nil
}

// passed reports whether the deadline has come.
func (d *deadline) passed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.over()
}

// over is passed for those who hold mu.
func (d *deadline) over() bool { return !d.want.IsZero() && !time.Now().Before(d.want) }
