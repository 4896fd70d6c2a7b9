package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/sandpool/sandpool/api"
)

type poolCmd struct {
	Create poolCreateCmd `cmd:"" help:"Create a pool, or change it to what the flags say."`
	Show   poolShowCmd   `cmd:"" help:"Show a pool."`
	List   poolListCmd   `cmd:"" help:"List the pools of the resource group."`
	Update poolUpdateCmd `cmd:"" help:"Change some settings of a pool."`
	Delete poolDeleteCmd `cmd:"" help:"Delete a pool and end its sessions."`
	Status poolStatusCmd `cmd:"" help:"Show what the sandboxes of a pool are doing and what they use."`
}

// poolName is the pool's name as az writes it, or as a bare argument.
type poolName struct {
	PoolArg string `arg:"" optional:"" name:"pool" help:"Name of the pool (also --name)."`
	Name    string `short:"n" help:"Name of the pool." placeholder:"NAME"`
}

func (n poolName) name() (string, error) {
	switch {
	case n.Name == "" && n.PoolArg == "":
		return "", usageError("no pool: give its name, or --name NAME")
	case n.Name != "" && n.PoolArg != "" && n.Name != n.PoolArg:
		return "", usageError(fmt.Sprintf("two pools are named: %q and --name %q", n.PoolArg, n.Name))
	}
	return n.Name + strings.TrimPrefix(n.PoolArg, n.Name), nil
}

type poolCreateCmd struct {
	poolName
	Location      string `short:"l" help:"Location to record." default:"local"`
	ContainerType string `help:"Kind of sandbox: PythonLTS or CustomContainer. NodeLTS and Shell are not served yet." default:"PythonLTS"`
	poolSettings
}

// Run creates the pool and waits until it can be used.
func (c *poolCreateCmd) Run(ctx context.Context, a *app) error {
	name, err := c.name()
	if err != nil {
		return err
	}
	body, err := c.body(c.ContainerType, nil)
	if err != nil {
		return err
	}
	body.Location = c.Location
	body.Properties.ContainerType = c.ContainerType
	body.Properties.PoolManagementType = "Dynamic"
	cl, err := a.client()
	if err != nil {
		return err
	}
	p, err := cl.BeginPutPool(ctx, name, body)
	return c.finish(ctx, a, name, p, err)
}

type poolUpdateCmd struct {
	poolName
	poolSettings
}

// Run changes the pool and waits until it can be used.
func (c *poolUpdateCmd) Run(ctx context.Context, a *app) error {
	name, err := c.name()
	if err != nil {
		return err
	}
	if c.empty() {
		return usageError("there is nothing to change: give a setting, such as --ready-sessions N")
	}
	cl, err := a.client()
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
	p, err := cl.BeginPatchPool(ctx, name, body)
	return c.finish(ctx, a, name, p, err)
}

// finish waits for a pool that was created or changed, and prints it.
func (s *poolSettings) finish(ctx context.Context, a *app, name string, p api.SessionPool, err error) error {
	if err != nil {
		return err
	}
	if s.NoWait {
		a.say("pool %s is being made ready; 'sandpool pool show %s' says when it is", name, name)
		return printPools(a, p, []api.SessionPool{p})
	}
	cl, err := a.client()
	if err != nil {
		return err
	}
	bar := newProgress(a.stderr)
	p, err = cl.WaitPool(ctx, name, func(p api.SessionPool) { bar.update("pool "+name, p.Properties.ProvisioningState) })
	bar.clear()
	if err != nil {
		return err
	}
	a.say("pool %s can be used", name)
	return printPools(a, p, []api.SessionPool{p})
}

// printPools prints the pools as a table, or v as JSON.
func printPools(a *app, v any, list []api.SessionPool) error {
	if a.json() {
		return a.printJSON(v)
	}
	t := table{heading: []string{"NAME", "TYPE", "STATE", "MAX", "READY", "COOLDOWN", "NETWORK"}}
	for _, p := range list {
		props := p.Properties
		if props == nil {
			props = &api.SessionPoolProperties{}
		}
		scale, life, network := props.ScaleConfiguration, lifecycle(props), props.SessionNetworkConfiguration
		row := []string{p.Name, props.ContainerType, props.ProvisioningState, "", "", "", ""}
		if scale != nil {
			row[3], row[4] = intText(scale.MaxConcurrentSessions), intText(scale.ReadySessionInstances)
		}
		if life != nil {
			row[5] = intText(life) + "s"
		}
		if network != nil {
			row[6] = network.Status
		}
		t.add(row...)
	}
	return t.write(a.stdout)
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

type poolShowCmd struct{ poolName }

// Run shows a pool.
func (c *poolShowCmd) Run(ctx context.Context, a *app) error {
	name, err := c.name()
	if err != nil {
		return err
	}
	cl, err := a.client()
	if err != nil {
		return err
	}
	p, err := cl.Pool(ctx, name)
	if err != nil {
		return err
	}
	return printPools(a, p, []api.SessionPool{p})
}

type poolListCmd struct{}

// Run lists pools.
func (c *poolListCmd) Run(ctx context.Context, a *app) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	list, err := cl.Pools(ctx)
	if err != nil {
		return err
	}
	return printPools(a, list, list)
}

type poolDeleteCmd struct {
	poolName
	Yes bool `short:"y" help:"Accepted and without effect: this command never asks, so that scripts do not hang."`
}

// Run deletes a pool and waits until nothing of it is left.
func (c *poolDeleteCmd) Run(ctx context.Context, a *app) error {
	name, err := c.name()
	if err != nil {
		return err
	}
	cl, err := a.client()
	if err != nil {
		return err
	}
	existed, err := cl.DeletePool(ctx, name)
	switch {
	case err != nil:
		return err
	case existed:
		a.say("pool %s is deleted", name)
	default:
		a.say("there is no pool %s", name)
	}
	if a.json() {
		return a.printJSON(struct {
			Pool    string `json:"pool"`
			Existed bool   `json:"existed"`
		}{name, existed})
	}
	return nil
}

type poolStatusCmd struct{ poolName }

// Run shows a pool's sandboxes.
func (c *poolStatusCmd) Run(ctx context.Context, a *app) error {
	name, err := c.name()
	if err != nil {
		return err
	}
	cl, err := a.client()
	if err != nil {
		return err
	}
	s, err := cl.PoolStatus(ctx, name)
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(s)
	}
	fmt.Fprintf(a.stdout, "%s: %d ready of %d, %d of at most %d sessions, %d starting, %d stopping, %d waiting\n",
		s.ProvisioningState, s.Ready, s.ReadySessions, s.Claimed, s.MaxSessions, s.Starting, s.Stopping, s.Waiting)
	if s.Problem != "" {
		fmt.Fprintln(a.stdout, printable(s.Problem))
	}
	t := table{heading: []string{"SANDBOX", "STATE", "CREATED", "LAST USED", "MEMORY", "CPU"}}
	for _, b := range s.Sandboxes {
		row := []string{b.ID, b.State, b.CreatedAt, b.LastUsedAt, "", ""}
		if b.MemoryBytes != nil {
			row[4] = bytesText(*b.MemoryBytes)
		}
		if b.CPUSeconds != nil {
			row[5] = fmt.Sprintf("%.2fs", *b.CPUSeconds)
		}
		t.add(row...)
	}
	return t.write(a.stdout)
}
