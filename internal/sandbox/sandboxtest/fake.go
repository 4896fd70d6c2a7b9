package sandboxtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/passwd"
)

// Fake is an engine in memory. Its sandboxes are HTTP servers that answer with
// the handler given to New, on the port of the template's readiness check and
// on the further ports given; their first process sends back what it reads on its standard
// input, and says there which stop signal it got, before it ends. Their root has the users and
// groups that Target.Template describes, and one program, "/exit CODE".
// Everything goes right unless Order says otherwise.
type Fake struct {
	world   *world
	handler http.Handler
	ports   []int
}

// world is what outlives one Fake value: the machine, so to say.
type world struct {
	mu        sync.Mutex // guards everything below
	sandboxes map[sandbox.ID]*fakeSandbox
	exits     map[sandbox.ID]sandbox.Exit // of sandboxes that are gone
	prepared  map[string]bool
	logs      map[sandbox.ID]*record
	orders    map[Call][]order
	counts    map[Call]int
	notice    string
}

// fakeSandbox is one sandbox. Its fields are guarded by world.mu; the channels are
// closed once.
type fakeSandbox struct {
	template sandbox.Template
	user     passwd.Identity
	running  bool
	server   *server
	input    *input
	wire     wire
	started  time.Time
	memory   int64
	used     sandbox.Stats // what Use has set
	weight   int
	cancel   context.CancelFunc // cuts Start short
	settled  chan struct{}      // closed when Start has returned
	ended    chan struct{}      // closed when exit is set
	exit     sandbox.Exit
}

var (
	_ sandbox.Runtime            = (*Fake)(nil)
	_ sandbox.StatsReader        = (*Fake)(nil)
	_ sandbox.Weigher            = (*Fake)(nil)
	_ sandbox.Pruner             = (*Fake)(nil)
	_ sandbox.Executor           = (*Fake)(nil)
	_ sandbox.LogReader          = (*Fake)(nil)
	_ sandbox.WorkingSetRecorder = (*Fake)(nil)
	_ sandbox.NetworkSetter      = (*Fake)(nil)
	_ sandbox.RefusalReader      = (*Fake)(nil)
	_ sandbox.Placer             = (*Fake)(nil)
	_ sandbox.Noticer            = (*Fake)(nil)
)

// New returns a Fake on a new, empty machine. A nil handler answers 200 to everything.
func New(h http.Handler, ports ...int) *Fake {
	if h == nil {
		h = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	}
	w := &world{sandboxes: map[sandbox.ID]*fakeSandbox{}, exits: map[sandbox.ID]sandbox.Exit{},
		prepared: map[string]bool{}, logs: map[sandbox.ID]*record{},
		orders: map[Call][]order{}, counts: map[Call]int{}}
	return &Fake{world: w, handler: h, ports: ports}
}

// Reopen returns a new engine value on the same machine, as a restarted process has it.
func (f *Fake) Reopen() *Fake {
	return &Fake{world: f.world, handler: f.handler, ports: f.ports}
}

// Place is that of all Fakes on one machine.
func (f *Fake) Place() string { return fmt.Sprintf("fake machine %p", f.world) }

// Note sets what Notice says, of every template.
func (f *Fake) Note(text string) {
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	f.world.notice = text
}

// Notice implements sandbox.Noticer.
func (f *Fake) Notice(sandbox.Prepared) string {
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	return f.world.notice
}

// Close ends all sandboxes, so that no goroutine is left.
func (f *Fake) Close() {
	w := f.world
	w.mu.Lock()
	sandboxes := w.sandboxes
	w.sandboxes = map[sandbox.ID]*fakeSandbox{}
	w.mu.Unlock()
	for _, b := range sandboxes {
		b.halt()
	}
}

// End ends a running sandbox as if by itself; its remains stay until Stop.
func (f *Fake) End(id sandbox.ID, exit sandbox.Exit) {
	w := f.world
	w.mu.Lock()
	b := w.sandboxes[id]
	if b == nil || !b.running {
		w.mu.Unlock()
		return
	}
	b.running, b.exit = false, exit
	close(b.ended)
	w.endLog(id)
	w.mu.Unlock()
	b.halt()
}

// halt ends what runs in b, if anything does.
func (b *fakeSandbox) halt() {
	if b.server != nil {
		b.server.stop()
		b.input.end()
	}
}

// Leave makes the remains of a half-started sandbox, as a kill -9 during Start does.
func (f *Fake) Leave(id sandbox.ID) {
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sandboxes[id] = remains()
}

func remains() *fakeSandbox {
	b := &fakeSandbox{cancel: func() {}, settled: make(chan struct{}), ended: make(chan struct{}),
		exit: sandbox.Exit{Reason: sandbox.Killed, Code: 137}}
	close(b.settled)
	close(b.ended)
	return b
}

// Running returns the ids of the running sandboxes, sorted.
func (f *Fake) Running() []sandbox.ID {
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	var ids []sandbox.ID
	for id, b := range w.sandboxes {
		if b.running {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Prepare implements sandbox.Runtime.
func (f *Fake) Prepare(ctx context.Context, t sandbox.Template,
	progress func(sandbox.Progress)) (sandbox.Prepared, error) {
	began := time.Now()
	fault := f.world.next(Prepare)
	if err := fault.wait(ctx); err != nil {
		return sandbox.Prepared{}, err
	}
	if fault.Err != nil {
		return sandbox.Prepared{}, fault.Err
	}
	if l := t.Limits; l.CPU <= 0 || l.Memory <= 0 || l.PIDs <= 0 || l.Disk <= 0 {
		return sandbox.Prepared{}, sandpool.Errorf(sandpool.Invalid, "", "limits",
			"Every limit of a template must be set: %+v.", l)
	}
	if _, err := checkProcess(t); err != nil {
		return sandbox.Prepared{}, err
	}
	key := keyOf(t)
	if !f.world.isPrepared(key) {
		if err := f.check(ctx, "prepare", t); err != nil {
			return sandbox.Prepared{}, err
		}
		if progress != nil {
			progress(sandbox.Progress{Step: "boot", Elapsed: time.Since(began)})
		}
		f.world.mu.Lock()
		f.world.prepared[key] = true
		f.world.mu.Unlock()
	}
	return sandbox.Prepared{Key: key, Template: t, Engine: f}, nil
}

func (w *world) isPrepared(key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.prepared[key]
}

// Key implements sandbox.Pruner.
func (f *Fake) Key(t sandbox.Template) (string, error) { return keyOf(t), nil }

// Kept implements sandbox.Pruner. A snapshot takes 1 MiB.
func (f *Fake) Kept(context.Context) (map[string]sandbox.Kept, error) {
	all := map[string]sandbox.Kept{}
	for _, key := range f.Prepared() {
		all[key] = sandbox.Kept{Bytes: 1 << 20, Made: time.Unix(1_700_000_000, 0)}
	}
	return all, nil
}

// Prune implements sandbox.Pruner.
func (f *Fake) Prune(ctx context.Context, keep []string) error {
	fault := f.world.next(Prune)
	if err := fault.wait(ctx); err != nil || fault.Err != nil {
		return errors.Join(err, fault.Err)
	}
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.prepared, func(key string, _ bool) bool {
		return !slices.Contains(keep, key)
	})
	return nil
}

// RecordWorkingSet implements sandbox.WorkingSetRecorder. There is nothing to learn of a sandbox in
// memory.
func (f *Fake) RecordWorkingSet(ctx context.Context, _ sandbox.Prepared, _ sandbox.Handle) error {
	fault := f.world.next(Record)
	if err := fault.wait(ctx); err != nil {
		return err
	}
	return fault.Err
}

// Prepared returns the keys of the templates that are prepared, sorted.
func (f *Fake) Prepared() []string {
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.prepared))
}

func keyOf(t sandbox.Template) string {
	data, err := json.Marshal(t)
	if err != nil {
		panic(err) // a Template holds nothing that JSON cannot
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// Start implements sandbox.Runtime.
func (f *Fake) Start(ctx context.Context, id sandbox.ID, p sandbox.Prepared) (sandbox.Handle,
	error) {
	fault := f.world.next(Start)
	if p.Engine != f {
		return sandbox.Handle{}, sandpool.Errorf(sandpool.Invalid, "", "prepared",
			"Start of %q got what another engine value prepared.", id)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b := &fakeSandbox{template: p.Template, memory: defaultMemory, cancel: cancel,
		settled: make(chan struct{}), ended: make(chan struct{}),
		wire: wire{born: p.Template.Network.Enabled(), policy: p.Template.Network}}
	var err error
	if b.user, err = checkProcess(p.Template); err != nil {
		return sandbox.Handle{}, err
	}
	if !f.world.isPrepared(p.Key) {
		return sandbox.Handle{}, sandpool.Errorf(sandpool.Invalid, "", "prepared",
			"The template %q was pruned.", p.Key)
	}
	if err := f.world.insert(id, b); err != nil {
		return sandbox.Handle{}, err
	}
	defer close(b.settled)
	watch := sandbox.NewStopwatch()
	err = fault.wait(ctx)
	watch.Lap("ready")
	if err == nil {
		err = f.check(ctx, id, p.Template)
	}
	if err == nil {
		err = fault.Err
	}
	if err == nil {
		b.input, err = newInput(f, p.Template.Channel)
	}
	if err := f.settle(id, b, fault, err); err != nil {
		return sandbox.Handle{}, err
	}
	if fault.Exit != nil {
		f.End(id, *fault.Exit)
	}
	return sandbox.Handle{ID: id, Data: []byte("fake.1 " + id), Steps: watch.Steps()}, nil
}

func (w *world) insert(id sandbox.ID, b *fakeSandbox) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, gone := w.exits[id]
	if w.sandboxes[id] != nil || gone {
		return sandpool.Errorf(sandpool.Conflict, "", "id",
			"The sandbox %q exists or existed already.", id)
	}
	w.sandboxes[id] = b
	return nil
}

// settle makes b a running sandbox, its remains, or nothing.
func (f *Fake) settle(id sandbox.ID, b *fakeSandbox, fault Fault, err error) error {
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		b.running, b.started, b.server = true, time.Now(), serve(id, f.handler)
		if b.template.Logs {
			w.logs[id] = &record{change: make(chan struct{})}
		}
	case fault.Leave:
		w.sandboxes[id] = remains()
	default:
		delete(w.sandboxes, id)
		b.exit = sandbox.Exit{Reason: sandbox.Killed}
		close(b.ended)
	}
	return err
}

// Dial implements sandbox.Runtime.
func (f *Fake) Dial(ctx context.Context, h sandbox.Handle, port int) (net.Conn, error) {
	fault := f.world.next(Dial)
	if err := fault.wait(ctx); err != nil {
		return nil, err
	}
	if fault.Err != nil {
		return nil, fault.Err
	}
	w := f.world
	w.mu.Lock()
	b := w.sandboxes[h.ID]
	if b == nil || !b.running {
		w.mu.Unlock()
		return nil, ended(h.ID)
	}
	s, open := b.server, f.listens(b.template, port)
	w.mu.Unlock()
	if port == sandbox.Channel {
		return f.channel(h.ID, b)
	}
	if !open {
		return nil, sandpool.Errorf(sandpool.Unavailable, "", "port",
			"Nothing listens on port %d of sandbox %q.", port, h.ID)
	}
	conn, err := s.dial(ctx, port)
	if err == net.ErrClosed {
		return nil, ended(h.ID)
	}
	return conn, err
}

func ended(id sandbox.ID) error {
	return sandpool.Errorf(sandpool.Ended, "", "", "The sandbox %q has ended.", id)
}

// Vanish makes a running sandbox disappear without anybody who waits for it being told.
func (f *Fake) Vanish(id sandbox.ID) {
	w := f.world
	w.mu.Lock()
	b := w.sandboxes[id]
	delete(w.sandboxes, id)
	w.mu.Unlock()
	if b != nil {
		b.halt()
	}
}
