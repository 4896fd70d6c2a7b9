package main

import (
	"context"

	"github.com/sandpool/sandpool/api"
)

type sessionCmd struct {
	Show   sessionShowCmd   `cmd:"" help:"Show a session."`
	List   sessionListCmd   `cmd:"" help:"List the sessions of a pool."`
	Delete sessionDeleteCmd `cmd:"" help:"End a session and destroy its sandbox."`
}

// sessionOutput is a session as JSON.
type sessionOutput struct {
	Identifier     string `json:"identifier"`
	ETag           string `json:"etag"`
	CreatedAt      string `json:"createdAt"`
	LastAccessedAt string `json:"lastAccessedAt"`
	ExpiresAt      string `json:"expiresAt"`
}

func toSessionOutput(s api.SessionView) sessionOutput {
	return sessionOutput{Identifier: s.Identifier, ETag: s.ETag, CreatedAt: s.CreatedAt, LastAccessedAt: s.LastAccessedAt, ExpiresAt: s.ExpiresAt}
}

func printSessions(a *app, list []sessionOutput) error {
	t := table{heading: []string{"IDENTIFIER", "CREATED", "LAST USED", "EXPIRES"}}
	for _, s := range list {
		t.add(s.Identifier, s.CreatedAt, s.LastAccessedAt, s.ExpiresAt)
	}
	return t.write(a.stdout)
}

type sessionShowCmd struct {
	sessionFlag
	poolFlag
}

// Run shows a session.
func (c *sessionShowCmd) Run(ctx context.Context, a *app) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	s, err := cl.Session(ctx, c.Pool, string(c.Session))
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(toSessionOutput(s))
	}
	return printSessions(a, []sessionOutput{toSessionOutput(s)})
}

type sessionListCmd struct{ poolFlag }

// Run lists the sessions of a pool.
func (c *sessionListCmd) Run(ctx context.Context, a *app) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	views, err := cl.Sessions(ctx, c.Pool)
	if err != nil {
		return err
	}
	list := make([]sessionOutput, len(views))
	for i, v := range views {
		list[i] = toSessionOutput(v)
	}
	if a.json() {
		return a.printJSON(list)
	}
	return printSessions(a, list)
}

type sessionDeleteCmd struct {
	sessionFlag
	poolFlag
}

// Run ends a session.
func (c *sessionDeleteCmd) Run(ctx context.Context, a *app) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	if err := cl.DeleteSession(ctx, c.Pool, string(c.Session)); err != nil {
		return err
	}
	a.say("session %s of pool %s is deleted", printable(string(c.Session)), c.Pool)
	if a.json() {
		return a.printJSON(struct {
			Deleted string `json:"deleted"`
		}{string(c.Session)})
	}
	return nil
}
