package main

import (
	"context"

	"github.com/sandpool/sandpool/internal/server"
)

type doctorCmd struct {
	serverFlags
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
func (c *doctorCmd) Run(ctx context.Context, a *app) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	list := []requirementOutput{}
	missing, notes := 0, 0
	for _, r := range server.Check(cfg) {
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
		a.say("%d of %d requirements are missing", missing, len(list))
		return exitError(exitNegative)
	}
	if notes > 0 {
		a.say("nothing is missing for serving; see the notes")
		return nil
	}
	a.say("nothing is missing")
	return nil
}

func printRequirements(a *app, list []requirementOutput) error {
	if a.json() {
		return a.printJSON(list)
	}
	t := table{heading: []string{"", "REQUIREMENT", "FOUND", "FIX"}}
	for _, r := range list {
		mark := "OK"
		switch {
		case !r.OK:
			mark = "missing"
		case r.Fix != "":
			mark = "note"
		}
		t.add(mark, r.Name, r.Detail, r.Fix)
	}
	return t.write(a.stdout)
}
