package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
)

// Limits of waiting for a pool, if the context has no deadline of its own.
const (
	// a template's first boot and its snapshot, on a slow machine
	provisionTimeout = 10 * time.Minute
	deleteTimeout    = 5 * time.Minute // ending hundreds of sandboxes
	// pollInterval is how often a pool's state is asked for while waiting. A
	// restored template is ready in tenths of a second.
	pollInterval = 100 * time.Millisecond
)

func controlQuery() url.Values { return url.Values{"api-version": {controlVersion}} }

// PutPool creates the pool or changes it to be as p says, and waits until it can be used. A pool
// that cannot be made ready is an error of class Unavailable with the reason.
func (c *Client) PutPool(ctx context.Context, name string,
	p api.SessionPool) (api.SessionPool, error) {
	got, err := c.BeginPutPool(ctx, name, p)
	if err != nil {
		return got, err
	}
	return c.WaitPool(ctx, name, nil)
}

// BeginPutPool is PutPool without waiting. A name that no pool can have is an error of class
// Invalid before the server is asked.
func (c *Client) BeginPutPool(ctx context.Context, name string,
	p api.SessionPool) (api.SessionPool, error) {
	var got api.SessionPool
	if err := arm.CheckPoolID(c.PoolID(name)); err != nil {
		return got, err
	}
	_, _, err := c.do(ctx, call{method: http.MethodPut, path: c.control(name),
		query: controlQuery(), body: p}, &got)
	return got, err
}

// PatchPool changes what patch has fields for, and waits until the pool can be used.
func (c *Client) PatchPool(ctx context.Context, name string,
	patch api.SessionPool) (api.SessionPool, error) {
	got, err := c.BeginPatchPool(ctx, name, patch)
	if err != nil {
		return got, err
	}
	return c.WaitPool(ctx, name, nil)
}

// BeginPatchPool is PatchPool without waiting.
func (c *Client) BeginPatchPool(ctx context.Context, name string,
	patch api.SessionPool) (api.SessionPool, error) {
	var got api.SessionPool
	_, _, err := c.do(ctx, call{method: http.MethodPatch, path: c.control(name),
		query: controlQuery(), body: patch}, &got)
	return got, err
}

// WaitPool waits until a pool's provisioning has ended, well or badly. progress
// sees every state on the way; nil means nobody looks.
func (c *Client) WaitPool(ctx context.Context, name string,
	progress func(api.SessionPool)) (api.SessionPool, error) {
	ctx, cancel := call{timeout: provisionTimeout}.bound(ctx)
	defer cancel()
	for {
		p, err := c.Pool(ctx, name)
		if err != nil {
			return p, err
		}
		if progress != nil {
			progress(p)
		}
		switch sandpool.ProvisioningState(state(p)) {
		case sandpool.Succeeded:
			return p, nil
		case sandpool.Failed, "Canceled":
			return p, sandpool.Errorf(sandpool.Unavailable, "ProvisioningFailed", name,
				"The session pool %q could not be made ready: %s", name, problem(p))
		}
		if err := pause(ctx, pollInterval); errors.Is(err, context.Canceled) {
			return p, err
		} else if err != nil {
			return p, sandpool.Errorf(sandpool.Unavailable, "ProvisioningTimeout", name,
				"The session pool %q is still %s. %s", name, state(p), problem(p))
		}
	}
}

func state(p api.SessionPool) string {
	if p.Properties == nil {
		return ""
	}
	return p.Properties.ProvisioningState
}

func problem(p api.SessionPool) string {
	if p.Properties == nil || p.Properties.Sandpool == nil || p.Properties.Sandpool.Problem == "" {
		return "The server's log says more."
	}
	return p.Properties.Sandpool.Problem
}

// Pool returns a pool.
func (c *Client) Pool(ctx context.Context, name string) (api.SessionPool, error) {
	var p api.SessionPool
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: c.control(name),
		query: controlQuery()}, &p)
	return p, err
}

// Pools returns the pools of the resource group, page after page.
func (c *Client) Pools(ctx context.Context) ([]api.SessionPool, error) {
	all := []api.SessionPool{}
	err := c.pages(ctx, call{method: http.MethodGet, path: c.control(), query: controlQuery()},
		func(ctx context.Context, r call) (string, error) {
			var page api.SessionPools
			_, _, err := c.do(ctx, r, &page)
			all = append(all, page.Value...)
			return page.NextLink, err
		})
	return all, err
}

// PoolPage is which page of the pools is wanted.
type PoolPage struct {
	Search string // what names have in them, in any case
	After  string // Next of the page before; empty means the first
}

// PoolsOn returns a page of the pools of the resource group, and what the page after it is asked
// for with; "" means that it is the last. A page of a search looks at so many names at most, and
// may be empty before the last.
func (c *Client) PoolsOn(ctx context.Context, p PoolPage) (pools []api.SessionPool, next string,
	err error) {
	query := controlQuery()
	for name, value := range map[string]string{api.SearchParameter: p.Search, skipToken: p.After} {
		if value != "" {
			query.Set(name, value)
		}
	}
	var page api.SessionPools
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: c.control(), query: query}, &page)
	if err != nil || page.NextLink == "" {
		return page.Value, "", err
	}
	link, err := url.Parse(page.NextLink)
	if err != nil {
		return nil, "", fmt.Errorf("the link to the next page: %w", err)
	}
	return page.Value, link.Query().Get(skipToken), nil
}

// skipToken is the parameter that says where a page begins.
const skipToken = "$skipToken"

// DeletePool deletes a pool with its sessions and waits until nothing of it is
// left. It reports whether there was one; a pool that does not exist is not an error.
func (c *Client) DeletePool(ctx context.Context, name string) (existed bool, err error) {
	ctx, cancel := call{timeout: deleteTimeout}.bound(ctx)
	defer cancel()
	status, _, err := c.do(ctx, call{method: http.MethodDelete, path: c.control(name),
		query: controlQuery()}, nil)
	if err != nil || status == http.StatusNoContent {
		return false, err
	}
	for {
		_, err := c.Pool(ctx, name)
		if sandpool.ClassOf(err) == sandpool.NotFound {
			return true, nil
		}
		if err != nil {
			return true, err
		}
		if err := pause(ctx, pollInterval); errors.Is(err, context.Canceled) {
			return true, err
		} else if err != nil {
			return true, sandpool.Errorf(sandpool.Unavailable, "DeletionTimeout", name,
				"The session pool %q is still being deleted.", name)
		}
	}
}

// PoolStatus says what a pool's sandboxes are doing and what each of them uses.
func (c *Client) PoolStatus(ctx context.Context, name string) (api.PoolStatus, error) {
	query := controlQuery()
	query.Set(api.ExpandParameter, api.ExpandSandboxes)
	return c.status(ctx, name, query)
}

// PoolCounts is PoolStatus without the single sandboxes, which take time to measure.
func (c *Client) PoolCounts(ctx context.Context, name string) (api.PoolStatus, error) {
	return c.status(ctx, name, controlQuery())
}

// History says how a pool did lately: in the last "hour", "day" or "week".
func (c *Client) History(ctx context.Context, name, window string) (api.History, error) {
	query := controlQuery()
	query.Set(api.WindowParameter, window)
	var h api.History
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: c.control(name, "history"),
		query: query}, &h)
	return h, err
}

func (c *Client) status(ctx context.Context, name string,
	query url.Values) (api.PoolStatus, error) {
	var s api.PoolStatus
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: c.control(name, "status"),
		query: query}, &s)
	return s, err
}

// Egress returns what the sandboxes of a pool may reach. If destination, HOST:PORT, is not empty,
// the answer says whether they may reach that by protocol, "tcp" or "udp".
func (c *Client) Egress(ctx context.Context, name, destination,
	protocol string) (api.EgressPolicy, error) {
	query := controlQuery()
	if destination != "" {
		query.Set(api.DestinationParameter, destination)
		query.Set(api.ProtocolParameter, protocol)
	}
	var p api.EgressPolicy
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: c.control(name, "egress"),
		query: query}, &p)
	return p, err
}

// PoolID returns the resource id of the pool called name.
func (c *Client) PoolID(name string) sandpool.PoolID {
	return sandpool.PoolID{Subscription: c.sub, ResourceGroup: c.rg, Name: name}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// WaitReady waits until a pool has as many ready sandboxes as it is to keep (or
// as its maximum leaves room for), and neither starts nor stops any. progress sees
// every state on the way, without the single sandboxes; nil means nobody looks.
func (c *Client) WaitReady(ctx context.Context, name string,
	progress func(api.PoolStatus)) (api.PoolStatus, error) {
	ctx, cancel := call{timeout: provisionTimeout}.bound(ctx)
	defer cancel()
	for {
		s, err := c.status(ctx, name, controlQuery())
		if err != nil {
			return s, err
		}
		if progress != nil {
			progress(s)
		}
		want := max(0, min(s.ReadySessions, s.MaxSessions-s.Claimed))
		if s.Ready >= want && s.Starting == 0 && s.Stopping == 0 {
			return s, nil
		}
		if err := pause(ctx, pollInterval); errors.Is(err, context.Canceled) {
			return s, err
		} else if err != nil {
			return s, sandpool.Errorf(sandpool.Unavailable, "RefillTimeout", name,
				"The session pool %q has %d of %d ready. %s", name, s.Ready, want,
				s.Problem+s.Notice)
		}
	}
}
