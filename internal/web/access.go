package web

import (
	"context"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// Ability is something that somebody may do, or may not.
type Ability struct {
	What string
	May  bool
	By   []string // the grants that each permit it
	Why  string   // it is not so, and what would change that
}

// accessView is the page of who may do what.
type accessView struct {
	Tokens   []api.Token
	Assigned []assignment
	// Asked are those who can be asked about: the tokens, and those of a foreign issuer whom roles
	// are assigned to.
	Asked []api.Token
	// Pools, and the token, pool and session that the page is asked for; see Options.May.
	Pools                []api.SessionPool
	Token, Pool, Session string
	Of                   string // the token's name
	Abilities            []Ability
}

// assignment is a role that somebody was given after their token was made.
type assignment struct{ Name, ID, Principal, Role, Scope, Until string }

// assignments are all role assignments, with the roles by their names here.
func assignments(ctx context.Context, a asked, tokens []api.Token) ([]assignment, error) {
	found, err := a.api.RoleAssignments(ctx, sandpool.Scope{})
	if err != nil {
		return nil, err
	}
	roles, err := a.api.RoleDefinitions(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]assignment, 0, len(found))
	for _, r := range found {
		p := r.Properties
		one := assignment{Name: r.Name, ID: p.PrincipalID, Principal: p.PrincipalID, Scope: p.Scope,
			Role: p.RoleDefinitionID[strings.LastIndexByte(p.RoleDefinitionID, '/')+1:]}
		for _, d := range roles {
			if strings.EqualFold(d.Name, one.Role) {
				one.Role = d.Role()
				break
			}
		}
		if p.Sandpool != nil {
			one.Until = p.Sandpool.ExpiresAt
		}
		if i := tokenOf(tokens, p.PrincipalID); i >= 0 {
			one.Principal = tokens[i].Name
		}
		all = append(all, one)
	}
	return all, nil
}

func tokenOf(all []api.Token, id string) int {
	return slices.IndexFunc(all, func(t api.Token) bool { return strings.EqualFold(t.ID, id) })
}

// askable are the tokens, and each of the others that assignments name as if it were one.
func askable(tokens []api.Token, assigned []assignment) []api.Token {
	all := slices.Clone(tokens)
	for _, one := range assigned {
		if tokenOf(tokens, one.ID) >= 0 {
			continue // its grants are among the token's
		}
		i := tokenOf(all, one.ID)
		if i < 0 {
			i = len(all)
			all = append(all, api.Token{ID: one.ID, Name: one.ID})
		}
		all[i].Grants = append(all[i].Grants, api.Grant{Role: one.Role, Scope: one.Scope,
			ExpiresAt: one.Until})
	}
	return all
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
	if d.Assigned, err = assignments(ctx, a, tokens); err != nil {
		return "", v, err
	}
	d.Asked = askable(tokens, d.Assigned)
	at := tokenOf(d.Asked, d.Token)
	if w.may != nil && d.Token != "" && at >= 0 {
		d.Of = d.Asked[at].Name
		if d.Abilities, err = w.may(d.Asked[at], d.Pool, d.Session); err != nil {
			v.Error, _ = explain(err)
		}
	}
	v.Data = d
	return "access", v, nil
}
