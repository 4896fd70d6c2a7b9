package server

import (
	"fmt"
	"time"

	"github.com/sandpool/sandpool/internal/machine"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/pool/room"
	"github.com/sandpool/sandpool/internal/pool/share"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/server/engine"
)

// Reserve is what of the machine's memory, disk and threads is kept for sandboxes that run, and
// for the server. Package room says what is done with it.
type Reserve struct {
	MemoryMB int64 `yaml:"memory_mb"`
	DiskMB   int64 `yaml:"disk_mb"` // of the disk of the data directory
	Threads  int64 `yaml:"threads"`
}

// leastReserve is what one sandbox of the usual size may suddenly want for itself.
const leastReserve = 1024

// defaultReserve is a tenth of the machine's memory, and room for one sandbox at its limit.
func defaultReserve() Reserve {
	r := Reserve{MemoryMB: leastReserve, DiskMB: 1024, Threads: 1024}
	// otherwise it cannot be measured either, which New says
	if total, err := machine.Memory(); err == nil {
		// On a small machine that would be all of it.
		r.MemoryMB = min(max(total>>20/10, leastReserve), total>>20/4)
	}
	return r
}

// checkShares says what is wrong with the settings of how sandboxes share the machine.
func (c Config) checkShares(need func(ok bool, field string, value any, fix string)) {
	need(c.Reserve.MemoryMB >= 0, "reserve.memory_mb", c.Reserve.MemoryMB, "0 or more")
	need(c.Reserve.DiskMB >= 0, "reserve.disk_mb", c.Reserve.DiskMB, "0 or more")
	need(c.Reserve.Threads >= 0, "reserve.threads", c.Reserve.Threads, "0 or more")
	need(c.LightWeight >= share.Standard && c.LightWeight <= share.Light, "light_weight",
		c.LightWeight, fmt.Sprintf("%d to %d", share.Standard, share.Light))
}

// amount returns r in the units of package room.
func (r Reserve) amount() room.Amount {
	return room.Amount{Memory: r.MemoryMB << 20, Disk: r.DiskMB << 20, Threads: r.Threads}
}

// checkRoom measures what the machine has left for sandboxes. A machine that is full can be served
// on: it has sessions.
func checkRoom(cfg Config) sandbox.Requirement {
	r := sandbox.Requirement{Name: "room for sandboxes", OK: true}
	m, err := machine.New(existing(cfg.DataDir))
	if err != nil {
		r.OK, r.Detail, r.Fix = false, err.Error(),
			"Mount /proc, and choose a data directory on a local filesystem."
		return r
	}
	now, err := m.Measure(time.Now())
	if err != nil {
		r.OK, r.Detail, r.Fix = false, err.Error(),
			"Mount /proc, and choose a data directory on a local filesystem."
		return r
	}
	left := now.Left.Minus(cfg.Reserve.amount())
	r.Detail = fmt.Sprintf("beyond the reserve %d MB of memory, %d MB of disk, %d threads",
		left.Memory>>20, left.Disk>>20, left.Threads)
	one := room.Size{}.Within(room.Amount{}).Used.Max(room.Amount{Disk: cfg.Sandbox.DiskMB << 20})
	if lack := left.Minus(one).Lacks(); lack != "" {
		r.Fix = fmt.Sprintf("There is not enough %s for a session: end what uses it, or lower "+
			"the setting reserve.", lack)
	}
	return r
}

// newMachine makes what measures what sandboxes take from: this machine, or nothing if they are
// elsewhere, where the cluster says that it is full.
func (s *Server) newMachine() (pool.Machine, error) {
	if s.cfg.Engine == engine.InKubernetes {
		return nil, nil
	}
	host, err := machine.New(s.cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("measure the machine: %w", err)
	}
	return host, nil
}
