package guest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/jupyter"
	"github.com/sandpool/sandpool/internal/agent/kernels"
)

// contexts are the kernels of a sandbox besides its default one. Each starts from nothing, when
// it is asked for: in the snapshot it would cost every sandbox its memory.
type contexts struct {
	mu    *sync.Mutex // guards the fields below it
	named map[string]*named
}

// named is a context.
type named struct {
	kernel  string
	created time.Time
	ready   chan struct{} // closed when the kernel has started, or could not
	driver  *Driver       // valid then, and nil if it could not
	failed  error
}

func newContexts() contexts { return contexts{mu: new(sync.Mutex), named: map[string]*named{}} }

// of returns where a request runs. The default context takes neither lock nor memory.
func (cs contexts) of(ctx context.Context, base *Driver, req agent.ExecuteRequest) (*Driver,
	error) {
	if req.Kernel == "" && (req.Context == "" || req.Context == agent.DefaultContext) {
		return base, nil
	}
	if req.Kernel == "" {
		return cs.find(ctx, base, req.Context)
	}
	return cs.make(ctx, base, cmp.Or(req.Context, req.Kernel), req.Kernel)
}

// find returns a context that is there.
func (cs contexts) find(ctx context.Context, base *Driver, name string) (*Driver, error) {
	if name == "" || name == agent.DefaultContext {
		return base, nil
	}
	cs.mu.Lock()
	n := cs.named[name]
	cs.mu.Unlock()
	if n == nil {
		return nil, unknownContext(name)
	}
	return n.wait(ctx)
}

func unknownContext(name string) error {
	return sandpool.Errorf(sandpool.NotFound, "ContextNotFound", "context",
		"The session has no context %.64q. Make it first, or name its kernel in the request.", name)
}

func (n *named) wait(ctx context.Context) (*Driver, error) {
	select {
	case <-n.ready:
		return n.driver, n.failed
	case <-ctx.Done():
		return nil, left(ctx.Err())
	}
}

// make returns a context with a kernel of that name, and starts it unless it is there.
func (cs contexts) make(ctx context.Context, base *Driver, name, kernel string) (*Driver, error) {
	if err := cmp.Or(agent.CheckName("context", name), agent.CheckName("kernel",
		kernel)); err != nil {
		return nil, err
	}
	if name == agent.DefaultContext {
		if kernel == base.cfg.Kernel.Name {
			return base, nil
		}
		return nil, otherKernel(name, base.cfg.Kernel.Name)
	}
	cs.mu.Lock()
	n := cs.named[name]
	if n == nil && len(cs.named)+1 >= agent.MaxContexts {
		cs.mu.Unlock()
		return nil, sandpool.Errorf(sandpool.Conflict, "TooManyContexts", "context",
			"The session has %d contexts and can have no more. Delete one.", agent.MaxContexts)
	}
	if n == nil {
		n = &named{kernel: kernel, created: time.Now(), ready: make(chan struct{})}
		cs.named[name] = n
		go cs.start(base, n, name)
	}
	cs.mu.Unlock()
	if n.kernel != kernel {
		return nil, otherKernel(name, n.kernel)
	}
	return n.wait(ctx)
}

func otherKernel(name, kernel string) error {
	return sandpool.Errorf(sandpool.Conflict, "ContextExists", "kernel",
		"The context %q has the kernel %q already. Choose another name.", name, kernel)
}

// start gives a context its kernel, and forgets a context that has got none.
func (cs contexts) start(base *Driver, n *named, name string) {
	defer close(n.ready)
	d, err := cs.driver(base, n.kernel, name)
	if err == nil {
		n.driver = d
		return
	}
	base.log.Warn("start a context", "kernel", n.kernel, "error", err)
	n.failed = err
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.named, name)
}

func (cs contexts) driver(base *Driver, kernel, name string) (*Driver, error) {
	spec, err := base.cfg.language(kernel)
	if err != nil {
		return nil, err
	}
	cfg := base.cfg
	cfg.Kernel = spec
	if kernel != base.cfg.Kernel.Name {
		cfg.Interpreter = ""
	}
	d := newDriver(base.log, base.procs, cfg)
	d.alone = func() bool { return false } // the default one is there
	seed := sha256.Sum256(append(slices.Clone(base.seed), name...))
	d.seed = seed[:]
	if err := d.replace(); errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, &sandpool.Error{Class: sandpool.Unavailable, Code: "KernelUnavailable",
			Target: "kernel", Err: err, RetryAfter: time.Second, Message: "The kernel " + kernel +
				" did not start in time. Try again."}
	} else if err != nil {
		return nil, &sandpool.Error{Class: sandpool.NotFound, Code: "KernelUnavailable",
			Target: "kernel", Err: err, Message: "The kernel " + kernel +
				" does not start in this image." + saidLast(err)}
	}
	return d, nil
}

// language finds a kernel: one of ours, or one that the image has for Jupyter.
func (c Config) language(name string) (kernels.Spec, error) {
	spec, err := kernels.Find(name)
	if err == nil {
		return spec, nil
	}
	var found jupyter.Kernelspec
	err = c.User.do(func() (err error) {
		found, err = jupyter.Find(jupyter.Dirs(c.environ()), name)
		return err
	})
	program := c.Bridge
	if err == nil && program == "" {
		program, err = os.Executable()
	}
	if err == nil {
		return kernels.Jupyter(program, found.Name), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return spec, &sandpool.Error{Class: sandpool.NotFound, Code: "KernelUnavailable",
			Target: "kernel", Err: err, Message: "The kernelspec " + name + " cannot be used: " +
				err.Error()}
	}
	var names []string
	for _, k := range c.languages() {
		names = append(names, k.Name)
	}
	return spec, &sandpool.Error{Class: sandpool.NotFound, Code: "KernelNotFound",
		Target: "kernel", Err: err, Message: "There is no kernel " + name + ". Kernels are: " +
			strings.Join(names, ", ") + "."}
}

// languages lists the kernels that the image has: ours first, by whether their interpreter is
// there, then those for Jupyter. None that is ours is hidden by another of its name.
func (c Config) languages() []agent.Kernel {
	all := []agent.Kernel{}
	for _, name := range kernels.Names() {
		cfg := c
		spec, err := kernels.Find(name)
		if cfg.Kernel = spec; err != nil || name != c.Kernel.Name && !cfg.installed() {
			continue
		}
		all = append(all, agent.Kernel{Name: name, DisplayName: name, Language: name})
	}
	var found []jupyter.Kernelspec
	_ = c.User.do(func() error { // without the rights of the user there are none
		found = jupyter.List(jupyter.Dirs(c.environ()))
		return nil
	})
	for _, k := range found {
		if _, err := kernels.Find(k.Name); err != nil {
			all = append(all, agent.Kernel{Name: k.Name, DisplayName: k.DisplayName,
				Language: k.Language, Jupyter: true})
		}
	}
	return all
}

// installed reports whether there is an interpreter for the kernel.
func (c Config) installed() bool {
	c.Interpreter = ""
	_, err := c.command()
	return err == nil
}

// saidLast is what a kernel printed before it failed to start.
func saidLast(err error) string {
	var failed *callError
	if !errors.As(err, &failed) || failed.said == "" {
		return ""
	}
	said := strings.TrimSpace(failed.said)
	return " It said: " + strings.ToValidUTF8(said[max(0, len(said)-maxSaid):], "")
}

// maxSaid bounds it.
const maxSaid = 1 << 10

// alone reports that the default context is the only one.
func (cs contexts) alone() bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return len(cs.named) == 0
}

// list describes the contexts, the default one first.
func (cs contexts) list(base *Driver) []agent.Context {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	all := []agent.Context{}
	for name, n := range cs.named {
		c := agent.Context{Name: name, Kernel: n.kernel, Created: n.created}
		select {
		case <-n.ready:
			n.driver.tell(&c)
		default:
			c.Running = true
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b agent.Context) int { return strings.Compare(a.Name, b.Name) })
	first := agent.Context{Name: agent.DefaultContext, Kernel: base.cfg.Kernel.Name}
	base.tell(&first)
	return slices.Insert(all, 0, first)
}

// tell adds what a driver does.
func (d *Driver) tell(c *agent.Context) {
	if d == nil {
		return
	}
	c.Waiting = d.waiting.Load()
	d.mu.Lock()
	defer d.mu.Unlock()
	c.Running = d.running != nil
}

// remove ends a context. Executions that wait in it fail.
func (cs contexts) remove(ctx context.Context, name string) error {
	if name == agent.DefaultContext || name == "" {
		return sandpool.Errorf(sandpool.Conflict, "DefaultContext", "context",
			"The default context cannot be deleted. Restart it, or delete the session.")
	}
	cs.mu.Lock()
	n := cs.named[name]
	cs.mu.Unlock()
	if n == nil {
		return unknownContext(name)
	}
	d, err := n.wait(ctx)
	if err != nil {
		return err
	}
	// It is counted until it is gone.
	err = d.end()
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.named[name] == n { // else somebody else has ended it: the name may be another's by now
		delete(cs.named, name)
	}
	return err
}

// register adds the contexts' part of the protocol.
func (cs contexts) register(handle func(string, func(http.ResponseWriter, *http.Request) error),
	base func() *Driver) {
	handle("GET /contexts", func(w http.ResponseWriter, _ *http.Request) error {
		return agent.WriteJSON(w, cs.list(base()))
	})
	handle("GET /kernels", func(w http.ResponseWriter, _ *http.Request) error {
		return agent.WriteJSON(w, base().cfg.languages())
	})
	handle("PUT /context", func(w http.ResponseWriter, r *http.Request) error {
		name, kernel := r.URL.Query().Get("name"), r.URL.Query().Get("kernel")
		if _, err := cs.make(r.Context(), base(), name, kernel); err != nil {
			return err
		}
		all := cs.list(base())
		i := slices.IndexFunc(all, func(c agent.Context) bool { return c.Name == name })
		if i < 0 {
			return unknownContext(name)
		}
		return agent.WriteJSON(w, all[i])
	})
	on := func(pattern string, do func(ctx context.Context, d *Driver) error) {
		handle(pattern, func(w http.ResponseWriter, r *http.Request) error {
			d, err := cs.find(r.Context(), base(), r.URL.Query().Get("name"))
			if err == nil {
				err = do(r.Context(), d)
			}
			if err == nil {
				w.WriteHeader(http.StatusNoContent)
			}
			return err
		})
	}
	on("POST /context/interrupt", func(_ context.Context, d *Driver) error {
		d.Interrupt()
		return nil
	})
	on("POST /context/restart", func(ctx context.Context,
		d *Driver) error {
		return d.Restart(ctx)
	})
	handle("DELETE /context", func(w http.ResponseWriter, r *http.Request) error {
		if err := cs.remove(r.Context(), r.URL.Query().Get("name")); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
}

// normalise is normalise with what depends on the kernel.
func (d *Driver) normalise(req *agent.ExecuteRequest) error {
	if err := normalise(req); err != nil {
		return err
	}
	if (len(req.Args) > 0 || req.Posix || req.Command) && !d.cfg.Kernel.Statuses {
		return sandpool.Errorf(sandpool.Invalid, "NotACommand", "code",
			"The kernel %q runs code, not commands. Send it as 'code'.", d.cfg.Kernel.Name)
	}
	if d.cfg.Kernel.Fixed && (req.Dir != "" || len(req.Env) > 0) {
		return sandpool.Errorf(sandpool.Invalid, "FixedEnvironment", "kernel",
			"The kernel %q is Jupyter's, which runs code in its own environment and directory "+
				"alone. Change them in the code.", d.cfg.Kernel.Name)
	}
	return d.cfg.enter(&req.Dir)
}

// enter makes a working directory absolute, and checks that the user can be there. It reads nothing
// of c that a Driver's Seed changes, which may come at the same time.
func (c *Config) enter(dir *string) error {
	if *dir == "" {
		return nil
	}
	if !filepath.IsAbs(*dir) {
		*dir = filepath.Join(c.DataDir, *dir)
	}
	return c.User.do(func() error { // who may go where the user may, for it goes as the user
		info, err := os.Stat(*dir)
		if err == nil && info.IsDir() {
			return nil
		}
		return &sandpool.Error{Class: sandpool.Invalid, Code: "InvalidWorkingDirectory",
			Target: "workingDirectory", Err: err, Message: "The working directory is none that the " +
				"session's user can enter. Make it first."}
	})
}
