package pool

import (
	"context"
	"fmt"

	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

type keyCmd struct {
	naming
	Rotate bool `help:"Replace the key; the old one is refused from then on."`
}

// keyInfo is the result of the command.
type keyInfo struct {
	Endpoint string `json:"mcpServerEndpoint"`
	Key      string `json:"apiKey"`
}

// Run prints the key.
func (c *keyCmd) Run(ctx context.Context, a *console.App) error {
	name, cl, err := c.open(a)
	if err != nil {
		return err
	}
	get := cl.MCPKey
	if c.Rotate {
		get = cl.RotateMCPKey
	}
	key, err := get(ctx, name)
	if err != nil {
		return err
	}
	if c.Rotate {
		a.Say("the key that was there before is refused from now on")
	}
	if a.JSON() {
		return a.PrintJSON(keyInfo{Endpoint: cl.PoolEndpoint(name) + "/mcp", Key: key})
	}
	_, err = fmt.Fprintln(a.Stdout, key)
	return err
}
