package gvisor

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
	gcontext "gvisor.dev/gvisor/pkg/context"
	glog "gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/metric"
	"gvisor.dev/gvisor/pkg/seccomp"
	"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"
	"gvisor.dev/gvisor/pkg/sentry/kernel"
	"gvisor.dev/gvisor/pkg/sentry/platform"
	"gvisor.dev/gvisor/pkg/sentry/seccheck"
	pb "gvisor.dev/gvisor/pkg/sentry/seccheck/points/points_go_proto"
	"gvisor.dev/gvisor/runsc/boot/filter"
	"gvisor.dev/gvisor/runsc/boot/filter/config"
	"gvisor.dev/gvisor/runsc/cli/maincli"
	"gvisor.dev/gvisor/runsc/specutils"
)

// sentryName is the name under which sandbox processes run (argv[0]).
const sentryName = "runsc-sandbox"

// HandOver turns the process into gVisor's kernel if it was started to be
// that, and then does not return. Otherwise it does nothing. main, and TestMain of every test that
// uses the engine, call it before anything else: what runs before it runs
// again in every sandbox process.
func HandOver() {
	if isSentry(os.Args) {
		checkBounding()
		closeStrays()
		collectLess()
		keepProcessors()
		useFilters()
		if slices.Contains(os.Args, setUpRoot) {
			glog.SetLevel(glog.Warning) // lines of lower levels would be formatted and dropped
			skipTracePoints()
			useUmounter()
		}
		if os.Getenv(snapshotVariable) != "" {
			dropNames()
		}
		maincli.Main()
		os.Exit(128) // Main exits by itself; 128 is its own code for a failure
	}
}

// checkBounding stops a sentry in which the launcher has not emptied the bounding set
// of capabilities: gVisor then has no right to, and does not say so.
func checkBounding() {
	if !tinyPrograms || !slices.Contains(os.Args, setUpRoot) {
		return
	}
	for c := range 64 {
		if held, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err == nil &&
			held != 0 {
			panic(fmt.Sprintf("sandpool: the bounding set holds capability %d", c))
		}
	}
}

// closeStrays closes what a new sentry inherits and was not given: descriptors
// that the server itself inherited, and the control connections to other
// sandboxes, which gVisor opens without close-on-exec. A sentry that is broken
// into must not hold them, and gVisor refuses to start where one has a number that it wants for
// itself. The engine's own descriptors end with the filter's.
func closeStrays() {
	last, err := strconv.Atoi(os.Getenv(filterVariable))
	if err != nil || !slices.Contains(os.Args, setUpRoot) {
		return // a later step of the same start: what is open then belongs there
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(fmt.Sprintf("sandpool: descriptors cannot be listed: %v", err))
	}
	if tinyPrograms {
		_ = unix.Close(programFD)
		_ = unix.Close(launcherFD)
	}
	for _, entry := range fds {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd <= last {
			continue
		}
		target, err := os.Readlink("/proc/self/fd/" + entry.Name())
		if err == nil && !strings.HasPrefix(target, "anon_inode:") { // those are the Go runtime's
			_ = unix.Close(fd) // it was open a moment ago
		}
	}
}

// A sentry's heap grows from nothing to some 12 MB within its start, and with Go's usual
// setting a sixth of the start's processor time goes into collecting it (by perf). Lowering
// the setting some time after the start made it worse where it hurts most: the next
// allocation, which is the first request's, then began a collection, a third of what a
// hundred first answers at once cost. So nothing is collected until the heap has this size,
// or Go's timer of two minutes has run out on an idle sandbox; and as usual from then on.
const (
	firstHeap      = 32 << 20
	smallestHeap   = 4 << 20 // Go's, for a setting of 100
	usualGCPercent = 100
)

func collectLess() {
	debug.SetGCPercent(firstHeap / smallestHeap * usualGCPercent)
	// which nobody refers to, so that the first collection finds it
	first := &struct{ *sync.Once }{}
	runtime.AddCleanup(first, func(percent int) { debug.SetGCPercent(percent) }, usualGCPercent)
}

// readers is how many goroutines gVisor starts to read a snapshot's pages, and by how
// much it raises GOMAXPROCS meanwhile: on a small machine that is some hundred
// threads that come and go, in each restore.
const readers = 128

// extraProcessors is what gVisor has added to GOMAXPROCS. The linker refuses
// to build if a later version has it no more.
//
//go:linkname extraProcessors gvisor.dev/gvisor/pkg/gomaxprocs.temp
var extraProcessors int

// keepProcessors makes the readers add up to nothing, so that GOMAXPROCS stays what
// the engine has set in the environment.
func keepProcessors() { extraProcessors = -readers }

// isSentry reports whether gVisor started the process for itself: as the
// kernel of a sandbox, or as the short helper that unmounts /proc beneath it.
func isSentry(args []string) bool {
	if len(args) == 0 {
		return false
	}
	if strings.HasPrefix(filepath.Base(args[0]), "runsc") {
		return true
	}
	return len(args) > 1 && args[0] == "/proc/self/exe" && args[1] == "umount"
}

// gVisor compiles the seccomp filter of a sentry when it starts, which is a
// seventh of the processor time of a restore (20 of 140 ms, by perf). It has a
// table of filters compiled in advance for this, which its own build fills and
// its Go module leaves empty. The engine compiles the one filter that it needs
// once, with gVisor's own rules and compiler, and has the sentries find it in
// that table. A sentry whose options differ does not find it and compiles its own.

// filterVariable is the environment variable with the descriptor of the filter.
const filterVariable = "SANDPOOL_SECCOMP_FD"

// setUpRoot is the flag of the first of the steps in which a sentry starts.
const setUpRoot = "--setup-root"

// filterRules is gVisor's list of what a sentry may ask of the host. The
// linker refuses to build if a later version has it no more.
//
//go:linkname filterRules gvisor.dev/gvisor/runsc/boot/filter/config.rules
func filterRules(opt config.Options, vars precompiledseccomp.Values) (allow,
	deny seccomp.SyscallRules)

//go:linkname filterTable gvisor.dev/gvisor/runsc/boot/filter.precompiledPrograms
var filterTable map[string]precompiledseccomp.Program

// compileFilters returns a sealed file with the filters of the platform that
// sentryFlags choose.
func compileFilters() (*os.File, error) {
	systrap, err := platform.Lookup("systrap")
	if err != nil {
		return nil, err
	}
	table := map[string]precompiledseccomp.Program{}
	for _, info := range systrap.PrecompiledSeccompInfo() {
		opt := config.Options{Platform: info}
		p, err := precompiledseccomp.Precompile(opt.ConfigKey(), keysOf(opt.Vars()),
			func(vars precompiledseccomp.Values) *seccomp.Program {
				allow, deny := filterRules(opt, vars)
				return &seccomp.Program{
					RuleSets: []seccomp.RuleSet{{Rules: deny.Copy()},
						{Rules: allow.Copy(), Action: seccomp.Allow}},
					Options: config.SeccompOptions(opt),
				}
			})
		if err != nil {
			return nil, fmt.Errorf("compile the seccomp filter: %w", err)
		}
		table[p.Name] = p
	}
	data, err := json.Marshal(table)
	if err != nil {
		return nil, fmt.Errorf("encode the seccomp filter: %w", err)
	}
	return sealedFile("seccomp", data)
}

func keysOf(v precompiledseccomp.Values) (keys []string) {
	for key := range v {
		keys = append(keys, key)
	}
	return keys
}

// sealedFile returns a file in memory that nobody can change any more, so
// that a sentry cannot loosen the filter of the next.
func sealedFile(name string, data []byte) (*os.File, error) {
	f, err := memFile(name, data)
	if err != nil {
		return nil, err
	}
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal a memory file: %w", err)
	}
	return f, nil
}

// useFilters puts the filters that the engine passed on into gVisor's table.
// It runs in the sentry. What goes wrong costs time only: the sentry then
// compiles its own.
func useFilters() {
	fd, err := strconv.Atoi(os.Getenv(filterVariable))
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), "seccomp")
	defer f.Close()
	data, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<24))
	if err != nil {
		return
	}
	var table map[string]precompiledseccomp.Program
	if json.Unmarshal(data, &table) != nil {
		return
	}
	filter.ListPrecompiled() // makes the table, which is empty
	maps.Copy(filterTable, table)
}

// skipTracePoints spares a sentry the list of what can be traced in it, which only
// the configuration of a trace reads and which takes 6 ms to make.
func skipTracePoints() { tracePoints.Do(func() {}) }

// The linker refuses to build if a later version has it no more.
//
//go:linkname tracePoints gvisor.dev/gvisor/pkg/sentry/seccheck.initOnce
var tracePoints sync.Once

// useUmounter has gVisor start umountCode where it would start this whole program.
// Where that cannot be made, gVisor's way remains.
func useUmounter() {
	if !tinyPrograms {
		return
	}
	// it stays open: the number is what gVisor gets
	if fd, err := programFile("umount", umountCode); err == nil {
		specutils.ExePath = fmt.Sprintf("/proc/self/fd/%d", fd)
	}
}

// gVisor keeps the names of the last thousand files of each image that were looked up, which a
// restore then decodes one by one: a third of its decoding, for files that the
// warm-up read once. So the sentry of a snapshot forgets them when it is asked to
// just before its checkpoint. gVisor has no request for that; it has one that reads
// metrics, and a metric may have a function.

// snapshotVariable is the environment variable of a sentry of which a snapshot is taken.
const snapshotVariable = "SANDPOOL_SNAPSHOT"

// forgottenMetric counts the images whose names its reading has forgotten.
const forgottenMetric = "/sandpool/forgotten"

// dropNames makes reading forgottenMetric forget names.
func dropNames() {
	n := &nameDropper{}
	seccheck.Global.AppendSink(n, []seccheck.PointReq{{Pt: seccheck.PointClone}})
	metric.MustRegisterCustomUint64Metric(forgottenMetric,
		metric.Uint64Metadata{Description: "Images whose names were forgotten."},
		func(...*metric.FieldValue) uint64 { return n.drop() })
}

// nameDropper learns of the kernel, of which gVisor has no global variable, when a
// task starts another, and that every program with a thread does.
type nameDropper struct {
	seccheck.SinkDefaults
	kernel atomic.Pointer[kernel.Kernel]
}

// Name implements seccheck.Sink.
func (*nameDropper) Name() string { return "sandpool" }

// Clone implements seccheck.Sink.
func (n *nameDropper) Clone(ctx gcontext.Context, _ seccheck.FieldSet, _ *pb.CloneInfo) error {
	n.kernel.Store(kernel.KernelFromContext(ctx))
	return nil
}

func (n *nameDropper) drop() (images uint64) {
	k := n.kernel.Load()
	if k == nil {
		return 0
	}
	ctx := k.SupervisorContext()
	for _, fs := range k.VFS().GetFilesystems() {
		impl := fs.Impl()
		if reflect.TypeOf(impl).String() == "*erofs.filesystem" {
			forget(reflect.ValueOf(impl).UnsafePointer(), ctx)
			images++
		}
		fs.DecRef(ctx)
	}
	return images
}

// forget empties the cache of names of a *erofs.filesystem. The linker refuses to
// build if a later version has it no more.
//
//go:linkname forget gvisor.dev/gvisor/pkg/sentry/fsimpl/erofs.(*filesystem).evictAllCachedDentries
func forget(fs unsafe.Pointer, ctx gcontext.Context)
