package control

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// Codes of the problems of a pool's request.
const (
	codeInvalid     = "SessionPoolInvalidProperty"
	codeReady       = "SessionPoolInvalidReadySessionInstances"
	codeImmutable   = "SessionPoolPropertyChangeNotAllowed"
	codeUnsupported = "SessionPoolFeatureNotSupported"
)

// problems collects what is wrong with a request, so that its caller learns
// everything at once.
type problems []*sandpool.Error

// maxProblems bounds what one answer reports: a small body can hold very many wrong names.
const maxProblems = 50

func (ps *problems) add(class sandpool.Class, code, target, format string, args ...any) {
	if len(*ps) == maxProblems {
		return
	}
	*ps = append(*ps, sandpool.Errorf(class, code, target, format, args...))
}

func (ps *problems) invalid(target, format string, args ...any) {
	ps.add(sandpool.Invalid, codeInvalid, target, format, args...)
}

// unsupported reports a property that Azure has and this server does not build.
func (ps *problems) unsupported(target, what string) {
	ps.add(sandpool.Unsupported, codeUnsupported, target,
		"%s: this server does not support %s. Leave %s out.", target, what, target)
}

// err returns nil, the only problem, or one error with all of them as details.
func (ps problems) err() error {
	switch len(ps) {
	case 0:
		return nil
	case 1:
		return ps[0]
	}
	sum := sandpool.Error{Class: ps[0].Class, Code: ps[0].Code, Details: ps}
	targets := make([]string, 0, len(ps))
	for _, p := range ps {
		targets = append(targets, p.Target)
		if p.Class != sum.Class {
			sum.Class = sandpool.Invalid
		}
		if p.Code != sum.Code {
			sum.Code = "SessionPoolValidationFailed"
		}
	}
	sum.Message = fmt.Sprintf(
		"The session pool has %d problems, in %s. The details say what each is.",
		len(ps), strings.Join(targets, ", "))
	return &sum
}

// refuse reports every property that asks for something this server does not
// build. Values that ask for nothing (null, empty, off) are what az and the SDKs send
// for a code pool, and pass.
func refuse(ps *problems, props *api.SessionPoolProperties, custom bool) {
	if props.EnvironmentID != "" && !custom {
		ps.unsupported("properties.environmentId", "managed environments")
	}
	if t := props.PoolManagementType; t != "" && !strings.EqualFold(t, dynamicType) {
		ps.unsupported("properties.poolManagementType", "pool management other than "+dynamicType)
	}
	if props.CustomContainerTemplate != nil && !custom &&
		!emptyTemplate(*props.CustomContainerTemplate) {
		ps.unsupported("properties.customContainerTemplate",
			"custom containers in pools of other types")
	}
}

// Words of managed identities.
const (
	noIdentity     = "None"
	systemAssigned = "SystemAssigned"
	userAssigned   = "UserAssigned"
	systemIdentity = "system"
	mainLifecycle  = "Main"
)

// Bounds of what tokens of an identity may be for.
const (
	maxAudiences = 20
	maxAudience  = 200
)

// parseIdentity reads who the pool is to others. A pool that has an identity keeps it.
func (c *Control) parseIdentity(ps *problems, p *sandpool.Pool, identity *api.Identity,
	props *api.SessionPoolProperties, old *sandpool.Pool) {
	system := c.hasIdentity(ps, identity)
	inSessions := c.identityInSessions(ps, props.ManagedIdentitySettings, system)
	if system {
		p.Spec.Identity = sandpool.ManagedIdentity{InSessions: inSessions}
		if old != nil {
			p.Spec.Identity.Principal = old.Spec.Identity.Principal
		}
		if p.Spec.Identity.Principal == "" {
			p.Spec.Identity.Principal = sandpool.NewManagedPrincipal()
		}
	}
	if props.Sandpool != nil {
		p.Spec.Identity.Audiences = parseAudiences(ps, props.Sandpool.IdentityAudiences)
	}
}

// hasIdentity reports whether the pool is to have an identity of its own.
func (c *Control) hasIdentity(ps *problems, identity *api.Identity) (system bool) {
	const target = "identity.type"
	if identity == nil || identity.Type == "" || strings.EqualFold(identity.Type, noIdentity) {
		return false
	}
	user := false
	for kind := range strings.SplitSeq(identity.Type, ",") {
		switch kind = strings.TrimSpace(kind); {
		case strings.EqualFold(kind, userAssigned):
			user = true
		case strings.EqualFold(kind, systemAssigned):
			system = true
		default:
			ps.invalid(target, "%s is %.60q; use %s or %s.", target, identity.Type, noIdentity,
				systemAssigned)
			return false
		}
	}
	switch {
	case !c.o.Identities:
		ps.unsupported(target, "managed identities where its sandboxes run")
	case user:
		ps.unsupported(target, "user-assigned identities")
	}
	return system
}

// identityInSessions reports whether code in sessions is to get tokens.
func (c *Control) identityInSessions(ps *problems, settings []api.ManagedIdentitySetting,
	system bool) (main bool) {
	const all = "properties.managedIdentitySettings"
	if len(settings) > 0 && !c.o.Identities {
		ps.unsupported(all, "managed identities where its sandboxes run")
		return false
	}
	for i, s := range settings {
		target := fmt.Sprintf("%s[%d]", all, i)
		if !strings.EqualFold(s.Identity, systemIdentity) {
			ps.unsupported(target+".identity", "user-assigned identities")
			continue
		}
		if !system {
			ps.invalid(target+".identity", "%s is of the pool's own identity, which it does not "+
				"have. Set identity.type to %s, or leave it out.", target, systemAssigned)
			continue
		}
		is := strings.EqualFold(s.Lifecycle, mainLifecycle)
		switch strings.ToLower(s.Lifecycle) {
		case "", "none", "main":
		case "init", "all":
			ps.unsupported(target+".lifecycle", "the lifecycle "+s.Lifecycle+
				", since pools have no init containers")
		default:
			ps.invalid(target+".lifecycle", "%s.lifecycle is %.60q; use %s or %s.", target,
				s.Lifecycle, noIdentity, mainLifecycle)
		}
		if i > 0 && is != main {
			ps.invalid(target+".lifecycle", "%s and another setting of the same identity say two "+
				"things. Leave one out.", target)
		}
		main = is
	}
	return main
}

// parseAudiences reads what tokens may be for, in the one form that is compared.
func parseAudiences(ps *problems, list []string) []string {
	const target = "properties.sandpool.identityAudiences"
	if len(list) > maxAudiences {
		ps.invalid(target, "%s has %d entries; use at most %d.", target, len(list), maxAudiences)
		return nil
	}
	var out []string
	for i, s := range list {
		audience := sandpool.Audience(s)
		if audience == "" || len(s) > maxAudience || strings.ContainsFunc(s, func(r rune) bool {
			return r <= ' ' || r > '~' || r == '*'
		}) {
			ps.invalid(target, "%s[%d] is %.60q; use the whole name of a resource, such as "+
				"https://dynamicsessions.io or api://my-app, of up to %d printable characters.",
				target, i, s, maxAudience)
			continue
		}
		if !slices.Contains(out, audience) {
			out = append(out, audience)
		}
	}
	return out
}

// emptyTemplate reports whether t asks for nothing.
func emptyTemplate(t api.CustomContainerTemplate) bool {
	return t.Containers == nil && t.InitContainers == nil && t.Volumes == nil &&
		t.Ingress == nil && t.RegistryCredentials == nil
}
