package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// management is where sessions of pools of every kind are looked up and ended. Every other path
// of a custom pool belongs to its containers.
const management = ".management"

// Session returns the identifier's session. One that does not exist is an error of
// class NotFound; asking does not create it.
func (c *Client) Session(ctx context.Context, pool, identifier string) (api.SessionView, error) {
	var s api.SessionView
	_, _, err := c.do(ctx, call{method: http.MethodPost, path: c.data(pool, management,
		"getSession"), query: sessionQuery(identifier)}, &s)
	return s, err
}

// SessionDetail returns the identifier's session with what the server knows of it: what it takes
// of the machine, how its last executions went, what it was refused on the network.
func (c *Client) SessionDetail(ctx context.Context, pool, identifier string) (api.SessionDetail,
	error) {
	var s api.SessionDetail
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: c.data(pool, management, "session"),
		query: sessionQuery(identifier)}, &s)
	return s, err
}

// SessionHistory returns what the identifier's sessions ran, those that have ended among them, as
// far as it is kept, after the execution of a number; 0 means all. A pool that keeps none is an
// error of class Conflict and code HistoryNotKept.
func (c *Client) SessionHistory(ctx context.Context, pool, identifier string,
	after int64) (api.SessionHistory, error) {
	q := sessionQuery(identifier)
	if after > 0 {
		q.Set(api.AfterParameter, strconv.FormatInt(after, 10))
	}
	var h api.SessionHistory
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: c.data(pool, management, "history"),
		query: q}, &h)
	return h, err
}

// ForgetSessionHistory drops what is kept of the identifier's sessions.
func (c *Client) ForgetSessionHistory(ctx context.Context, pool, identifier string) error {
	_, _, err := c.do(ctx, call{method: http.MethodDelete, path: c.data(pool, management,
		"history"), query: sessionQuery(identifier)}, nil)
	return err
}

// DeleteSession ends the identifier's session and destroys its sandbox. One that
// does not exist is an error of class NotFound.
func (c *Client) DeleteSession(ctx context.Context, pool, identifier string) error {
	_, _, err := c.do(ctx, call{method: http.MethodPost, path: c.data(pool, management,
		"stopSession"), query: sessionQuery(identifier)}, nil)
	return err
}

// Sessions returns all sessions of a pool, page after page.
func (c *Client) Sessions(ctx context.Context, pool string) ([]api.SessionView, error) {
	next := call{method: http.MethodGet, path: c.data(pool, management, "listSessions"),
		query: url.Values{"api-version": {dataVersion}}}
	all := []api.SessionView{}
	err := c.pages(ctx, next, func(ctx context.Context, r call) (string, error) {
		var page api.ManagedSessions
		_, _, err := c.do(ctx, r, &page)
		all = append(all, page.Value...)
		return page.NextLink, err
	})
	return all, err
}

// Metadata describes what code of a pool finds: runtimes and packages.
func (c *Client) Metadata(ctx context.Context, pool string) (api.Metadata, error) {
	var m api.Metadata
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: c.data(pool, "metadata"),
		query: url.Values{"api-version": {dataVersion}}}, &m)
	return m, err
}

// Health returns nil if the server says that it can serve. It needs no token.
func (c *Client) Health(ctx context.Context) error {
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: "/healthz", timeout: 5 * time.Second},
		nil)
	return err
}

// maxPages bounds a list: a server whose links go round in circles must not
// keep the caller for ever.
const maxPages = 1000

// pages calls get for the first page and for every page that the one before links to.
func (c *Client) pages(ctx context.Context, next call, get func(context.Context, call) (link string,
	err error)) error {
	for range maxPages {
		link, err := get(ctx, next)
		if err != nil || link == "" {
			return err
		}
		if next, err = c.follow(link); err != nil {
			return err
		}
	}
	return sandpool.Errorf(sandpool.Internal, "", "nextLink",
		"The list of %s has more than %d pages.", next.path, maxPages)
}

// WaitHealthy waits until the server serves.
func (c *Client) WaitHealthy(ctx context.Context) error {
	ctx, cancel := call{timeout: 30 * time.Second}.bound(ctx)
	defer cancel()
	for {
		err := c.Health(ctx)
		if err == nil {
			return nil
		}
		if pause(ctx, pollInterval/2) != nil {
			return err
		}
	}
}
