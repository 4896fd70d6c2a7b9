package pool

import (
	"slices"
	"strings"

	"github.com/sandpool/sandpool/api"
)

// audiences fills what tokens of the pool's identities may be for.
func (s *settings) audiences(pool *api.SessionPool) {
	if s.IdentityAudiences == nil {
		return
	}
	if pool.Properties.Sandpool == nil {
		pool.Properties.Sandpool = &api.SandpoolSettings{}
	}
	pool.Properties.Sandpool.IdentityAudiences = slices.DeleteFunc(
		slices.Clone(s.IdentityAudiences), func(a string) bool { return a == "" })
}

// ownIdentity is the name of a pool's own identity.
const ownIdentity = "system"

// identities fills the managed identities: those that the pool has, with those that are added, and
// without those that are taken away.
func (s *settings) identities(pool *api.SessionPool, old api.SessionPool) {
	added := slices.Clone(s.MIUserAssigned)
	if s.MISystemAssigned {
		added = append([]string{ownIdentity}, added...)
	}
	if len(added) == 0 && len(s.MIRemove) == 0 {
		return
	}
	var have []api.ManagedIdentitySetting
	if old.Properties != nil {
		have = old.Properties.ManagedIdentitySettings
	}
	in := func(ids []string) func(api.ManagedIdentitySetting) bool {
		return func(m api.ManagedIdentitySetting) bool {
			return slices.ContainsFunc(ids, func(id string) bool {
				return strings.EqualFold(id, m.Identity)
			})
		}
	}
	have = slices.DeleteFunc(slices.Clone(have), in(added))
	for _, id := range added {
		have = append(have, api.ManagedIdentitySetting{Identity: id, Lifecycle: "Main"})
	}
	have = slices.DeleteFunc(have, in(s.MIRemove))
	pool.Properties.ManagedIdentitySettings = append([]api.ManagedIdentitySetting{}, have...)
	pool.Identity = identityOf(have)
	for _, id := range s.MIRemove {
		if !strings.EqualFold(id, ownIdentity) {
			pool.Identity.UserAssignedIdentities[id] = nil
		}
	}
}

// identityOf is what a pool with settings of some identities has.
func identityOf(have []api.ManagedIdentitySetting) *api.Identity {
	var kinds []string
	out := &api.Identity{UserAssignedIdentities: map[string]*api.UserAssigned{}}
	for _, m := range have {
		kind := "SystemAssigned"
		if !strings.EqualFold(m.Identity, ownIdentity) {
			kind = "UserAssigned"
			out.UserAssignedIdentities[m.Identity] = &api.UserAssigned{}
		}
		if !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	if out.Type = strings.Join(kinds, ","); out.Type == "" {
		out.Type = "None"
	}
	return out
}
