// Package pool is the commands that create, change and show session pools. Its flags are those
// of "az containerapp sessionpool".
package pool

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// Cmd groups the commands of pools.
type Cmd struct {
	Create createCmd `cmd:"" help:"Create a pool, or change it to what the flags say."`
	Show   showCmd   `cmd:"" help:"Show a pool."`
	List   listCmd   `cmd:"" help:"List the pools of the resource group."`
	Update updateCmd `cmd:"" help:"Change some settings of a pool."`
	Delete deleteCmd `cmd:"" help:"Delete a pool and end its sessions."`
	Status statusCmd `cmd:"" help:"Show what the sandboxes of a pool are doing and what they use."`
	Egress egressCmd `cmd:"" help:"Show and try what the sandboxes of a pool may reach."`
	MCPKey keyCmd    `cmd:"" name:"mcp-key" help:"Show the key of a pool's MCP endpoint, or replace it."`
}

// naming is the pool's name as az writes it, or as a bare argument.
type naming struct {
	PoolArg string `arg:"" optional:"" name:"pool" help:"Name of the pool (also --name)."`
	Name    string `short:"n" help:"Name of the pool." placeholder:"NAME"`
}

func (n naming) name() (string, error) {
	switch {
	case n.Name == "" && n.PoolArg == "":
		return "", console.UsageError("no pool: give its name, or --name NAME")
	case n.Name != "" && n.PoolArg != "" && n.Name != n.PoolArg:
		return "", console.UsageError(fmt.Sprintf("two pools are named: %q and --name %q",
			n.PoolArg, n.Name))
	}
	return n.Name + strings.TrimPrefix(n.PoolArg, n.Name), nil
}

// open returns the pool's name, and a client of its server.
func (n naming) open(a *console.App) (name string, cl *client.Client, err error) {
	if name, err = n.name(); err != nil {
		return "", nil, err
	}
	cl, err = a.Client()
	return name, cl, err
}

type createCmd struct {
	naming
	Location      string `short:"l" help:"Where it runs, one of the servers' locations. [default: the first of the server's]"`
	ContainerType string `help:"Kind of sandbox: PythonLTS, NodeLTS, Shell or CustomContainer." default:"PythonLTS"`
	settings
}

// Run creates the pool and waits until it can be used.
func (c *createCmd) Run(ctx context.Context, a *console.App) error {
	name, err := c.name()
	if err != nil {
		return err
	}
	body, err := c.body(c.ContainerType, nil)
	if err != nil {
		return err
	}
	c.identities(&body, api.SessionPool{})
	body.Location = c.Location
	body.Properties.ContainerType = c.ContainerType
	body.Properties.PoolManagementType = "Dynamic"
	cl, err := a.Client()
	if err != nil {
		return err
	}
	p, err := cl.BeginPutPool(ctx, name, body)
	return c.finish(ctx, a, name, p, err)
}

type updateCmd struct {
	naming
	settings
}

// Run changes the pool and waits until it can be used.
func (c *updateCmd) Run(ctx context.Context, a *console.App) error {
	name, err := c.name()
	if err != nil {
		return err
	}
	if c.empty() {
		return console.UsageError(
			"there is nothing to change: give a setting, such as --ready-sessions N")
	}
	cl, err := a.Client()
	if err != nil {
		return err
	}
	old, err := cl.Pool(ctx, name)
	if err != nil {
		return err
	}
	was := api.SessionPoolProperties{}
	if old.Properties != nil {
		was = *old.Properties
	}
	body, err := c.body(was.ContainerType, &was)
	if err != nil {
		return err
	}
	c.identities(&body, old)
	p, err := cl.BeginPatchPool(ctx, name, body)
	return c.finish(ctx, a, name, p, err)
}

// finish waits for a pool that was created or changed, and prints it.
func (s *settings) finish(ctx context.Context, a *console.App, name string, p api.SessionPool,
	err error) error {
	if err != nil {
		return err
	}
	if s.NoWait {
		a.Say("pool %s is being made ready; 'sandpool pool show %s' says when it is", name, name)
		return printPools(a, p, []api.SessionPool{p})
	}
	cl, err := a.Client()
	if err != nil {
		return err
	}
	bar := console.NewProgress(a.Stderr)
	p, err = cl.WaitPool(ctx, name, func(p api.SessionPool) {
		step, detail := "pool "+name, p.Properties.ProvisioningState
		if own := p.Properties.Sandpool; own != nil && own.Pull != nil {
			step, detail = "pool "+name+"  "+pullStep(*own.Pull), pullDetail(*own.Pull)
		}
		bar.Update(step, detail)
	})
	bar.Clear()
	if err != nil {
		return err
	}
	a.Say("pool %s can be used", name)
	return printPools(a, p, []api.SessionPool{p})
}

// pullStep says in words what a pull does.
func pullStep(p api.Pull) string {
	switch p.Step {
	case "wait":
		return "waits for other pulls"
	case "pack":
		return "writes the image"
	}
	return "pulls the image"
}

// pullDetail says how far it is.
func pullDetail(p api.Pull) string {
	text := console.Bytes(p.Bytes)
	if p.TotalBytes > 0 {
		text += " of " + console.Bytes(p.TotalBytes)
	}
	if p.Layers > 0 && p.Step != "pack" {
		text += fmt.Sprintf(", %d of %d layers", p.LayersDone, p.Layers)
	}
	return text
}

// printPools prints the pools as a table, or v as JSON.
func printPools(a *console.App, v any, list []api.SessionPool) error {
	if a.JSON() {
		return a.PrintJSON(v)
	}
	t := console.Table{Heading: []string{"NAME", "TYPE", "STATE", "MAX", "READY", "COOLDOWN",
		"NETWORK"}}
	for _, p := range list {
		props := p.Properties
		if props == nil {
			props = &api.SessionPoolProperties{}
		}
		scale, life, network := props.ScaleConfiguration, lifecycle(props),
			props.SessionNetworkConfiguration
		row := []string{p.Name, props.ContainerType, props.ProvisioningState, "", "", "", ""}
		if scale != nil {
			row[3], row[4] = intText(scale.MaxConcurrentSessions),
				intText(scale.ReadySessionInstances)
		}
		if life != nil {
			row[5] = intText(life) + "s"
		}
		if network != nil {
			row[6] = network.Status
		}
		t.Add(row...)
	}
	return t.Write(a.Stdout)
}

// lifecycle finds the cooldown in either form of the schema.
func lifecycle(p *api.SessionPoolProperties) *int {
	d := p.DynamicPoolConfiguration
	if d == nil {
		return nil
	}
	if d.LifecycleConfiguration != nil {
		return d.LifecycleConfiguration.CooldownPeriodInSeconds
	}
	return d.CooldownPeriodInSeconds
}

func intText(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}

type showCmd struct{ naming }

// Run shows a pool.
func (c *showCmd) Run(ctx context.Context, a *console.App) error {
	name, cl, err := c.open(a)
	if err != nil {
		return err
	}
	p, err := cl.Pool(ctx, name)
	if err != nil {
		return err
	}
	if err := printPools(a, p, []api.SessionPool{p}); err != nil || a.JSON() ||
		p.Properties == nil ||
		p.Properties.Sandpool == nil {
		return err
	}
	for _, text := range []string{p.Properties.Sandpool.Problem, p.Properties.Sandpool.Notice} {
		if text != "" {
			a.Say("%s", console.Printable(text))
		}
	}
	return nil
}

type listCmd struct{}

// Run lists pools.
func (c *listCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	list, err := cl.Pools(ctx)
	if err != nil {
		return err
	}
	return printPools(a, list, list)
}

type deleteCmd struct {
	naming
	Yes bool `short:"y" help:"Accepted for compatibility; this command never asks for confirmation."`
}

// Run deletes a pool and waits until nothing of it is left.
func (c *deleteCmd) Run(ctx context.Context, a *console.App) error {
	name, cl, err := c.open(a)
	if err != nil {
		return err
	}
	existed, err := cl.DeletePool(ctx, name)
	switch {
	case err != nil:
		return err
	case existed:
		a.Say("pool %s is deleted", name)
	default:
		a.Say("there is no pool %s", name)
	}
	if a.JSON() {
		return a.PrintJSON(struct {
			Pool    string `json:"pool"`
			Existed bool   `json:"existed"`
		}{name, existed})
	}
	return nil
}
