package image

import (
	"context"
	"fmt"

	"github.com/sandpool/sandpool/cmd/sandpool/console"
	"github.com/sandpool/sandpool/internal/oci"
)

type pushCmd struct {
	Image     string `arg:"" help:"Name of an image that was built here, such as python."`
	Reference string `arg:"" help:"Where to, with a tag, such as registry.example.com/python:1."`
	login
}

// Help says what it is for.
func (pushCmd) Help() string {
	return "The nodes of a cluster pull images from a registry: kubernetes.images names there " +
		"what was pushed. The same image has the same digest, whenever and wherever it is " +
		"pushed. Programs of sandpool are not in it: pods get the agent from " +
		"kubernetes.agent_image."
}

// Run pushes an image.
func (c *pushCmd) Run(ctx context.Context, a *console.App) error {
	cred, err := c.credentials(ctx, a)
	if err != nil {
		return err
	}
	store, client, err := c.open()
	if err != nil {
		return err
	}
	i, err := resolve(store, c.Image)
	if err != nil {
		return err
	}
	p := console.NewProgress(a.Stderr)
	pinned, err := client.Push(ctx, i, c.Reference, cred, func(step oci.Step, done, all int64) {
		p.Update(fmt.Sprintf("%s %s", step, console.Printable(c.Reference)),
			fmt.Sprintf("%s of %s", console.Bytes(done), console.Bytes(all)))
	})
	p.Clear()
	if err != nil {
		return err
	}
	p.Done(fmt.Sprintf("pushed image %s to %s", title(i), console.Printable(c.Reference)))
	if a.JSON() {
		return a.PrintJSON(struct {
			Image  string `json:"image"`
			Pinned string `json:"pinned"`
		}{title(i), pinned})
	}
	_, err = fmt.Fprintln(a.Stdout, pinned)
	return err
}
