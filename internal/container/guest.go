package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/oci"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/sandbox/probe"
)

// Images brings images to this machine; *oci.Client does.
type Images interface {
	Resolve(ctx context.Context, reference string, cred oci.Credentials) (string, error)
	Pull(ctx context.Context, q oci.Request) (image.Image, error)
}

// Options are what Containers needs besides images.
type Options struct {
	// Limits fills what a pool leaves open with the server's defaults. Required.
	Limits func(sandpool.Resources) sandpool.Resources
	// Server tells this server's pools from those of others that share the images. Required.
	Server string
	// ByNodes says that those who run the sandboxes bring the images by themselves, so that a
	// template has to tell them how.
	ByNodes bool
	// Authorities are those, in PEM, that sandboxes with a network trust besides their image's. It
	// may be nil.
	Authorities func(sandpool.Network) string
	// Pulled is told when the image of a pool has come from its registry. It may be nil.
	Pulled func(id sandpool.PoolID, bytes int64, took time.Duration)
}

// Containers makes guests of pools of custom containers.
type Containers struct {
	images  Images
	options Options

	mu    sync.Mutex              // guards what follows
	pulls map[string]oci.Progress // those under way, by PoolID.Key
}

// New returns a Containers. Neither images nor o.Limits may be nil.
func New(images Images, o Options) (*Containers, error) {
	if images == nil || o.Limits == nil || o.Server == "" {
		return nil,
			errors.New("new containers: the images, Options.Limits or Options.Server is missing")
	}
	return &Containers{images: images, options: o, pulls: map[string]oci.Progress{}}, nil
}

// Pull says how far the pull of a pool's image is, if one is under way.
func (c *Containers) Pull(id sandpool.PoolID) (oci.Progress, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.pulls[id.Key()]
	return at, ok
}

// pull brings an image here, for others to watch.
func (c *Containers) pull(ctx context.Context, id sandpool.PoolID,
	q oci.Request) (image.Image, error) {
	began, bytes := time.Now(), int64(0)
	q.Progress = func(at oci.Progress) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.pulls[id.Key()] = at
		if at.Step != oci.Packing {
			bytes = max(bytes, at.Bytes)
		}
	}
	img, err := c.images.Pull(ctx, q)
	c.mu.Lock()
	_, moved := c.pulls[id.Key()]
	delete(c.pulls, id.Key())
	moved = moved && bytes > 0
	c.mu.Unlock()
	if err == nil && moved && c.options.Pulled != nil {
		c.options.Pulled(id, bytes, time.Since(began))
	}
	return img, err
}

// Guest is what runs in the sandboxes of p, a pool of the kind CustomContainer.
func (c *Containers) Guest(p sandpool.Pool) (pool.Guest, error) {
	if p.Spec.Container == nil {
		return pool.Guest{}, sandpool.Errorf(sandpool.Invalid,
			"", "properties.customContainerTemplate", "The pool has no container.")
	}
	g := pool.Guest{Template: c.template, Init: individual(p.Spec), InitRestored: true,
		BootInstead: true, Grace: grace(p.Spec.Container)}
	if live := p.Spec.Container.Liveness; live != nil {
		g.Liveness, g.Alive = live.Clone(), asks(*live)
	}
	return g, nil
}

// usualGrace is how long a container may take to end after its stop signal if its pool does not
// say. It is shorter than the usual 10 to 30 s, because many programs do not heed the signal as
// first process, and the sandbox holds its memory meanwhile.
const usualGrace = 5 * time.Second

// grace is how long c may take to end after its stop signal: the longest that a probe of it says.
func grace(c *sandpool.Container) time.Duration {
	longest := time.Duration(0)
	for _, p := range []*sandpool.Probe{c.Startup, c.Liveness} {
		if p != nil {
			longest = max(longest, p.Grace)
		}
	}
	return cmp.Or(longest, usualGrace)
}

// asks returns a check by p.
func asks(p sandpool.Probe) func(context.Context, sandpool.Sandbox, pool.Dialer) error {
	return func(ctx context.Context, _ sandpool.Sandbox, dial pool.Dialer) error {
		a := probe.New(p, dial, nil)
		defer a.Close()
		return a.Once(ctx)
	}
}

// hookTime bounds the call of a hook. It is part of a start, which somebody may wait for.
const hookTime = 10 * time.Second

// individual returns what is done with a fresh sandbox before it counts as started. A container
// that was booted needs nothing; one that was restored is told so, if its owner has named a hook.
func individual(s sandpool.Spec) func(context.Context, sandpool.Sandbox, pool.Dialer) error {
	if !restores(s) || s.WarmStart.Hook == "" {
		return func(context.Context, sandpool.Sandbox, pool.Dialer) error { return nil }
	}
	return func(ctx context.Context, _ sandpool.Sandbox, dial pool.Dialer) error {
		ctx, cancel := context.WithTimeoutCause(ctx, hookTime,
			fmt.Errorf("no answer within %v", hookTime))
		defer cancel()
		if err := callHook(ctx, s.Forwarding.Port, s.WarmStart.Hook, dial); err != nil {
			known := sandpool.Errorf(sandpool.Unavailable, "", "properties.sandpool.warmStartHook",
				"The container's hook %.120q was called after its restore: %v.", s.WarmStart.Hook,
				err)
			known.Err = err
			return known
		}
		return nil
	}
}

// callHook posts to a path of the container.
func callHook(ctx context.Context, port int, path string, dial pool.Dialer) error {
	transport := &http.Transport{
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dial(ctx, port)
		},
	}
	client := &http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		fmt.Sprintf("http://127.0.0.1:%d%s", port, path), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "sandpool-restore")
	resp, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	defer resp.Body.Close() // what it says is not read: the status counts
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("the container answers %d", resp.StatusCode)
	}
	return nil
}
