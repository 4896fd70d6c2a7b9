package serve

import (
	"context"

	"github.com/sandpool/sandpool/cmd/sandpool/config"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
	"github.com/sandpool/sandpool/internal/server"
)

// DoctorCmd says what this machine lacks for a server.
type DoctorCmd struct {
	config.Flags
	Kube bool `help:"Say what the Kubernetes cluster of the configuration lacks, whichever engine that names."`
}

// requirementOutput is something a server needs of this machine, as JSON. A fix of what
// is OK is a note: serving does not need it.
type requirementOutput struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"`
}

// Run prints what this machine has and lacks; the exit code is 1 if it lacks something.
func (c *DoctorCmd) Run(ctx context.Context, a *console.App) error {
	cfg, err := c.Load()
	if err != nil {
		return err
	}
	list := []requirementOutput{}
	missing, notes := 0, 0
	for _, r := range server.CheckFor(ctx, cfg, c.Kube) {
		switch {
		case !r.OK:
			missing++
		case r.Fix != "":
			notes++
		}
		list = append(list, requirementOutput(r))
	}
	if err := printRequirements(a, list); err != nil {
		return err
	}
	if missing > 0 {
		a.Say("%d of %d requirements are missing", missing, len(list))
		return console.ExitError(console.ExitNegative)
	}
	if notes > 0 {
		a.Say("nothing is missing for serving; see the notes")
		return nil
	}
	a.Say("nothing is missing")
	return nil
}

func printRequirements(a *console.App, list []requirementOutput) error {
	if a.JSON() {
		return a.PrintJSON(list)
	}
	t := console.Table{Heading: []string{"", "REQUIREMENT", "FOUND", "FIX"}}
	for _, r := range list {
		mark := "OK"
		switch {
		case !r.OK:
			mark = "missing"
		case r.Fix != "":
			mark = "note"
		}
		t.Add(mark, r.Name, r.Detail, r.Fix)
	}
	return t.Write(a.Stdout)
}
