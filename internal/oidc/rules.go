package oidc

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
)

// claims are those of a token, as its JSON has them.
type claims map[string]any

// find returns the claim of that name, or that which the name's dots lead to. Names such as
// https://example.com/roles have dots of their own, so the whole name counts first.
func (c claims) find(name string) any {
	if v, ok := c[name]; ok {
		return v
	}
	var at any = map[string]any(c)
	for part := range strings.SplitSeq(name, ".") {
		object, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = object[part]
	}
	return at
}

// text is a claim that is one value, and "" for every other.
func (c claims) text(name string) string {
	if name == "email" && scalar(c["email_verified"]) != "true" {
		return "" // anybody can say that they have an address
	}
	return scalar(c.find(name))
}

func scalar(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case float64:
		if math.Abs(v) >= 1<<53 {
			return "" // several numbers are read as this one, and could be several people's
		}
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return ""
}

// maxObjects bounds the object ids of a principal. Entra ID puts at most 200 groups into a token.
const maxObjects = 256

// objects are the object ids of the holder and its groups.
func (c claims) objects() []string {
	var ids []string
	if id := scalar(c["oid"]); id != "" {
		ids = append(ids, id)
	}
	groups, _ := c["groups"].([]any)
	for _, g := range groups[:min(len(groups), maxObjects)] {
		if id := scalar(g); id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

// serviceAccount begins the name that Keycloak gives to a client that has a token for itself.
const serviceAccount = "service-account-"

// serviceMail ends the addresses that Google gives to programs.
const serviceMail = ".gserviceaccount.com"

// person reports whether the holder is somebody rather than a program. Entra ID says so if it is
// asked to (idtyp); otherwise a person has a name of a kind that programs have not.
func (c claims) person() bool {
	switch c.text("idtyp") {
	case "user":
		return true
	case "app", "device":
		return false
	}
	if strings.HasPrefix(c.text("preferred_username"), serviceAccount) &&
		c.text("client_id")+c.text("clientId")+c.text("azp") != "" {
		return false
	}
	if strings.HasSuffix(c.text("email"), serviceMail) {
		return false
	}
	for _, claim := range []string{"preferred_username", "upn", "unique_name", "email", "name",
		"given_name"} {
		if c.text(claim) != "" {
			return true
		}
	}
	return false
}

// holds reports whether the claim of that name is, or contains, what is wanted.
func (c claims) holds(name, wanted string) bool {
	if many, ok := c.find(name).([]any); ok && name != "email" {
		for _, v := range many {
			if matches(scalar(v), wanted) {
				return true
			}
		}
		return false
	}
	return matches(c.text(name), wanted)
}

// matches reports whether a value is the wanted one, or begins with what stands before a star at
// its end. Nothing matches an empty value.
func matches(value, wanted string) bool {
	if value == "" {
		return false
	}
	if beginning, ok := strings.CutSuffix(wanted, "*"); ok {
		return strings.HasPrefix(value, beginning)
	}
	return value == wanted
}

// grant is what the rule gives to a token with these claims, and false if it gives nothing.
func (r rule) grant(c claims) (sandpool.Grant, bool) {
	for name, wanted := range r.claims {
		if !c.holds(name, wanted) {
			return sandpool.Grant{}, false
		}
	}
	scope, ok := r.scope.expand(c)
	return sandpool.Grant{Role: r.role, Scope: scope, Expires: r.expires}, ok
}

// rule is a Rule that was checked.
type rule struct {
	claims  map[string]string
	role    sandpool.Role
	scope   scope
	expires time.Time // zero means never
}

// scope is a scope whose identifier may contain claims. It is the text of its parts, one after the
// other, with a claim's value between two of them.
type scope struct {
	fixed sandpool.Scope // if there are no claims
	parts []string
	names []string
}

// sample stands for a claim while a scope is checked.
const sample = "aaaa"

// parseScope reads a scope. Claims may stand in its identifier alone.
func parseScope(s string) (scope, error) {
	var out scope
	rest := s
	for {
		before, after, found := strings.Cut(rest, "{")
		out.parts = append(out.parts, before)
		if !found {
			break
		}
		name, end, closed := strings.Cut(after, "}")
		if !closed || name == "" {
			return scope{}, errors.New("a brace is not closed, or has no claim in it")
		}
		if end == "*" || strings.HasPrefix(end, "{") || strings.HasPrefix(end, "%") {
			return scope{}, fmt.Errorf("{%s} is followed by nothing that ends it; write {%s}:* "+
				"or the like", name, name)
		}
		out.names, rest = append(out.names, name), end
	}
	if len(out.names) == 0 {
		fixed, err := sandpool.ParseScope(s)
		out.fixed = fixed
		return out, err
	}
	if !strings.Contains(strings.ToLower(out.parts[0]), "/identifiers/") {
		return scope{}, errors.New("claims may stand after /identifiers/ alone")
	}
	_, err := sandpool.ParseScope(strings.Join(out.parts, sample))
	return out, err
}

// expand puts a token's claims into the scope. It is false if one is missing, or contains the
// character that ends it: the scope could then meet that of somebody else.
func (s scope) expand(c claims) (sandpool.Scope, bool) {
	if len(s.names) == 0 {
		return s.fixed, true
	}
	var b strings.Builder
	b.WriteString(s.parts[0])
	for i, name := range s.names {
		value, after := c.text(name), s.parts[i+1]
		if value == "" || after != "" && strings.Contains(value, after[:1]) {
			return sandpool.Scope{}, false
		}
		b.WriteString(url.PathEscape(value) + after)
	}
	out, err := sandpool.ParseScope(b.String())
	return out, err == nil
}
