// Package mcp is the command "sandpool mcp": the Model Context Protocol on stdin and stdout, for
// clients that start their servers themselves.
package mcp

import (
	"context"
	"errors"

	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// Cmd is "sandpool mcp".
type Cmd struct {
	console.PoolFlag
}

// Help says what the command is for.
func (Cmd) Help() string {
	return "For agents that start MCP servers as programs. It passes messages on to the pool's " +
		"MCP endpoint, " +
		"with the server and the token that all commands use, until stdin ends.\n\n" +
		"In a client's configuration: {\"mcpServers\": {\"sandpool\": {\"command\": " +
		"\"sandpool\", " +
		"\"args\": [\"mcp\", \"--pool\", \"python\"]}}}"
}

// Run passes messages on until stdin ends.
func (c *Cmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	defer cl.CloseIdle()
	in := console.Interruptible(ctx, a.Stdin)
	defer in.Close()
	if err := cl.BridgeMCP(
		ctx,
		c.Pool,
		in,
		a.Stdout,
	); err != nil &&
		!errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
