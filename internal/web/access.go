package web

import (
	"context"
	"slices"

	"github.com/sandpool/sandpool/api"
)

// Ability is something that somebody may do, or may not.
type Ability struct {
	What string
	May  bool
	Why  string // it is not so, and what would change that
}

// accessView is the page of who may do what.
type accessView struct {
	Tokens []api.Token
	// Pools, and the token, pool and session that the page is asked for; see Options.May.
	Pools                []api.SessionPool
	Token, Pool, Session string
	Of                   string // the token's name
	Abilities            []Ability
}

func (w *Web) accessPage(ctx context.Context, a asked) (string, view, error) {
	v := view{Title: "Access", Here: "access"}
	tokens, err := a.api.Tokens(ctx)
	if err != nil {
		return "", v, err
	}
	q := a.URL.Query()
	d := accessView{Tokens: tokens, Token: q.Get("token"), Pool: q.Get("pool"),
		Session: q.Get("session")}
	if d.Pools, err = a.api.Pools(ctx); err != nil {
		return "", v, err
	}
	at := slices.IndexFunc(tokens, func(t api.Token) bool { return t.ID == d.Token })
	if w.may != nil && at >= 0 {
		d.Of = tokens[at].Name
		if d.Abilities, err = w.may(tokens[at], d.Pool, d.Session); err != nil {
			v.Error, _ = explain(err)
		}
	}
	v.Data = d
	return "access", v, nil
}
