package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube/pull"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
	"github.com/sandpool/sandpool/internal/sandbox/turn"
)

// Engine runs sandboxes as pods. See the package comment.
type Engine struct {
	log   *slog.Logger
	cfg   Config
	pods  *cache
	ids   turn.Keys[sandbox.ID] // one holder for each sandbox ID: Start or Stop
	end   context.CancelFunc
	ended chan struct{}        // closed when the watch has ended
	net   map[string]*network  // by namespace
	used  map[string]*measures // by namespace
	pull  *pull.Puller
	logs  keptLogs

	mu       sync.Mutex // guards what follows; taken last, held briefly
	starting map[sandbox.ID]context.CancelCauseFunc
	streams  map[sandbox.ID]map[*stream]bool
	stopping map[sandbox.ID]int // how many calls of Stop are under way
	stopped  history            // IDs that Stop has ended, for Wait
	closed   bool
}

var (
	_ sandbox.Runtime  = (*Engine)(nil)
	_ sandbox.Executor = (*Engine)(nil)

	_ sandbox.LogReader   = (*Engine)(nil)
	_ sandbox.StatsReader = (*Engine)(nil)

	_ sandbox.NetworkSetter = (*Engine)(nil)
	_ sandbox.Placer        = (*Engine)(nil)
	_ sandbox.Noticer       = (*Engine)(nil)
)

// openTime bounds the first look at the cluster.
const openTime = 15 * time.Second

// New returns an Engine that knows the pods there are. Close gives back what it holds here; pods
// go on.
func New(ctx context.Context, log *slog.Logger, cfg Config) (*Engine, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	e := &Engine{log: log, cfg: cfg, ended: make(chan struct{}), net: networks(cfg),
		used:     map[string]*measures{},
		starting: map[sandbox.ID]context.CancelCauseFunc{},
		stopping: map[sandbox.ID]int{},
		streams:  map[sandbox.ID]map[*stream]bool{}}
	for _, namespace := range cfg.all() {
		e.used[namespace] = &measures{}
	}
	e.pull = pull.New(ctx, cfg.Client, log)
	e.pods = newCache(log, cfg, e.told)
	first, cancel := context.WithTimeoutCause(ctx, openTime,
		fmt.Errorf("no answer within %v", openTime))
	defer cancel()
	for _, namespace := range cfg.all() {
		if err := e.pods.fill(first, namespace); err != nil {
			return nil, fmt.Errorf("list the pods of namespace %q at %s: %w", namespace,
				cfg.Client.Host(), err)
		}
		if err := e.sweepProbes(first, namespace); err != nil {
			return nil, fmt.Errorf("remove what an earlier server left in namespace %q: %w",
				namespace, err)
		}
		if err := e.sweepPulls(first, namespace); err != nil {
			return nil, fmt.Errorf("remove what an earlier server had nodes pull in namespace "+
				"%q: %w", namespace, err)
		}
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	e.end = end
	go func() {
		defer close(e.ended)
		e.pods.run(life)
	}()
	return e, nil
}

// Close ends the watch and the streams into sandboxes. Pods go on; the next engine adopts them. A
// second call does nothing.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	e.mu.Unlock()
	e.end()
	e.logs.close()
	e.pull.Close()
	<-e.ended
	e.cfg.Client.Close()
	return nil
}

// told closes the streams into a sandbox that has ended.
func (e *Engine) told(id sandbox.ID, p *rest.Pod) {
	if _, over := exitOf(p); !over {
		return
	}
	e.mu.Lock()
	streams := e.streams[id]
	delete(e.streams, id)
	e.mu.Unlock()
	for s := range streams {
		_ = s.TCPConn.Close()
	}
}

// Place implements sandbox.Placer: whoever asks the same API server for the same pods.
func (e *Engine) Place() string {
	return "kubernetes " + e.cfg.Client.Host() + " " + e.cfg.Namespace + "/" + e.cfg.Instance
}

// List implements sandbox.Runtime. It asks the API server: what is stopped by it must be true.
func (e *Engine) List(ctx context.Context) ([]sandbox.Found, error) {
	var found []sandbox.Found
	for _, namespace := range e.cfg.all() {
		list, _, err := e.cfg.Client.ListPods(ctx, namespace, e.cfg.sandboxes())
		if err != nil {
			return nil, fmt.Errorf("list the pods of namespace %q: %w", namespace, err)
		}
		for i := range list {
			found = append(found, sandbox.Found{ID: idOf(&list[i]), Running: runs(&list[i])})
		}
	}
	return found, nil
}

// runs reports whether a pod can serve.
func runs(p *rest.Pod) bool {
	if _, over := exitOf(p); over {
		return false
	}
	return p.Status.Phase == rest.Running && p.Status.PodIP != "" &&
		p.Metadata.DeletionTimestamp == nil && containerOf(p).State.Running != nil
}

// Wait implements sandbox.Runtime.
func (e *Engine) Wait(ctx context.Context, h sandbox.Handle) (sandbox.Exit, error) {
	for {
		p, changed := e.pods.get(h.ID)
		switch exit, over := e.pods.exit(h.ID, p); e.stopOf(h.ID) {
		case stopped:
			return sandbox.Exit{Reason: sandbox.Stopped}, nil
		case unstopped:
			if over {
				e.pods.forget(h.ID)
				return exit, nil
			}
		case stopping: // which says so when it has come to its end
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return sandbox.Exit{}, context.Cause(ctx)
		}
	}
}

// ended is the error of a sandbox that is not there any more.
func ended(id sandbox.ID) error {
	return sandpool.Errorf(sandpool.Ended, "", "", "The sandbox %q has ended.", id)
}

// stream is a connection into a sandbox.
type stream struct {
	*net.TCPConn
	engine *Engine
	id     sandbox.ID
}

// Close implements net.Conn.
func (s *stream) Close() error {
	s.engine.mu.Lock()
	delete(s.engine.streams[s.id], s)
	if len(s.engine.streams[s.id]) == 0 {
		delete(s.engine.streams, s.id)
	}
	s.engine.mu.Unlock()
	return s.TCPConn.Close()
}

// errStopped is why a Start ends that a Stop cuts short.
var errStopped = errors.New("the sandbox was stopped while it started")
