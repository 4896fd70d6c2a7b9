package control

import (
	"net/http"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
)

// status answers what a pool's sandboxes are doing and what they use.
func (c *Control) status(w http.ResponseWriter, r *http.Request, id sandpool.PoolID) error {
	p, err := c.pools.Pool(r.Context(), id)
	if err != nil {
		return err
	}
	expand := r.URL.Query().Get(api.ExpandParameter)
	if expand != "" && expand != api.ExpandSandboxes {
		return sandpool.Errorf(sandpool.Invalid, "InvalidExpand", api.ExpandParameter, "%s is %.60q; the only value is %q.", api.ExpandParameter, expand, api.ExpandSandboxes)
	}
	n, err := c.pools.Status(r.Context(), id)
	if err != nil {
		return err
	}
	out := api.PoolStatus{
		ID: p.ID.String(), ProvisioningState: string(p.State), Problem: shown(r.Context(), p).Problem, Revision: p.Revision,
		MaxSessions: p.MaxSessions, ReadySessions: p.ReadySessions,
		Starting: n.Starting, Ready: n.Ready, Claimed: n.Claimed, Stopping: n.Stopping,
		RefillFailures: n.RefillFailures, Claims: make(map[string]int64, len(n.Claims)),
	}
	for outcome, count := range n.Claims {
		out.Claims[outcome.String()] = count
	}
	if expand == api.ExpandSandboxes {
		if out.Sandboxes, err = c.sandboxes(r, id); err != nil {
			return err
		}
	}
	return arm.WriteJSON(w, http.StatusOK, out)
}

// sandboxes measures what the pool has.
func (c *Control) sandboxes(r *http.Request, id sandpool.PoolID) ([]api.SandboxStats, error) {
	rows, err := c.pools.Sandboxes(r.Context(), id)
	if err != nil {
		return nil, err
	}
	stats := make([]api.SandboxStats, 0, len(rows))
	for _, s := range rows {
		stats = append(stats, c.measure(r, s))
	}
	return stats, r.Context().Err()
}

// measure describes s. A sandbox that cannot be measured (it is starting, it has
// just ended, the engine has no numbers) is described without numbers.
func (c *Control) measure(r *http.Request, s sandpool.Sandbox) api.SandboxStats {
	out := api.SandboxStats{ID: string(s.ID), State: string(s.State), Revision: s.Revision,
		CreatedAt: stamp(s.CreatedAt), ClaimedAt: stamp(s.ClaimedAt), LastUsedAt: stamp(s.LastUsedAt)}
	if s.State != sandpool.Ready && s.State != sandpool.Claimed {
		return out
	}
	if used, err := c.pools.Stats(r.Context(), s); err == nil {
		seconds := used.CPUTime.Seconds()
		out.MemoryBytes, out.CPUSeconds = &used.Memory, &seconds
	}
	return out
}

// onTokens checks the permission before it calls fn.
func (c *Control) onTokens(fn func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := auth.Require(r.Context(), auth.ManageTokens, sandpool.PoolID{}); err != nil {
			return err
		}
		return fn(w, r)
	}
}

func (c *Control) createToken(w http.ResponseWriter, r *http.Request) error {
	var body api.TokenRequest
	if err := arm.DecodeJSON(w, r, maxBody, &body); err != nil {
		return err
	}
	var scope sandpool.PoolID
	if body.Pool != "" {
		id, err := arm.ParseResourceID(body.Pool)
		if err != nil {
			return err
		}
		scope = id
	}
	var expires time.Time
	if body.ExpiresAt != "" {
		t, err := time.Parse(time.RFC3339, body.ExpiresAt)
		if err != nil {
			return sandpool.Errorf(sandpool.Invalid, "InvalidTokenExpiry", "expiresAt", "expiresAt is %.60q; write it as 2030-01-31T00:00:00Z.", body.ExpiresAt)
		}
		expires = t
	}
	t, text, err := c.tokens.Create(r.Context(), body.Name, body.Role, scope, expires)
	if err != nil {
		return err
	}
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
	tokens, err := c.tokens.List(r.Context())
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if t.ID == r.PathValue("id") {
			return arm.WriteJSON(w, http.StatusOK, renderToken(t))
		}
	}
	return sandpool.Errorf(sandpool.NotFound, "TokenNotFound", "id", "There is no token with the id %.60q.", r.PathValue("id"))
}

func (c *Control) deleteToken(w http.ResponseWriter, r *http.Request) error {
	if err := c.tokens.Revoke(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func renderToken(t sandpool.Token) api.Token {
	out := api.Token{ID: t.ID, Name: t.Name, Role: t.Role, CreatedAt: stamp(t.CreatedAt), ExpiresAt: stamp(t.ExpiresAt)}
	if t.Pool != (sandpool.PoolID{}) {
		out.Pool = t.Pool.String()
	}
	return out
}
