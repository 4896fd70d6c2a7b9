package gvisor

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	glog "gvisor.dev/gvisor/pkg/log"

	"github.com/sandpool/sandpool/internal/egress/front"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/cgroup"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/cores"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/kernfile"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/logs"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/netns"
	"github.com/sandpool/sandpool/internal/sandbox/turn"
)

// Directories and files in Config.Root.
const (
	boxesName     = "sandboxes"
	groupsName    = "cgroups"
	snapshotsName = "snapshots"
	logsName      = "logs"
	lockName      = "lock"
)

// Engine runs sandboxes on this machine. See the package comment.
type Engine struct {
	log     *slog.Logger
	cfg     Config
	lock    *os.File // holds Config.Root for this process
	boxDir  *os.File // Config.Root/sandboxes
	cgroups *cgroup.Tree
	cores   *cores.Cores
	logs    *logs.Store
	net     *netns.Net
	filters func() (*os.File, error) // of sentries, compiled once

	ids  turn.Keys[sandbox.ID] // one holder for each sandbox ID: Start or Stop
	keys turn.Keys[string]     // one holder for each snapshot key: Prepare or Prune

	mu sync.Mutex // guards what follows; taken last, held briefly
	// processes that run or whose end nobody has cleaned up
	processes map[sandbox.ID]*process
	starting  map[sandbox.ID]context.CancelFunc // cuts a Start short
	preparing map[sandbox.ID]bool               // sandboxes inside Prepare
	stopped   history                           // what Stop has removed, for Wait
	closed    bool
}

var (
	_ sandbox.Runtime            = (*Engine)(nil)
	_ sandbox.StatsReader        = (*Engine)(nil)
	_ sandbox.RoomReader         = (*Engine)(nil)
	_ sandbox.Weigher            = (*Engine)(nil)
	_ sandbox.Pruner             = (*Engine)(nil)
	_ sandbox.Executor           = (*Engine)(nil)
	_ sandbox.Accepter           = (*Engine)(nil)
	_ sandbox.LogReader          = (*Engine)(nil)
	_ sandbox.WorkingSetRecorder = (*Engine)(nil)
	_ sandbox.NetworkSetter      = (*Engine)(nil)
	_ sandbox.RefusalReader      = (*Engine)(nil)
)

// New takes over the state directory cfg.Root, which it makes if it is
// missing, sweeps half-made snapshots, and adopts the sandboxes that run.
// It fails if another process owns the directory, or if the host lacks
// something; see Check. log may be nil for none.
func New(log *slog.Logger, cfg Config) (*Engine, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := missing(CheckHost(cfg)); err != nil {
		return nil, err
	}
	glog.SetTarget(&toSlog{log}) // gVisor's client code logs to a target of the whole process
	e := &Engine{
		log:       log,
		filters:   sync.OnceValues(compileFilters),
		cfg:       cfg,
		processes: map[sandbox.ID]*process{},
		starting:  map[sandbox.ID]context.CancelFunc{},
		preparing: map[sandbox.ID]bool{},
	}
	if err := e.open(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func (e *Engine) open() (err error) {
	for _, name := range []string{boxesName, snapshotsName} {
		if err := os.MkdirAll(filepath.Join(e.cfg.Root, name), 0o700); err != nil {
			return fmt.Errorf("engine root: %w", err)
		}
	}
	if e.lock, err = lockFile(filepath.Join(e.cfg.Root, lockName)); err != nil {
		return err
	}
	if e.boxDir, err = os.Open(filepath.Join(e.cfg.Root, boxesName)); err != nil {
		return fmt.Errorf("engine root: %w", err)
	}
	if e.cgroups, err = e.openGroups(); err != nil {
		return err
	}
	if e.cores, err = cores.New(); err != nil {
		return err
	}
	e.logs, err = logs.Open(filepath.Join(e.cfg.Root, logsName), func(id sandbox.ID) bool {
		_, err := os.Stat(e.dir(id))
		return err == nil
	})
	if err != nil {
		return err
	}
	if err := e.sweepSnapshots(); err != nil {
		return err
	}
	if err := e.openNetwork(); err != nil {
		return err
	}
	if e.cfg.TuneHost {
		e.tuneHost(largePagesFile)
	}
	return e.adopt()
}

// largePagesFile is the setting that Config.TuneHost changes (Linux 6.11; see
// the kernel's Documentation/admin-guide/mm/transhuge.rst).
const largePagesFile = "/sys/kernel/mm/transparent_hugepage/hugepages-64kB/shmem_enabled"

// tuneHost turns large pages on if nobody has chosen a setting. It is about
// speed alone, so a failure is a line in the log.
func (e *Engine) tuneHost(path string) {
	setting, err := kernfile.Text(path)
	if err != nil || !strings.Contains(setting, "[never]") {
		return
	}
	if err := kernfile.Set(path, "always"); err != nil {
		e.log.Warn("large pages stay off; restores are slower", "setting", path, "error", err)
		return
	}
	e.log.Info("turned on large pages for shared memory", "setting", path)
}

// cgroupName is the engine's own cgroup. Its name comes from the state directory,
// so that engines beside each other never see each other's sandboxes.
func (c Config) cgroupName() string {
	sum := sha256.Sum256([]byte(c.Root))
	return fmt.Sprintf("%s/%x", c.CgroupParent, sum[:6])
}

// openGroups opens the engine's cgroups, and those of earlier engines on this state directory that
// had another parent, in which sandboxes may run. The state directory lists them.
func (e *Engine) openGroups() (*cgroup.Tree, error) {
	path, name := filepath.Join(e.cfg.Root, groupsName), e.cfg.cgroupName()
	list, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("engine root: %w", err)
	}
	former := slices.DeleteFunc(strings.Split(string(list), "\n"), func(s string) bool {
		return s == "" || s == name
	})
	// Written before anything is made there: one too many is no harm, one too few a sandbox that
	// nobody finds.
	text := strings.Join(append(former, name), "\n") + "\n"
	if text != string(list) {
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("engine root: %w", err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			return nil, fmt.Errorf("engine root: %w", err)
		}
	}
	return cgroup.Open(name, former...)
}

// lockWait is how long a new process waits for the lock of one that has just
// died: a child that it was starting holds it until its execve.
const lockWait = 2 * time.Second

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("engine lock: %w", err)
	}
	for end := time.Now().Add(lockWait); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			f.Close()
			return nil, fmt.Errorf("engine state %q is in use by another process: %w",
				filepath.Dir(path), err)
		}
	}
}

// Close lets go of the state directory. Sandboxes keep running; the next
// engine on the directory adopts them. A second call does nothing.
func (e *Engine) Close() error {
	var errs []error
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	errs = append(errs, e.cgroups.Close())
	for _, b := range e.processes {
		b.abandon()
	}
	clear(e.processes)
	if e.logs != nil {
		e.logs.Close()
	}
	if e.net != nil {
		errs = append(errs, e.net.Close())
	}
	for _, f := range []*os.File{e.boxDir, e.lock} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// dir is the directory of a sandbox.
func (e *Engine) dir(id sandbox.ID) string {
	return filepath.Join(e.cfg.Root, boxesName, string(id))
}

func (e *Engine) process(id sandbox.ID) *process {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.processes[id]
}

// toSlog takes gVisor's log lines: they are details of errors that the
// calls return as well.
type toSlog struct{ log *slog.Logger }

// Emit implements gVisor's log.Emitter.
func (t *toSlog) Emit(_ int, level glog.Level, _ time.Time, format string, args ...any) {
	if level == glog.Warning {
		t.log.Debug(fmt.Sprintf(format, args...), "from", "gvisor")
	}
}

// Config says where an engine keeps its state and how long it waits.
type Config struct {
	// Root is the directory of the engine's state: snapshots, and a directory
	// for each sandbox. One process owns it at a time.
	Root string
	// CgroupParent is the cgroup under which the engine makes one of its own;
	// empty means "sandpool".
	CgroupParent string
	// StartTimeout bounds a restore up to its readiness check; zero means 30 s.
	StartTimeout time.Duration
	// Image returns the EROFS file of an image on this host, and may fetch it first. Nil means
	// that a template's reference is the path of the file.
	Image func(ctx context.Context, i sandbox.Image) (path string, err error)
	// TuneHost lets New change one setting of the machine, until its next
	// start: shared memory, in which gVisor keeps the memory of its guests,
	// comes in pieces of 64 kB instead of 4 kB. Measured with a snapshot of 177 MB
	// it takes a restore from 440-570 to 265-380 ms of processor time.
	TuneHost bool
	// Resolvers answer for sandboxes with a network; without one those of /etc/resolv.conf do.
	Resolvers []netip.AddrPort
	// Private are ranges off the public network that the policy of a sandbox may name.
	Private []netip.Prefix
	// IPv6 gives sandboxes with a network an address of IPv6 as well.
	IPv6 bool
	// Front says how requests to which credentials are added meet their servers.
	Front front.Options
	// StopTimeout bounds how long Stop waits for killed processes to be gone;
	// zero means 20 s.
	StopTimeout time.Duration
}

// withDefaults checks c and returns it with every field set.
func (c Config) withDefaults() (Config, error) {
	if c.Root == "" {
		return c,
			errors.New("engine: Config.Root is empty; set it to a directory for the engine's state")
	}
	root, err := filepath.Abs(c.Root)
	if err != nil {
		return c, fmt.Errorf("engine root %q: %w", c.Root, err)
	}
	c.Root = root
	if c.Image == nil {
		c.Image = func(_ context.Context, i sandbox.Image) (string, error) {
			return i.Reference, nil
		}
	}
	if c.CgroupParent == "" {
		c.CgroupParent = "sandpool"
	}
	if c.CgroupParent != filepath.Clean(c.CgroupParent) || filepath.IsAbs(c.CgroupParent) ||
		c.CgroupParent[0] == '.' {
		return c, fmt.Errorf("engine: Config.CgroupParent is %q; use a relative path without dots",
			c.CgroupParent)
	}
	for _, d := range []struct {
		field    *time.Duration
		standard time.Duration
	}{
		{&c.StartTimeout, 30 * time.Second},
		{&c.StopTimeout, 20 * time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.standard
		}
	}
	return c, nil
}

// historySize bounds what an engine remembers of stopped sandboxes.
const historySize = 4096

// history remembers the last IDs that were added. It needs a lock around it.
type history struct {
	set  map[sandbox.ID]bool
	ring []sandbox.ID
	next int
}

func (h *history) add(id sandbox.ID) {
	if h.set == nil {
		h.set = map[sandbox.ID]bool{}
	}
	if h.set[id] {
		return
	}
	h.set[id] = true
	if len(h.ring) < historySize {
		h.ring = append(h.ring, id)
		return
	}
	delete(h.set, h.ring[h.next])
	h.ring[h.next] = id
	h.next = (h.next + 1) % historySize
}

func (h *history) has(id sandbox.ID) bool { return h.set[id] }
