package server

import (
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// settleTime is how long memory that has become free waits for its next use.
const settleTime = 5 * time.Second

// memory gives memory back to the machine that large requests have left behind. Go would do so
// by itself, but keeps what a peak has taken for minutes, which sandboxes could use.
type memory struct{ pending atomic.Bool }

// free is called when much memory has become free. It does not block.
func (m *memory) free() {
	if m.pending.Swap(true) {
		return
	}
	time.AfterFunc(settleTime, func() {
		m.pending.Store(false)
		runtime.GC() // what pools of buffers hold goes with the second collection
		debug.FreeOSMemory()
	})
}
