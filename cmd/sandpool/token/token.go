// Package token is the commands that create, list and revoke access tokens.
package token

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// Cmd groups the commands of tokens.
type Cmd struct {
	Create createCmd `cmd:"" help:"Create a token and print it, this once."`
	List   listCmd   `cmd:"" help:"List tokens, without their secrets."`
	Revoke revokeCmd `cmd:"" help:"End a token at once."`

	Approve approveCmd `cmd:"" help:"Let a program sign in that shows a code, as 'sandpool login' does."`
}

type createCmd struct {
	Name    string        `arg:"" help:"What to call the token."`
	Role    string        `enum:"admin,pool-contributor,session-executor,reader,monitoring-reader" default:"session-executor" help:"What it allows: admin, pool-contributor (pools, but no sessions), session-executor (sessions), reader (pools, to look at) or monitoring-reader (metrics)."`
	Pool    string        `help:"The only pool it is good for; by default every pool." placeholder:"POOL"`
	Session string        `help:"The one session of --pool it is good for, or with a star at the end those whose identifiers begin so, such as 'tenant-7-*'." placeholder:"IDENTIFIER"`
	Scope   string        `help:"Where it is good, in place of --pool: / is everything; a subscription, a resource group or a pool by its resource id." placeholder:"ID"`
	Expires time.Duration `help:"Time until it expires, such as 24h; without it never." placeholder:"DURATION"`
}

// Run creates a token. stdout gets the token and nothing else, so that
// TOKEN=$(sandpool token create ci) works.
func (c *createCmd) Run(ctx context.Context, a *console.App) error {
	if c.Expires < 0 {
		return console.UsageError("--expires is negative")
	}
	cl, err := a.Client()
	if err != nil {
		return err
	}
	req := api.TokenRequest{Name: c.Name, Role: c.Role}
	switch {
	case c.Scope != "" && (c.Pool != "" || c.Session != ""):
		return console.UsageError("--scope says it all: leave --pool and --session out")
	case c.Scope != "":
		req.Scope = c.Scope
	case c.Session != "" && c.Pool == "":
		return console.UsageError("--session is of a pool: give --pool too")
	case c.Session != "":
		scope := cl.PoolID(c.Pool).Scope()
		scope.Identifier, scope.Prefix = strings.CutSuffix(c.Session, "*")
		if scope.Identifier == "" {
			return console.UsageError("--session *: leave it out for all sessions of the pool")
		}
		req.Scope = scope.String()
	case c.Pool != "":
		req.Pool = cl.PoolID(c.Pool).String()
	}
	if c.Expires > 0 {
		req.ExpiresAt = time.Now().Add(c.Expires).UTC().Format(time.RFC3339)
	}
	t, err := cl.CreateToken(ctx, req)
	if err != nil {
		return err
	}
	if a.JSON() {
		return a.PrintJSON(t)
	}
	a.Say("token %s (%s) is shown this once; 'sandpool token revoke %s' ends it", t.ID, c.Role,
		t.ID)
	_, err = fmt.Fprintln(a.Stdout, t.Text)
	return err
}

type listCmd struct{}

// Run lists tokens.
func (c *listCmd) Run(ctx context.Context, a *console.App) error {
	return List(ctx, a, []string{"ID", "NAME", "ROLE", "SCOPE", "CREATED", "EXPIRES"},
		func(t api.Token, roles, scopes string) []string {
			return []string{t.ID, t.Name, roles, scopes, t.CreatedAt, t.ExpiresAt}
		})
}

// List prints the server's tokens, as JSON or as a table with a row for each.
func List(ctx context.Context, a *console.App, heading []string,
	row func(t api.Token, roles, scopes string) []string, more ...api.Token) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	list, err := cl.Tokens(ctx)
	if err != nil {
		return err
	}
	list = append(list, more...)
	if a.JSON() {
		if list == nil {
			list = []api.Token{}
		}
		return a.PrintJSON(list)
	}
	t := console.Table{Heading: heading}
	for _, k := range list {
		var roles, scopes []string
		for _, g := range k.Grants {
			role := g.Role
			if g.ExpiresAt != "" {
				role += " until " + g.ExpiresAt
			}
			roles, scopes = append(roles, role), append(scopes, g.Scope)
		}
		t.Add(row(k, strings.Join(roles, ","), strings.Join(scopes, ","))...)
	}
	return t.Write(a.Stdout)
}

type revokeCmd struct {
	ID string `arg:"" help:"Id of the token, as 'token list' shows it."`
}

// Run ends a token.
func (c *revokeCmd) Run(ctx context.Context, a *console.App) error {
	return Revoke(ctx, a, c.ID, fmt.Sprintf("token %s is revoked", c.ID), struct {
		Revoked string `json:"revoked"`
	}{c.ID})
}

// Revoke ends a token, and says so: said to people, and done as JSON to programs.
func Revoke(ctx context.Context, a *console.App, id, said string, done any) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	if err := cl.RevokeToken(ctx, id); err != nil {
		return err
	}
	a.Say("%s", said)
	if a.JSON() {
		return a.PrintJSON(done)
	}
	return nil
}
