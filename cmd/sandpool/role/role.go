// Package role is the commands about role assignments: what was given to principals, beside what
// their tokens were made with.
package role

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// Cmd groups the commands of role assignments.
type Cmd struct {
	Assign assignCmd `cmd:"" help:"Give a token, a service principal, or somebody of a foreign issuer a role."`
	List   listCmd   `cmd:"" help:"List the assignments that have not ended."`
	Remove removeCmd `cmd:"" help:"End an assignment at once."`
}

// where says where an assignment holds.
type where struct {
	Scope string `help:"Where: / is everything; a subscription, a resource group or a pool by its resource id." placeholder:"ID"`
	Pool  string `help:"Where, in place of --scope: a pool." placeholder:"POOL"`
}

func (w where) scope(cl *client.Client) (sandpool.Scope, error) {
	switch {
	case w.Scope != "" && w.Pool != "":
		return sandpool.Scope{}, console.UsageError("--scope says it all: leave --pool out")
	case w.Pool != "":
		return cl.PoolID(w.Pool).Scope(), nil
	case w.Scope == "":
		return sandpool.Scope{}, nil
	}
	scope, err := sandpool.ParseScope(w.Scope)
	if err == nil && scope.Identifier != "" {
		err = console.UsageError("--scope: a pool is the narrowest scope of an assignment; " +
			"'sandpool token create --session' makes a token for some sessions")
	}
	return scope, err
}

// lastOf is the end of a resource id.
func lastOf(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

type assignCmd struct {
	where
	Principal string        `arg:"" help:"Id of a token, as 'token list' shows it, or an object id of the foreign issuer whose role_assignments is true."`
	Role      string        `arg:"" enum:"admin,pool-contributor,session-executor,reader,monitoring-reader" help:"admin, pool-contributor, session-executor, reader or monitoring-reader."`
	Expires   time.Duration `help:"Time until it ends by itself, such as 8h; without it never." placeholder:"DURATION"`
}

// Run gives a role.
func (c *assignCmd) Run(ctx context.Context, a *console.App) error {
	if c.Expires < 0 {
		return console.UsageError("--expires is negative")
	}
	cl, err := a.Client()
	if err != nil {
		return err
	}
	scope, err := c.scope(cl)
	if err != nil {
		return err
	}
	roles, err := cl.RoleDefinitions(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(roles, func(d api.RoleDefinition) bool { return d.Role() == c.Role })
	if i < 0 {
		return console.UsageError("this server has no role " + c.Role)
	}
	var expires time.Time
	if c.Expires > 0 {
		expires = time.Now().Add(c.Expires)
	}
	made, err := cl.AssignRole(ctx, scope, roles[i].ID, c.Principal, expires)
	if err != nil {
		return err
	}
	if a.JSON() {
		return a.PrintJSON(made)
	}
	a.Say("%s is %s in %s%s; 'sandpool role remove %s' ends that", c.Principal, c.Role,
		made.Properties.Scope, until(made), made.Name)
	return nil
}

func ends(r api.RoleAssignment) string {
	if r.Properties.Sandpool == nil {
		return ""
	}
	return r.Properties.Sandpool.ExpiresAt
}

func until(r api.RoleAssignment) string {
	if ends(r) == "" {
		return ""
	}
	return " until " + ends(r)
}

type listCmd struct {
	where
	Principal string `help:"Those of one principal alone." placeholder:"ID"`
}

// Run lists assignments.
func (c *listCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	scope, err := c.scope(cl)
	if err != nil {
		return err
	}
	all, err := cl.RoleAssignments(ctx, scope)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(r api.RoleAssignment) bool {
		return c.Principal != "" && !strings.EqualFold(c.Principal, r.Properties.PrincipalID)
	})
	if a.JSON() {
		return a.PrintJSON(append([]api.RoleAssignment{}, all...))
	}
	roles, err := cl.RoleDefinitions(ctx)
	if err != nil {
		return err
	}
	t := console.Table{Heading: []string{"NAME", "PRINCIPAL", "ROLE", "SCOPE", "EXPIRES"}}
	for _, r := range all {
		name := lastOf(r.Properties.RoleDefinitionID)
		for _, d := range roles {
			if strings.EqualFold(d.Name, name) {
				name = d.Role()
				break
			}
		}
		t.Add(r.Name, r.Properties.PrincipalID, name, r.Properties.Scope, ends(r))
	}
	return t.Write(a.Stdout)
}

type removeCmd struct {
	Name string `arg:"" help:"Name of the assignment, as 'role list' shows it."`
}

// Run ends an assignment.
func (c *removeCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	all, err := cl.RoleAssignments(ctx, sandpool.Scope{})
	if err != nil {
		return err
	}
	for _, r := range all {
		if !strings.EqualFold(r.Name, c.Name) {
			continue
		}
		if err := cl.EndRoleAssignment(ctx, r.ID); err != nil {
			return err
		}
		a.Say("role assignment %s of %s in %s has ended", r.Name, r.Properties.PrincipalID,
			r.Properties.Scope)
		if a.JSON() {
			return a.PrintJSON(r)
		}
		return nil
	}
	return sandpool.Errorf(sandpool.NotFound, "RoleAssignmentNotFound", "name",
		"There is no role assignment %q; 'sandpool role list' lists those that there are.", c.Name)
}
