package sandpool

import (
	"net/url"
	"strings"
)

// Scope is a part of the resource tree: everything, a subscription, a resource group, a
// pool, or sessions of a pool. It says where a grant holds, and what an action is about.
//
// Each field narrows the ones before it and needs them; the zero Scope is everything. A
// Scope with a gap (a pool without its group) contains nothing. The names of resources are
// compared without regard to case, identifiers exactly.
type Scope struct {
	Subscription  string
	ResourceGroup string
	Pool          string
	// Identifier is one session of Pool or, with Prefix, the sessions whose identifiers
	// begin with it.
	Identifier string
	Prefix     bool
}

// Scope is the pool with all of its sessions.
func (id PoolID) Scope() Scope {
	return Scope{Subscription: id.Subscription, ResourceGroup: id.ResourceGroup, Pool: id.Name}
}

// Session is one session of the pool s.
func (s Scope) Session(identifier Identifier) Scope {
	s.Identifier, s.Prefix = string(identifier), false
	return s
}

// PoolID is the pool that s is, or lies in; the zero PoolID if s is wider than a pool.
func (s Scope) PoolID() PoolID {
	if s.Pool == "" {
		return PoolID{}
	}
	return PoolID{Subscription: s.Subscription, ResourceGroup: s.ResourceGroup, Name: s.Pool}
}

// Contains reports whether all of o lies in s.
func (s Scope) Contains(o Scope) bool {
	if s == (Scope{}) {
		return true
	}
	for i, level := range [...]struct{ ours, theirs string }{
		{s.Subscription, o.Subscription}, {s.ResourceGroup, o.ResourceGroup}, {s.Pool, o.Pool},
	} {
		if level.ours == "" {
			return s.ends(i)
		}
		if !strings.EqualFold(level.ours, level.theirs) {
			return false
		}
	}
	switch {
	case s.Identifier == "":
		return !s.Prefix
	case s.Prefix:
		return strings.HasPrefix(o.Identifier, s.Identifier)
	}
	return o.Identifier == s.Identifier && !o.Prefix
}

// ends reports whether s has n fields, which means that none after them is set.
func (s Scope) ends(n int) bool {
	fields := [...]string{s.Subscription, s.ResourceGroup, s.Pool, s.Identifier}
	return strings.Join(fields[n:], "") == "" && !s.Prefix
}

// Touches reports whether s and o have something in common.
func (s Scope) Touches(o Scope) bool { return s.Contains(o) || o.Contains(s) }

// Keys returns the range of the keys that pools in s have (PoolID.Key): from the first, below the
// last. Sessions of a pool are in no such range; an empty end is none.
func (s Scope) Keys() (from, below string) {
	switch {
	case s == Scope{}:
		return "/", "0" // the character after the slash that every key begins with
	case s.Identifier != "" || s.Prefix:
		return "", ""
	case s.Pool != "":
		key := s.PoolID().Key()
		return key, Next(key)
	}
	prefix := strings.ToLower(s.String()) + "/"
	return prefix, prefix[:len(prefix)-1] + "0"
}

// Next is a text after key and before every other key: keys hold no control characters.
func Next(key string) string { return key + "\x01" }

// String returns s as ParseScope reads it. The identifier is escaped, so that a star at the
// end is always a prefix.
func (s Scope) String() string {
	var b strings.Builder
	for _, level := range [...]struct{ path, name string }{
		{"/subscriptions/", s.Subscription}, {"/resourceGroups/", s.ResourceGroup}, {poolsPath,
			s.Pool},
		{"/identifiers/", url.PathEscape(s.Identifier)},
	} {
		if level.name == "" {
			break
		}
		b.WriteString(level.path + level.name)
	}
	if b.Len() == 0 {
		return "/"
	}
	if s.Prefix {
		b.WriteByte('*')
	}
	return b.String()
}

const poolsPath = "/providers/Microsoft.App/sessionPools/"

// ParseScope reads a scope, which is one of:
//
//	/                                                   everything
//	/subscriptions/S                                    a subscription
//	/subscriptions/S/resourceGroups/G                   a resource group
//	…/providers/Microsoft.App/sessionPools/P            a pool
//	…/sessionPools/P/identifiers/NAME                   one session
//	…/sessionPools/P/identifiers/NAME*                  sessions by the beginning of their names
//
// The fixed words may be in any case. An identifier is escaped as a segment of a path. It is
// an error of class Invalid if s is none of these.
func ParseScope(s string) (Scope, error) {
	bad := Errorf(Invalid, "InvalidScope", "scope", "%.200q is not a scope. Write it as /, "+
		"/subscriptions/S, /subscriptions/S/resourceGroups/G, the resource id of a session pool, or "+
		"that and /identifiers/NAME or /identifiers/BEGINNING*.", s)
	if s == "/" {
		return Scope{}, nil
	}
	var out Scope
	rest := s
	for _, level := range [...]struct {
		path string
		into *string
	}{
		{"/subscriptions/", &out.Subscription}, {"/resourceGroups/", &out.ResourceGroup}, {
			poolsPath, &out.Pool},
		{"/identifiers/", &out.Identifier},
	} {
		if rest == "" {
			break
		}
		if len(rest) < len(level.path) || !strings.EqualFold(rest[:len(level.path)], level.path) {
			return Scope{}, bad
		}
		rest = rest[len(level.path):]
		name := rest
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			name = rest[:i]
		}
		if name == "" {
			return Scope{}, bad
		}
		*level.into, rest = name, rest[len(name):]
	}
	if rest != "" || out.Subscription == "" {
		return Scope{}, bad
	}
	return out, out.parseIdentifier()
}

// parseIdentifier reads the escaped identifier of a scope, and checks it.
func (s *Scope) parseIdentifier() error {
	if s.Identifier == "" {
		return nil
	}
	text, prefix := strings.CutSuffix(s.Identifier, "*")
	name, err := url.PathUnescape(text)
	if err != nil || name == "" {
		return Errorf(Invalid, "InvalidScope", "scope",
			"The identifier %.200q of the scope is not allowed. Escape it as a segment of a path.",
			s.Identifier)
	}
	s.Identifier, s.Prefix = name, prefix
	if prefix {
		name += strings.Repeat("x", max(0, MinIdentifier-len(name))) // a beginning may be short
	}
	_, err = ParseIdentifier(name)
	return err
}
