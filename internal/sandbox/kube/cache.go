package kube

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
)

// cache is a copy of the pods of all sandboxes. A goroutine for each namespace keeps it; Start puts
// in what it has just made.
type cache struct {
	log *slog.Logger
	cfg Config
	// told is called without the lock after a pod has changed; p is nil once it is gone.
	told func(id sandbox.ID, p *rest.Pod)

	mu      sync.Mutex        // guards what follows
	version map[string]string // of the last event, by namespace; none if all is listed anew
	pods    map[sandbox.ID]*rest.Pod
	gone    history // the uids of pods that are gone, which late news must not bring back
	ended   history // the keys of ends
	// ends is how pods ended that are gone.
	ends    map[sandbox.ID]sandbox.Exit
	waiting map[sandbox.ID]chan struct{}
}

func newCache(log *slog.Logger, cfg Config, told func(sandbox.ID, *rest.Pod)) *cache {
	return &cache{log: log, cfg: cfg, told: told, version: map[string]string{},
		pods: map[sandbox.ID]*rest.Pod{}, ends: map[sandbox.ID]sandbox.Exit{},
		waiting: map[sandbox.ID]chan struct{}{}}
}

func idOf(p *rest.Pod) sandbox.ID { return sandbox.ID(p.Metadata.Labels[labelID]) }

// get returns the pod of id, nil if there is none, and a channel that is closed when that changes.
func (c *cache) get(id sandbox.ID) (*rest.Pod, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := c.waiting[id]
	if changed == nil {
		changed = make(chan struct{})
		c.waiting[id] = changed
	}
	return c.pods[id], changed
}

// exit says how the sandbox id ended, if it has: p is what get returned.
func (c *cache) exit(id sandbox.ID, p *rest.Pod) (sandbox.Exit, bool) {
	exit, over := exitOf(p)
	if p != nil {
		return exit, over
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.ends[id]; ok {
		return known, true
	}
	return exit, over
}

// peek returns the pod of id, nil if there is none.
func (c *cache) peek(id sandbox.ID) *rest.Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pods[id]
}

// forget drops a channel that get made and that nobody waits for any more. Those that do are woken,
// and ask again.
func (c *cache) forget(id sandbox.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wake(id)
}

// wake tells those that wait. The caller holds mu.
func (c *cache) wake(id sandbox.ID) {
	if changed := c.waiting[id]; changed != nil {
		close(changed)
		delete(c.waiting, id)
	}
}

// put takes news of a pod, unless they are old.
func (c *cache) put(p *rest.Pod) {
	id := idOf(p)
	c.mu.Lock()
	old := c.pods[id]
	if c.gone.has(p.Metadata.UID) || old != nil && old.Metadata.UID == p.Metadata.UID &&
		!newer(p.Metadata.ResourceVersion, old.Metadata.ResourceVersion) {
		c.mu.Unlock()
		return
	}
	c.pods[id] = p
	c.wake(id)
	c.mu.Unlock()
	c.told(id, p)
}

// drop takes the news that a pod is gone. Its last state says how it ended: who asks later cannot
// learn that from the API server any more.
func (c *cache) drop(id sandbox.ID, last *rest.Pod) {
	uid := last.Metadata.UID
	c.mu.Lock()
	c.gone.add(uid)
	old := c.pods[id]
	if old == nil || old.Metadata.UID != uid {
		c.mu.Unlock()
		return
	}
	delete(c.pods, id)
	if forgotten, full := c.ended.add(string(id)); full {
		delete(c.ends, sandbox.ID(forgotten))
	}
	c.ends[id] = lastExit(last)
	c.wake(id)
	c.mu.Unlock()
	c.told(id, nil)
}

// newer compares versions of one object, which are numbers that grow.
//
// https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
func newer(a, b string) bool {
	x, err := strconv.ParseUint(a, 10, 64)
	y, err2 := strconv.ParseUint(b, 10, 64)
	return err != nil || err2 != nil || x > y
}

// fill lists all pods of a namespace and takes what it finds in place of what was known.
func (c *cache) fill(ctx context.Context, namespace string) error {
	list, version, err := c.cfg.Client.ListPods(ctx, namespace, c.cfg.sandboxes())
	if err != nil {
		return err
	}
	found := map[string]bool{}
	for i := range list {
		found[list[i].Metadata.UID] = true
		c.put(&list[i])
	}
	c.mu.Lock()
	gone := map[sandbox.ID]*rest.Pod{}
	for id, p := range c.pods {
		// What was made since the list is not in it.
		if p.Metadata.Namespace == namespace && !found[p.Metadata.UID] &&
			!newer(p.Metadata.ResourceVersion, version) {
			gone[id] = p
		}
	}
	c.version[namespace] = version
	c.mu.Unlock()
	for id, p := range gone {
		c.drop(id, p)
	}
	return nil
}

// How long one watch lasts, how often everything is listed although the watch goes well, and the
// bounds of the pause after a failure.
const (
	watchLasts  = 5 * time.Minute
	resyncEvery = 15 * time.Minute
	firstPause  = 200 * time.Millisecond
	lastPause   = 10 * time.Second
)

// run keeps the cache until ctx ends.
func (c *cache) run(ctx context.Context) {
	var work sync.WaitGroup
	for _, namespace := range c.cfg.all() {
		work.Go(func() { c.keep(ctx, namespace) })
	}
	work.Wait()
}

// keep keeps what is known of a namespace.
func (c *cache) keep(ctx context.Context, namespace string) {
	pause, filled := firstPause, time.Now()
	for ctx.Err() == nil {
		began := time.Now()
		err := c.follow(ctx, namespace, time.Since(filled) > resyncEvery,
			func() { filled = time.Now() })
		if err == nil {
			pause = firstPause
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if rest.IsGone(err) {
			c.mu.Lock()
			delete(c.version, namespace) // too old to go on from
			c.mu.Unlock()
			pause = firstPause
			c.log.Debug("the pods are listed anew", "namespace", namespace, "error", err)
		} else {
			c.log.Warn("what pods do is not known at the moment", "namespace", namespace,
				"error", err, "retry", pause)
		}
		if time.Since(began) > lastPause {
			pause = firstPause
		}
		timer := time.NewTimer(pause + rand.N(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		pause = min(2*pause, lastPause)
	}
}

// follow watches a namespace until the watch ends, after a list if there is nothing to watch from.
func (c *cache) follow(ctx context.Context, namespace string, resync bool, filled func()) error {
	c.mu.Lock()
	version := c.version[namespace]
	c.mu.Unlock()
	if version == "" || resync {
		if err := c.fill(ctx, namespace); err != nil {
			return err
		}
		filled()
		c.mu.Lock()
		version = c.version[namespace]
		c.mu.Unlock()
	}
	return c.cfg.Client.WatchPods(ctx, namespace, c.cfg.sandboxes(), version,
		watchLasts+rand.N(watchLasts), func(kind string, p *rest.Pod) {
			switch kind {
			case "DELETED":
				c.drop(idOf(p), p)
			case "ADDED", "MODIFIED":
				c.put(p)
			}
			c.mu.Lock()
			c.version[namespace] = p.Metadata.ResourceVersion
			c.mu.Unlock()
		})
}

// historySize bounds what is remembered of what is gone.
const historySize = 4096

// history remembers the last words that were added. It needs a lock around it.
type history struct {
	set  map[string]bool
	ring []string
	next int
}

// add returns the word that had to make room, if one had.
func (h *history) add(s string) (forgotten string, full bool) {
	if h.set == nil {
		h.set = map[string]bool{}
	}
	if h.set[s] {
		return "", false
	}
	h.set[s] = true
	if len(h.ring) < historySize {
		h.ring = append(h.ring, s)
		return "", false
	}
	forgotten = h.ring[h.next]
	delete(h.set, forgotten)
	h.ring[h.next] = s
	h.next = (h.next + 1) % historySize
	return forgotten, true
}

func (h *history) has(s string) bool { return h.set[s] }
