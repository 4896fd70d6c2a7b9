package control

import (
	"context"
	"fmt"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/control/managed"
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

// parseIdentity reads who the pool is to others.
func (c *Control) parseIdentity(ctx context.Context, ps *problems, p *sandpool.Pool,
	identity *api.Identity, props *api.SessionPoolProperties, old *sandpool.Pool) error {
	r := managed.Request{Identity: identity, Settings: props.ManagedIdentitySettings,
		Off: !c.o.Identities}
	if props.Sandpool != nil {
		r.Audiences = props.Sandpool.IdentityAudiences
	}
	if old != nil {
		r.Old = old.Spec.Identity
	}
	is, wrong, err := managed.Parse(ctx, c.tree, r)
	p.Spec.Identity = is
	*ps = append(*ps, wrong[:min(len(wrong), maxProblems)]...)
	return err
}

// emptyTemplate reports whether t asks for nothing.
func emptyTemplate(t api.CustomContainerTemplate) bool {
	return t.Containers == nil && t.InitContainers == nil && t.Volumes == nil &&
		t.Ingress == nil && t.RegistryCredentials == nil
}
