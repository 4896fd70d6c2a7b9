package identity

import (
	"context"
	"fmt"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

type assignedCmd struct {
	Create createAssignedCmd `cmd:"" help:"Make a user-assigned identity; one that is there stays as it is."`
	List   listAssignedCmd   `cmd:"" help:"List the user-assigned identities of the resource group."`
	Delete deleteAssignedCmd `cmd:"" help:"Delete a user-assigned identity. Pools that have it get no more tokens of it."`
}

type createAssignedCmd struct {
	Name     string `arg:"" help:"What to call it."`
	Location string `short:"l" help:"Where it is, one of the server's locations. [default: the first of the server's]"`
}

// Run makes an identity and prints it.
func (c *createAssignedCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	there, err := cl.Identities(ctx)
	if err != nil {
		return err
	}
	body := api.UserAssignedIdentity{Location: c.Location}
	for _, one := range there {
		if one.Name == c.Name {
			body.Tags = one.Tags // a PUT without them takes them away
			body.Properties.IsolationScope = one.Properties.IsolationScope
		}
	}
	made, err := cl.PutIdentity(ctx, c.Name, body)
	if err != nil {
		return err
	}
	return printAssigned(a, made, []api.UserAssignedIdentity{made})
}

type listAssignedCmd struct{}

// Run lists the identities.
func (c *listAssignedCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	list, err := cl.Identities(ctx)
	if err != nil {
		return err
	}
	return printAssigned(a, list, list)
}

type deleteAssignedCmd struct {
	Name string `arg:"" help:"Name of the identity."`
}

// Run deletes an identity.
func (c *deleteAssignedCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	there, err := cl.DeleteIdentity(ctx, c.Name)
	switch {
	case err != nil:
		return err
	case !there:
		return fmt.Errorf("there is no user-assigned identity %q", c.Name)
	case a.JSON():
		return a.PrintJSON(struct {
			Deleted string `json:"deleted"`
		}{c.Name})
	}
	a.Say("user-assigned identity %s is deleted", c.Name)
	return nil
}

// printAssigned prints v, or what it says as a table.
func printAssigned(a *console.App, v any, list []api.UserAssignedIdentity) error {
	if a.JSON() {
		return a.PrintJSON(v)
	}
	t := console.Table{Heading: []string{"NAME", "PRINCIPAL ID", "CLIENT ID", "RESOURCE ID"}}
	for _, one := range list {
		t.Add(one.Name, one.Properties.PrincipalID, one.Properties.ClientID, one.ID)
	}
	return t.Write(a.Stdout)
}
