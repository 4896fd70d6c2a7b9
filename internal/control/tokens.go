package control

import (
	"context"
	"net/http"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/audit"
	"github.com/sandpool/sandpool/internal/auth"
)

// onTokens checks the permission before it calls fn.
func (c *Control) onTokens(fn func(http.ResponseWriter,
	*http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := auth.Require(r.Context(), auth.ManageTokens, sandpool.Scope{}); err != nil {
			return err
		}
		return fn(w, r)
	}
}

func (c *Control) createToken(w http.ResponseWriter, r *http.Request) error {
	var body api.TokenRequest
	ignored, err := arm.DecodeKnown(w, r, maxBody, &body)
	if err != nil {
		return err
	}
	if len(ignored) > 0 { // it might have been to make the token narrower
		return sandpool.Errorf(sandpool.Invalid, "InvalidRequestContent", ignored[0],
			"A token has no property %s.", ignored[0])
	}
	grants, err := parseGrants(body)
	if err != nil {
		return err
	}
	var expires time.Time
	if body.ExpiresAt != "" {
		if expires, err = arm.ParseTime("expiresAt", body.ExpiresAt); err != nil {
			return err
		}
	}
	t, text, err := c.tokens.Create(r.Context(), body.Name, grants, expires)
	if err != nil {
		return err
	}
	audit.Changed(r.Context(), nil, renderToken(t))
	w.Header().Set("Cache-Control", "no-store")
	return arm.WriteJSON(w, http.StatusCreated, api.NewToken{Token: renderToken(t), Text: text})
}

func (c *Control) listTokens(w http.ResponseWriter, r *http.Request) error {
	tokens, err := c.tokens.List(r.Context())
	if err != nil {
		return err
	}
	out := api.Tokens{Value: make([]api.Token, 0, len(tokens))}
	for _, t := range tokens {
		out.Value = append(out.Value, renderToken(t))
	}
	return arm.WriteJSON(w, http.StatusOK, out)
}

func (c *Control) getToken(w http.ResponseWriter, r *http.Request) error {
	t, err := c.findToken(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return arm.WriteJSON(w, http.StatusOK, renderToken(t))
}

func (c *Control) findToken(ctx context.Context, id string) (sandpool.Token, error) {
	tokens, err := c.tokens.List(ctx)
	if err != nil {
		return sandpool.Token{}, err
	}
	for _, t := range tokens {
		if t.ID == id {
			return t, nil
		}
	}
	return sandpool.Token{}, sandpool.Errorf(sandpool.NotFound, "TokenNotFound", "id",
		"There is no token with the id %.60q.", id)
}

func (c *Control) deleteToken(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	t, err := c.findToken(r.Context(), id)
	if err != nil {
		return err
	}
	if err := c.tokens.Revoke(r.Context(), id); err != nil {
		return err
	}
	audit.Changed(r.Context(), renderToken(t), nil)
	// Its role assignments give nothing any more, whatever becomes of the documents.
	if err := c.tree.Forget(context.WithoutCancel(r.Context()), id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// parseGrants reads either form of a token's grants.
func parseGrants(body api.TokenRequest) ([]sandpool.Grant, error) {
	if len(body.Grants) == 0 {
		scope, err := parseScope(body)
		return []sandpool.Grant{{Role: sandpool.Role(body.Role), Scope: scope}}, err
	}
	if body.Role != "" || body.Pool != "" || body.Scope != "" {
		return nil, sandpool.Errorf(sandpool.Invalid, "InvalidGrants", "grants",
			"The token has grants, and also a role, a pool or a scope of its own. Use one of the "+
				"two forms.")
	}
	var grants []sandpool.Grant
	for _, g := range body.Grants {
		scope, err := arm.ParseScope(g.Scope)
		if err != nil {
			return nil, err
		}
		made := sandpool.Grant{Role: sandpool.Role(g.Role), Scope: scope}
		if g.ExpiresAt != "" {
			if made.Expires, err = arm.ParseTime("grants", g.ExpiresAt); err != nil {
				return nil, err
			}
		}
		grants = append(grants, made)
	}
	return grants, nil
}

func parseScope(body api.TokenRequest) (sandpool.Scope, error) {
	switch {
	case body.Pool != "" && body.Scope != "":
		return sandpool.Scope{}, sandpool.Errorf(sandpool.Invalid, "InvalidScope", "scope",
			"The token has both a pool and a scope. Use one of them.")
	case body.Pool != "":
		id, err := arm.ParseResourceID(body.Pool)
		return id.Scope(), err
	case body.Scope != "":
		return arm.ParseScope(body.Scope)
	}
	return sandpool.Scope{}, nil
}

func renderToken(t sandpool.Token) api.Token {
	out := api.Token{ID: t.ID, Name: t.Name, Grants: []api.Grant{}, CreatedAt: stamp(t.CreatedAt),
		ExpiresAt: stamp(t.ExpiresAt)}
	for _, g := range t.Grants {
		out.Grants = append(out.Grants, api.Grant{Role: string(g.Role), Scope: g.Scope.String(),
			ExpiresAt: stamp(g.Expires)})
	}
	if len(t.Grants) == 1 {
		g := t.Grants[0]
		out.Role = string(g.Role)
		if id := g.Scope.PoolID(); id != (sandpool.PoolID{}) && g.Scope == id.Scope() {
			out.Pool = id.String()
		}
	}
	return out
}
