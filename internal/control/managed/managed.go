// Package managed is what the control plane says of the identities that pools have: it reads them
// in requests, and shows them.
package managed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// Words of managed identities.
const (
	none          = "None"
	systemType    = "SystemAssigned"
	userType      = "UserAssigned"
	bothTypes     = systemType + "," + userType
	system        = "system"
	mainLifecycle = "Main"
)

// Bounds of what a pool may have.
const (
	maxAssigned  = 20
	maxAudiences = 20
	maxAudience  = 200
)

// Codes of errors, which are those of the other properties.
const (
	invalid     = "SessionPoolInvalidProperty"
	unsupported = "SessionPoolFeatureNotSupported"
)

const (
	typeTarget      = "identity.type"
	assignedTarget  = "identity.userAssignedIdentities"
	settingsTarget  = "properties.managedIdentitySettings"
	audiencesTarget = "properties.sandpool.identityAudiences"
)

// Finder finds user-assigned identities.
type Finder interface {
	// UserAssigned returns the principal of the identity with a resource id; empty if it is gone.
	UserAssigned(ctx context.Context, id string) (principal string, err error)
	// Assignable returns the identity with a resource id, which the caller must be allowed to
	// assign; otherwise, and if there is none, it is an error that the caller may read.
	Assignable(ctx context.Context, id string) (sandpool.AssignedIdentity, error)
}

// Request is what a request says of the identities of a pool, and the pool that it is for.
type Request struct {
	Identity  *api.Identity
	Settings  []api.ManagedIdentitySetting
	Audiences []string
	// Old is what the pool has. It keeps its own principal for as long as it has one.
	Old sandpool.ManagedIdentity
	// Off says that pools cannot have identities where their sandboxes run.
	Off bool
}

// parser is a request that is being read.
type parser struct {
	Request
	is       sandpool.ManagedIdentity
	problems []*sandpool.Error
}

func (p *parser) invalid(target, format string, args ...any) {
	p.problems = append(p.problems, sandpool.Errorf(sandpool.Invalid, invalid, target, format,
		args...))
}

func (p *parser) unsupported(target, what string) {
	p.problems = append(p.problems, sandpool.Errorf(sandpool.Unsupported, unsupported, target,
		"%s: this server does not support %s. Leave %s out.", target, what, target))
}

// Parse reads who a pool is to others. Its error says that nobody could be asked.
func Parse(ctx context.Context, find Finder, r Request) (sandpool.ManagedIdentity,
	[]*sandpool.Error, error) {
	p := parser{Request: r}
	own, user := p.types()
	if own {
		if p.is.Principal = r.Old.Principal; p.is.Principal == "" {
			p.is.Principal = sandpool.NewManagedPrincipal()
		}
	}
	if err := p.assigned(ctx, find, user); err != nil {
		return p.is, nil, err
	}
	p.settings()
	p.audiences()
	return p.is, p.problems, nil
}

// types reads which kinds of identity the pool is to have.
func (p *parser) types() (own, user bool) {
	if p.Identity == nil || p.Identity.Type == "" || strings.EqualFold(p.Identity.Type, none) {
		return false, false
	}
	for kind := range strings.SplitSeq(p.Identity.Type, ",") {
		switch kind = strings.TrimSpace(kind); {
		case strings.EqualFold(kind, userType):
			user = true
		case strings.EqualFold(kind, systemType):
			own = true
		default:
			p.invalid(typeTarget, "%s is %.60q; use %s, %s, %s or %s.", typeTarget, p.Identity.Type,
				none, systemType, userType, bothTypes)
			return false, false
		}
	}
	if p.Off {
		p.unsupported(typeTarget, "managed identities where its sandboxes run")
		return false, false
	}
	return own, user
}

// assigned reads the user-assigned identities. Whoever adds one must be allowed to assign it; those
// that the pool has already stay, also if they were deleted meanwhile.
func (p *parser) assigned(ctx context.Context, find Finder, user bool) error {
	var ids []string
	if p.Identity != nil {
		for _, id := range slices.Sorted(maps.Keys(p.Identity.UserAssignedIdentities)) {
			if p.Identity.UserAssignedIdentities[id] != nil { // null takes one out
				ids = append(ids, id)
			}
		}
	}
	switch {
	case len(p.problems) > 0:
		return nil
	case len(ids) > maxAssigned:
		p.invalid(assignedTarget, "%s has %d entries; use at most %d.", assignedTarget, len(ids),
			maxAssigned)
		return nil
	case !user && len(ids) > 0:
		p.invalid(typeTarget, "%s has entries, and %s does not say %s. Set it to %s, or to %s.",
			assignedTarget, typeTarget, userType, userType, bothTypes)
		return nil
	case user && len(ids) == 0:
		p.invalid(assignedTarget, "%s says %s, and %s has no entry. Name an identity there, or "+
			"set the type to %s or %s.", typeTarget, userType, assignedTarget, systemType, none)
		return nil
	}
	for _, id := range ids {
		one, err := p.find(ctx, find, id)
		var wrong *sandpool.Error
		switch {
		case errors.As(err, &wrong) && wrong.Class != sandpool.Unavailable:
			p.problems = append(p.problems, wrong)
		case err != nil:
			return err
		case p.at(one.ID) < 0: // otherwise the request names it twice, in two cases
			p.is.Assigned = append(p.is.Assigned, one)
		}
	}
	// The order is none of the request's: in another one it would be another setting.
	slices.SortFunc(p.is.Assigned, func(a, b sandpool.AssignedIdentity) int {
		return strings.Compare(strings.ToLower(a.ID), strings.ToLower(b.ID))
	})
	return nil
}

// find returns the identity with an id: the one that the pool has, or another one.
func (p *parser) find(ctx context.Context, find Finder, id string) (sandpool.AssignedIdentity,
	error) {
	i := at(p.Old.Assigned, id)
	if i < 0 {
		return find.Assignable(ctx, id)
	}
	had := p.Old.Assigned[i]
	had.InSessions = false // as the settings say
	principal, err := find.UserAssigned(ctx, had.ID)
	if err != nil || principal == "" || principal == had.Principal {
		return had, err
	}
	return find.Assignable(ctx, id) // another one has taken the name
}

func (p *parser) at(id string) int { return at(p.is.Assigned, id) }

// at is the place of an identity in a list, or -1.
func at(list []sandpool.AssignedIdentity, id string) int {
	return slices.IndexFunc(list, func(a sandpool.AssignedIdentity) bool {
		return strings.EqualFold(a.ID, id)
	})
}

// settings reads of which identities code in sessions is to get tokens.
func (p *parser) settings() {
	if len(p.Settings) > 0 && p.Off {
		p.unsupported(settingsTarget, "managed identities where its sandboxes run")
		return
	}
	if len(p.Settings) > 2*maxAssigned {
		p.invalid(settingsTarget, "%s has %d entries; use one for each identity.", settingsTarget,
			len(p.Settings))
		return
	}
	broken, said := len(p.problems) > 0, map[string]bool{}
	for i, s := range p.Settings {
		target := fmt.Sprintf("%s[%d]", settingsTarget, i)
		into := p.named(target, s.Identity, broken)
		if into == nil {
			continue
		}
		is := strings.EqualFold(s.Lifecycle, mainLifecycle)
		switch strings.ToLower(s.Lifecycle) {
		case "", "none", "main":
		case "init", "all":
			p.unsupported(target+".lifecycle", "the lifecycle "+s.Lifecycle+
				", since pools have no init containers")
		default:
			p.invalid(target+".lifecycle", "%s.lifecycle is %.60q; use %s or %s.", target,
				s.Lifecycle, none, mainLifecycle)
		}
		key := strings.ToLower(s.Identity)
		if was, twice := said[key]; twice && was != is {
			p.invalid(target+".lifecycle", "%s and another setting of the same identity say two "+
				"things. Leave one out.", target)
		}
		said[key], *into = is, is
	}
}

// named is where it is kept whether sessions get tokens of the identity that a setting names; nil
// if the pool does not have it. In a broken request its entry may be what is wrong.
func (p *parser) named(target, name string, broken bool) *bool {
	if !strings.EqualFold(name, system) {
		if i := p.at(name); i >= 0 {
			return &p.is.Assigned[i].InSessions
		}
		if !broken {
			p.invalid(target+".identity", "%s is of the identity %.300q, which the pool does not "+
				"have. Add it to %s, or leave the setting out.", target, name, assignedTarget)
		}
		return nil
	}
	if p.is.Principal == "" {
		p.invalid(target+".identity", "%s is of the pool's own identity, which it does not "+
			"have. Set identity.type to %s, or leave it out.", target, systemType)
		return nil
	}
	return &p.is.InSessions
}

// audiences reads what tokens may be for, in the one form that is compared.
func (p *parser) audiences() {
	if len(p.Audiences) > maxAudiences {
		p.invalid(audiencesTarget, "%s has %d entries; use at most %d.", audiencesTarget,
			len(p.Audiences), maxAudiences)
		return
	}
	for i, s := range p.Audiences {
		audience := sandpool.Audience(s)
		if audience == "" || len(s) > maxAudience || strings.ContainsFunc(s, func(r rune) bool {
			return r <= ' ' || r > '~' || r == '*'
		}) {
			p.invalid(audiencesTarget, "%s[%d] is %.60q; use the whole name of a resource, such "+
				"as https://dynamicsessions.io or api://my-app, of up to %d printable characters.",
				audiencesTarget, i, s, maxAudience)
			continue
		}
		if !slices.Contains(p.is.Audiences, audience) {
			p.is.Audiences = append(p.is.Audiences, audience)
		}
	}
}

// Show is the inverse of Parse, but for the audiences.
func Show(m sandpool.ManagedIdentity) (*api.Identity, []api.ManagedIdentitySetting) {
	var out api.Identity
	var settings []api.ManagedIdentitySetting
	add := func(name string, inSessions bool) {
		s := api.ManagedIdentitySetting{Identity: name, Lifecycle: none}
		if inSessions {
			s.Lifecycle = mainLifecycle
		}
		settings = append(settings, s)
	}
	if m.Principal != "" {
		out = api.Identity{Type: systemType, PrincipalID: m.Principal,
			TenantID: sandpool.DefaultSubscription}
		add(system, m.InSessions)
	}
	if len(m.Assigned) > 0 {
		out.UserAssignedIdentities = map[string]*api.UserAssigned{}
		if out.Type = userType; m.Principal != "" {
			out.Type = bothTypes
		}
	}
	for _, a := range m.Assigned {
		out.UserAssignedIdentities[a.ID] = &api.UserAssigned{PrincipalID: a.Principal,
			ClientID: a.Client}
		add(a.ID, a.InSessions)
	}
	if out.Type == "" {
		return nil, nil
	}
	return &out, settings
}

// Lost says which of the identities that a pool has are gone; empty if none is known to be.
func Lost(ctx context.Context, find Finder, m sandpool.ManagedIdentity) string {
	var gone []string
	for _, a := range m.Assigned {
		if is, err := find.UserAssigned(ctx, a.ID); err == nil && is != a.Principal {
			gone = append(gone, a.ID)
		}
	}
	if len(gone) == 0 {
		return ""
	}
	return fmt.Sprintf("Identities of the pool were deleted, and code in its sessions gets no "+
		"tokens of them: %s. Take them out, or assign others.", strings.Join(gone, ", "))
}

// Patched takes out of merged, which a patch has made, what the patch leaves behind of identities:
// those that a new type does without, and the settings of those that it takes out by name.
func Patched(merged *api.SessionPool, patch map[string]any) {
	change, _ := member(patch, "identity").(map[string]any)
	named, _ := member(change, "userAssignedIdentities").(map[string]any)
	if kind, ok := member(change, "type").(string); ok && named == nil && merged.Identity != nil &&
		!strings.Contains(strings.ToLower(kind), strings.ToLower(userType)) {
		merged.Identity.UserAssignedIdentities = nil
	}
	properties, _ := member(patch, "properties").(map[string]any)
	if member(properties, "managedIdentitySettings") != nil || merged.Properties == nil {
		return
	}
	gone := map[string]bool{}
	for id, v := range named {
		gone[strings.ToLower(id)] = v == nil
	}
	merged.Properties.ManagedIdentitySettings = slices.DeleteFunc(
		merged.Properties.ManagedIdentitySettings, func(s api.ManagedIdentitySetting) bool {
			return gone[strings.ToLower(s.Identity)]
		})
}

// member is a member of m, in any case; nil if there is none.
func member(m map[string]any, name string) any {
	for k, v := range m {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return nil
}
