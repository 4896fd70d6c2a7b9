package auth

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
)

// Principal is who a request comes from.
type Principal struct {
	// Subject is the principal's name for records: the kind of its credential, a colon, and
	// a name that is its own among that kind, such as "token:4kq2…".
	Subject string
	// Name is what people call it.
	Name string
	// Person says that it is somebody, by what a foreign issuer tells; otherwise it is a program.
	// The server's own tokens are programs: nobody has said who uses them.
	Person bool
	// Grants are what it may do; without any it may do nothing.
	Grants []sandpool.Grant
	// Objects are the ids by which role assignments name a foreign principal and its groups.
	Objects []string
	// Ends is when the credential that was shown ends, for one that others may be made of; zero
	// means that it does not say.
	Ends time.Time
}

// Is reports whether a role assignment that names the principal id is one of p's.
func (p Principal) Is(id string) bool {
	return p.Subject == "token:"+id || slices.ContainsFunc(p.Objects, func(o string) bool {
		return strings.EqualFold(o, id)
	})
}

// Author is how p is written down beside what it makes and changes: a token of the server by its
// id, which is its client id as well, and others by their name.
func (p Principal) Author() sandpool.Author {
	if id, own := strings.CutPrefix(p.Subject, "token:"); own {
		return sandpool.Author{Name: id, Kind: sandpool.Application}
	}
	a := sandpool.Author{Name: cmp.Or(p.Name, p.Subject), Kind: sandpool.Application}
	if p.Person {
		a.Kind = sandpool.User
	}
	return a
}

// At is p with those of its grants that have not ended at now.
func (p Principal) At(now time.Time) Principal {
	ended := func(g sandpool.Grant) bool { return g.Ended(now) }
	if slices.ContainsFunc(p.Grants, ended) {
		p.Grants = slices.DeleteFunc(slices.Clone(p.Grants), ended) // verifiers keep theirs
	}
	return p
}

// Allow returns nil if p may take action a on all of the scope on, and otherwise an error of
// class Denied that names both, and the command that would give the permission. For an action
// about the server on is not looked at, and p needs a grant of everything. For ListPools it is
// not looked at either: the caller filters the list.
func Allow(p Principal, a Action, on sandpool.Scope) error {
	return decide(p, a, on, sandpool.Scope.Contains)
}

// AllowSome returns nil if p may take action a on some part of the scope on. What the part
// is must still be asked of Allow.
func AllowSome(p Principal, a Action, on sandpool.Scope) error {
	return decide(p, a, on, sandpool.Scope.Touches)
}

// Parts returns the parts of the scope on in which p may take action a on pools, without those that
// lie in another: what a list of pools has to look at.
func Parts(p Principal, a Action, on sandpool.Scope) (parts []sandpool.Scope) {
	for _, g := range p.Grants {
		part := g.Scope
		switch {
		case !permits(g.Role, a) || !on.Touches(part) || part.Identifier != "" || part.Prefix:
			continue
		case part.Contains(on):
			return []sandpool.Scope{on}
		}
		within := func(other sandpool.Scope) bool { return other.Contains(part) }
		if slices.ContainsFunc(parts, within) {
			continue
		}
		parts = append(slices.DeleteFunc(parts, part.Contains), part)
	}
	return parts
}

func decide(p Principal, a Action, on sandpool.Scope,
	fits func(grant, on sandpool.Scope) bool) error {
	permitted := false
	for _, g := range p.Grants {
		if !permits(g.Role, a) {
			continue
		}
		permitted = true
		switch about(a) {
		case ofLists:
			return nil
		case ofServer:
			if g.Scope == (sandpool.Scope{}) {
				return nil
			}
		case ofPools:
			if on.Pool != "" && fits(g.Scope, on) {
				return nil
			}
		case ofGroups:
			if fits(g.Scope, on) {
				return nil
			}
		}
	}
	switch {
	case !permitted:
		return denied(p, a, on, rolesOf(p))
	case about(a) == ofServer:
		return denied(p, a, on, "that takes a grant of everything, and its own are narrower")
	}
	on.Identifier, on.Prefix = "", false // an identifier is a secret
	return denied(p, a, on, "its scope does not include "+on.String())
}

func rolesOf(p Principal) string {
	switch len(p.Grants) {
	case 0:
		return "it has no role"
	case 1:
		return fmt.Sprintf("the role %q does not permit it", p.Grants[0].Role)
	}
	return "none of its roles permits it"
}

func denied(p Principal, a Action, on sandpool.Scope, why string) error {
	return sandpool.Errorf(sandpool.Denied, "AuthorizationFailed", "", "%q (%s) may not %s: %s.%s",
		p.Name, p.Subject, a, why, remedy(p, a, on))
}

// remedy says how an administrator lets p take action a on the scope on: with the role that permits
// the least beside it.
func remedy(p Principal, a Action, on sandpool.Scope) string {
	role := least(a)
	if role == "" {
		return ""
	}
	on.Identifier, on.Prefix = "", false
	if about(a) == ofServer {
		on = sandpool.Scope{}
	}
	assign := func(id string) string {
		return fmt.Sprintf("'az role assignment create --assignee-object-id %s --role %q "+
			"--scope %s'", id, AzureName(role), on)
	}
	create := fmt.Sprintf("'sandpool token create NAME --role %s --scope %s'", role, on)
	id, own := strings.CutPrefix(p.Subject, "token:")
	switch {
	case own:
		return " An administrator gives it the role with " + assign(id) +
			", or makes a token that has it with " + create + "."
	case len(p.Objects) > 0:
		return " An administrator gives it the role with " + assign(p.Objects[0]) + "."
	case strings.HasPrefix(p.Subject, "oidc:"):
		return fmt.Sprintf(" An operator gives it the role with a rule in the server's setting "+
			"issuers: role %s, scope %s.", role, on)
	}
	return " An administrator makes a token that may with " + create + "."
}

type principalKey struct{}

// WithPrincipal returns a context that carries p.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// FromContext returns the principal of the request that ctx belongs to.
func FromContext(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(Principal)
	return p, ok
}

// Author is how the principal in ctx is written down; the zero Author if there is none.
func Author(ctx context.Context) sandpool.Author {
	p, ok := FromContext(ctx)
	if !ok {
		return sandpool.Author{}
	}
	return p.Author()
}

// Require returns nil if the principal in ctx may take action a on all of the scope on; see
// Allow. Without a principal it is an error of class Unauthenticated.
func Require(ctx context.Context, a Action, on sandpool.Scope) error {
	p, ok := FromContext(ctx)
	if !ok {
		return missing("The request has no principal.")
	}
	return decide(p, a, on, sandpool.Scope.Contains)
}

// RequireSome is Require for some part of the scope; see AllowSome.
func RequireSome(ctx context.Context, a Action, on sandpool.Scope) error {
	p, ok := FromContext(ctx)
	if !ok {
		return missing("The request has no principal.")
	}
	return decide(p, a, on, sandpool.Scope.Touches)
}
