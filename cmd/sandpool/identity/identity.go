// Package identity is the commands about service principals, the names by which Azure's clients
// sign in, and about managed identities, which code in sessions has. A service principal is a token
// of the server, its id the client id and its text the client secret.
package identity

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
	"github.com/sandpool/sandpool/cmd/sandpool/token"
)

// Cmd groups the commands of service principals.
type Cmd struct {
	Create createCmd `cmd:"" help:"Create a service principal and print its secret, this once."`
	List   listCmd   `cmd:"" help:"List service principals, without their secrets, and managed identities."`
	Delete deleteCmd `cmd:"" help:"End a service principal and all that it was given, at once."`

	UserAssigned assignedCmd `cmd:"" help:"Make, list and delete user-assigned identities, which pools are given."`

	Keys keysCmd `cmd:"" help:"List and change the keys that sign the server's JSON Web Tokens."`
}

type createCmd struct {
	Name    string        `arg:"" help:"What to call it."`
	Role    []string      `enum:"admin,pool-contributor,session-executor,reader,monitoring-reader" default:"pool-contributor,session-executor" help:"What it may do: admin, pool-contributor, session-executor, reader or monitoring-reader; several with commas."`
	Scope   string        `default:"/" help:"Where: / is everything; a subscription, a resource group or a pool by its resource id."`
	Expires time.Duration `help:"Time until it expires, such as 24h; without it never." placeholder:"DURATION"`
}

// Run creates a service principal. stdout gets what 'az ad sp create-for-rbac' prints.
func (c *createCmd) Run(ctx context.Context, a *console.App) error {
	if c.Expires < 0 {
		return console.UsageError("--expires is negative")
	}
	cl, err := a.Client()
	if err != nil {
		return err
	}
	req := api.TokenRequest{Name: c.Name}
	for _, role := range c.Role {
		req.Grants = append(req.Grants, api.Grant{Role: role, Scope: c.Scope})
	}
	if c.Expires > 0 {
		req.ExpiresAt = time.Now().Add(c.Expires).UTC().Format(time.RFC3339)
	}
	made, err := cl.CreateToken(ctx, req)
	if err != nil {
		return err
	}
	out := struct {
		AppID       string `json:"appId"`
		DisplayName string `json:"displayName"`
		Password    string `json:"password"`
		Tenant      string `json:"tenant"`
	}{made.ID, made.Name, made.Text, sandpool.DefaultSubscription}
	if a.JSON() {
		return a.PrintJSON(out)
	}
	a.Say("the secret is shown this once; 'sandpool identity delete %s' ends it", made.ID)
	_, err = fmt.Fprintf(a.Stdout, "AZURE_CLIENT_ID=%s\nAZURE_CLIENT_SECRET=%s\nAZURE_TENANT_ID=adfs\n",
		out.AppID, out.Password)
	return err
}

type listCmd struct{}

// Run lists service principals, and then managed identities.
func (c *listCmd) Run(ctx context.Context, a *console.App) error {
	managed, err := managed(ctx, a)
	if err != nil {
		return err
	}
	return token.List(ctx, a, []string{"CLIENT ID", "NAME", "ROLE", "SCOPE", "EXPIRES"},
		func(t api.Token, roles, scopes string) []string {
			return []string{t.ID, t.Name, roles, scopes, t.ExpiresAt}
		}, managed...)
}

// managed are the identities of the pools of the group that the caller may read, and the
// user-assigned ones, with what was assigned to them.
func managed(ctx context.Context, a *console.App) (list []api.Token, err error) {
	cl, err := a.Client()
	if err != nil {
		return nil, err
	}
	pools, err := cl.Pools(ctx)
	if err != nil {
		return nil, err
	}
	assigned, err := cl.Identities(ctx)
	if err != nil {
		return nil, err
	}
	add := func(principal, name string, made *api.SystemData) {
		t := api.Token{ID: principal, Name: name}
		if made != nil {
			t.CreatedAt = made.CreatedAt
		}
		list = append(list, t)
	}
	for _, p := range pools {
		if p.Identity != nil && p.Identity.PrincipalID != "" {
			add(p.Identity.PrincipalID, "pool "+p.Name, p.SystemData)
		}
	}
	for _, one := range assigned {
		add(one.Properties.PrincipalID, "identity "+one.Name, one.SystemData)
	}
	if len(list) == 0 {
		return nil, nil
	}
	roles, err := cl.RoleDefinitions(ctx)
	if err != nil {
		return nil, err
	}
	given, err := cl.RoleAssignments(ctx, sandpool.Scope{})
	if err != nil {
		return nil, err
	}
	for i := range list {
		for _, r := range given {
			if strings.EqualFold(r.Properties.PrincipalID, list[i].ID) {
				list[i].Grants = append(list[i].Grants, grant(r, roles))
			}
		}
	}
	return list, nil
}

// grant is what an assignment gives.
func grant(r api.RoleAssignment, roles []api.RoleDefinition) api.Grant {
	id := r.Properties.RoleDefinitionID
	g := api.Grant{Role: path.Base(id), Scope: r.Properties.Scope}
	for _, d := range roles {
		if strings.EqualFold(d.Name, g.Role) {
			g.Role = d.Properties.RoleName
			break
		}
	}
	if r.Properties.Sandpool != nil {
		g.ExpiresAt = r.Properties.Sandpool.ExpiresAt
	}
	return g
}

type deleteCmd struct {
	ID string `arg:"" help:"Client id, as 'identity list' shows it."`
}

// Run ends a service principal.
func (c *deleteCmd) Run(ctx context.Context, a *console.App) error {
	return token.Revoke(ctx, a, c.ID, fmt.Sprintf("service principal %s is deleted", c.ID), struct {
		Deleted string `json:"deleted"`
	}{c.ID})
}
