package identity

import (
	"context"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

type keysCmd struct {
	List   listKeysCmd `cmd:"" help:"List the keys, the last one first."`
	Rotate rotateCmd   `cmd:"" help:"Make another key, which signs from half a minute later on."`
}

type listKeysCmd struct{}

// Run lists the keys.
func (c *listKeysCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	list, err := cl.IssuerKeys(ctx)
	if err != nil {
		return err
	}
	return printKeys(a, list)
}

type rotateCmd struct {
	Drop bool `help:"End the earlier keys when the new one begins to sign, and with them all tokens that they have signed: for a key that somebody else may have."`
}

// Run makes a key, and prints those that there are.
func (c *rotateCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	list, err := cl.RotateIssuerKeys(ctx, c.Drop)
	if err != nil {
		return err
	}
	if len(list) > 0 {
		a.Say("the key %s signs from %s on", list[0].ID, list[0].SignsFrom)
	}
	return printKeys(a, list)
}

func printKeys(a *console.App, list []api.IssuerKey) error {
	if a.JSON() {
		return a.PrintJSON(list)
	}
	t := console.Table{Heading: []string{"KEY", "STATE", "CREATED", "SIGNS FROM", "ENDS"}}
	for _, k := range list {
		t.Add(k.ID, k.State, k.CreatedAt, k.SignsFrom, k.EndsAt)
	}
	return t.Write(a.Stdout)
}
