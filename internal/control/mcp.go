package control

import (
	"net/http"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
)

// parseMCP reads the settings of the MCP endpoint. Clients name the one in two ways, of which the
// decoder takes either in any case.
func parseMCP(ps *problems, p *sandpool.Pool, m *api.McpServerSettings) {
	const target = "properties.mcpServerSettings"
	if m == nil {
		return
	}
	if a, b := m.IsMcpServerEnabled, m.IsMCPServerEnabled; a != nil && b != nil && *a != *b {
		ps.invalid(
			target+".isMcpServerEnabled",
			"%s has isMcpServerEnabled and isMCPServerEnabled, which differ; send one.",
			target,
		)
	}
	p.Spec.MCP = sandpool.MCP{
		KeyDisabled: m.IsMcpServerAPIKeyDisabled,
		Enabled: m.IsMcpServerEnabled != nil && *m.IsMcpServerEnabled ||
			m.IsMCPServerEnabled != nil && *m.IsMCPServerEnabled,
	}
}

// withKey adds the key to the secrets of a pool whose MCP endpoint is to have one and has none. One
// that the pool has stays, though no request speaks of it.
func withKey(p sandpool.Pool, secrets sandpool.Secrets) sandpool.Secrets {
	if secrets != nil && p.Spec.Secrets[sandpool.MCPKey] != "" {
		secrets[sandpool.MCPKey] = sandpool.Secret{}
	}
	if !p.Spec.MCP.Enabled || p.Spec.Secrets[sandpool.MCPKey] != "" {
		return secrets
	}
	if secrets == nil {
		secrets = sandpool.Secrets{}
	}
	secrets[sandpool.MCPKey] = auth.NewPoolKey()
	return secrets
}

// wireMCP is what the settings are in a pool; nil if there are none.
func wireMCP(m sandpool.MCP) *api.McpServerSettings {
	if m == (sandpool.MCP{}) {
		return nil
	}
	return &api.McpServerSettings{
		IsMcpServerEnabled:        &m.Enabled,
		IsMcpServerAPIKeyDisabled: m.KeyDisabled,
	}
}

// showMCP completes the settings for a caller. The second spelling is not in the form that a PATCH
// is merged into, where it could contradict the first.
func showMCP(m *api.McpServerSettings, endpoint string) {
	if m != nil {
		m.IsMCPServerEnabled, m.McpServerEndpoint = m.IsMcpServerEnabled, endpoint+"/mcp"
	}
}

// fetchKey answers with the key of a pool's MCP endpoint.
func (c *Control) fetchKey(w http.ResponseWriter, r *http.Request, id sandpool.PoolID) error {
	if err := c.keyOf(r, id); err != nil {
		return err
	}
	key, err := c.pools.Secret(r.Context(), id, sandpool.MCPKey)
	if err != nil {
		return err
	}
	return showKey(w, key)
}

// rotateKey replaces the key of a pool's MCP endpoint, and answers with the new one. The old one is
// refused from then on.
func (c *Control) rotateKey(w http.ResponseWriter, r *http.Request, id sandpool.PoolID) error {
	unlock, err := c.lock(r.Context())
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.keyOf(r, id); err != nil {
		return err
	}
	p, err := c.pools.Pool(r.Context(), id)
	if err != nil {
		return err
	}
	key := auth.NewPoolKey()
	secrets := sandpool.Secrets{}
	for name := range p.Spec.Secrets {
		secrets[name] = sandpool.Secret{} // as it is
	}
	secrets[sandpool.MCPKey] = key
	p.UpdatedBy = auth.Author(r.Context())
	if _, err := c.pools.Put(r.Context(), p, secrets); err != nil {
		return err
	}
	return showKey(w, key)
}

func showKey(w http.ResponseWriter, key sandpool.Secret) error {
	w.Header().Set("Cache-Control", "no-store")
	return arm.WriteJSON(w, http.StatusOK, api.McpServerCredentials{APIKey: key.Reveal()})
}

// keyOf checks that the caller may have the key of a pool, and that there is one. A key runs code,
// so whoever manages pools and may not run code does not get it.
func (c *Control) keyOf(r *http.Request, id sandpool.PoolID) error {
	if err := auth.Require(r.Context(), auth.Execute, id.Scope()); err != nil {
		return err
	}
	p, err := c.pools.Pool(r.Context(), id)
	switch {
	case err != nil:
		return err
	case !p.Spec.MCP.Enabled || p.Spec.MCP.KeyDisabled:
		return sandpool.Errorf(sandpool.Unsupported, "SessionMCPServerNotEnabled",
			"properties.mcpServerSettings",
			"The session pool %q has no key for its MCP endpoint. Give it one with 'sandpool pool "+
				"update %s --mcp', or properties.mcpServerSettings.isMcpServerEnabled; tokens work "+
				"at that of a code pool in any case.",
			id.Name, id.Name)
	}
	return nil
}
