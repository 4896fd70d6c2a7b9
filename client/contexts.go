package client

import (
	"context"
	"net/http"

	"github.com/sandpool/sandpool/api"
)

// Contexts lists the contexts of a session: kernels of their own that share its files. The session
// is not made.
func (c *Client) Contexts(ctx context.Context, pool, identifier string) ([]api.Context, error) {
	var all api.Contexts
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: c.data(pool, "contexts"),
		query: sessionQuery(identifier)}, &all)
	return all.Value, err
}

// MakeContext makes a context with the named kernel, "" meaning that of the session itself, unless
// it is there. The session is made if there is none.
func (c *Client) MakeContext(ctx context.Context, pool, identifier, name,
	kernel string) (api.Context, error) {
	var made api.Context
	_, _, err := c.do(ctx, call{method: http.MethodPut, path: c.data(pool, "contexts", name),
		query: sessionQuery(identifier), body: api.ContextRequest{Kernel: kernel},
		timeout: longestExecution}, &made)
	return made, err
}

// DeleteContext ends a context and what runs in it.
func (c *Client) DeleteContext(ctx context.Context, pool, identifier, name string) error {
	return c.onContext(ctx, http.MethodDelete, pool, identifier, name)
}

// RestartContext replaces the kernel of a context, whose variables are lost.
func (c *Client) RestartContext(ctx context.Context, pool, identifier, name string) error {
	return c.onContext(ctx, http.MethodPost, pool, identifier, name, "restart")
}

// InterruptContext interrupts what runs in a context.
func (c *Client) InterruptContext(ctx context.Context, pool, identifier, name string) error {
	return c.onContext(ctx, http.MethodPost, pool, identifier, name, "interrupt")
}

func (c *Client) onContext(ctx context.Context, method, pool, identifier string,
	path ...string) error {
	_, _, err := c.do(ctx, call{method: method,
		path:  c.data(pool, append([]string{"contexts"}, path...)...),
		query: sessionQuery(identifier)}, nil)
	return err
}
