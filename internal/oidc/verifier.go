package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
)

const (
	// skew is what clocks may differ by.
	skew = time.Minute
	// maxRemembered bounds the tokens that are remembered as good.
	maxRemembered = 4096
	// assignedFor is how long role assignments are believed without another look. Those of the
	// server's own tokens are, too.
	assignedFor = 5 * time.Second
)

// Verifier verifies the tokens of foreign issuers.
type Verifier struct {
	log      *slog.Logger
	issuers  map[string]*issuer
	assigned Assigned
	now      func() time.Time

	mu   sync.Mutex
	good map[[sha256.Size]byte]known
}

var _ auth.Verifier = (*Verifier)(nil)

// issuer is one issuer with its keys.
type issuer struct {
	Settings
	keys   *keySet
	rules  []rule
	client *http.Client
}

// known is a token that was good.
type known struct {
	principal auth.Principal
	until     time.Time
	// byRules is how many of the principal's grants rules have given; the others were assigned, and
	// are looked up again at the time again.
	byRules int
	again   time.Time
}

// Assigned returns what role assignments give to whoever has one of these object ids.
type Assigned func(ctx context.Context, ids []string) ([]sandpool.Grant, error)

// New returns the verifier of the issuers in all. assigned is needed if one of them has
// RoleAssignments. now is the clock; nil means time.Now.
func New(log *slog.Logger, all []Settings, assigned Assigned, now func() time.Time) (*Verifier,
	error) {
	if Assigns(all) && assigned == nil {
		return nil, errors.New("oidc: role assignments are required")
	}
	if problems := Validate(all); len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if now == nil {
		now = time.Now
	}
	v := &Verifier{log: log, issuers: map[string]*issuer{}, assigned: assigned, now: now,
		good: map[[sha256.Size]byte]known{}}
	for _, s := range all {
		client, err := s.httpClient()
		if err != nil {
			return nil, err
		}
		i := &issuer{Settings: s, client: client, keys: newKeySet(s, client, now)}
		for _, r := range s.Rules {
			scope, err := parseScope(r.Scope)
			if err != nil {
				return nil, err // Validate has seen it
			}
			expires, err := r.expiry()
			if err != nil {
				return nil, err // as above
			}
			i.rules = append(i.rules, rule{claims: r.Claims, role: sandpool.Role(r.Role),
				scope: scope, expires: expires})
		}
		v.issuers[s.Issuer] = i
	}
	return v, nil
}

// Recognizes implements auth.Verifier: a JSON Web Token that says to be of an issuer of ours.
func (v *Verifier) Recognizes(c auth.Credential) bool {
	if c.Kind != auth.Bearer || len(v.issuers) == 0 || !strings.HasPrefix(c.Text, "eyJ") {
		return false
	}
	if _, ok := v.remembered(sha256.Sum256([]byte(c.Text))); ok {
		return true
	}
	_, ok := v.issuers[says(c.Text)]
	return ok
}

// says returns the issuer that a token names, which is not verified; "" if it names none.
func says(text string) string {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	if json.Unmarshal(payload, &c) != nil {
		return ""
	}
	return c.Issuer
}

// Verify implements auth.Verifier.
func (v *Verifier) Verify(ctx context.Context, c auth.Credential) (auth.Principal, error) {
	sum := sha256.Sum256([]byte(c.Text))
	if k, ok := v.remembered(sum); ok {
		return v.withAssigned(ctx, sum, k)
	}
	i, ok := v.issuers[says(c.Text)]
	if !ok {
		return auth.Principal{}, refused("its issuer is not one of this server's")
	}
	got, err := v.check(ctx, i, c.Text, i.forWhom())
	if err != nil {
		return auth.Principal{}, err
	}
	p := i.principal(got)
	p.Ends = got.Expiry.Time()
	return v.withAssigned(ctx, sum, known{principal: p, byRules: len(p.Grants),
		until: earlier(got.Expiry.Time().Add(skew), got.fetched.Add(aging))})
}

// verified is a token that its issuer has signed, for one of some audiences, and that holds now.
type verified struct {
	jwt.Claims
	all     claims
	fetched time.Time // when the keys were
}

// check verifies a token of the issuer i that is to be for one of the audiences.
func (v *Verifier) check(ctx context.Context, i *issuer, text string,
	audiences []string) (out verified, err error) {
	t, err := jwt.ParseSigned(text, i.accepted())
	if err != nil || len(t.Headers) != 1 {
		return out, refused("it is malformed, or signed in a way that is not accepted")
	}
	key, fetched, err := i.keys.key(ctx, t.Headers[0].KeyID)
	if errors.Is(err, errUnknownKey) {
		return out, refused("its issuer has no such key")
	}
	if err != nil {
		v.log.Warn("the keys of an issuer could not be read", "issuer", i.Issuer, "error", err)
		return out, &sandpool.Error{Class: sandpool.Unavailable,
			Message:    "The keys of the token's issuer cannot be read at the moment. Try again.",
			RetryAfter: pause, Err: err}
	}
	if key.Algorithm != "" && key.Algorithm != t.Headers[0].Algorithm {
		return out, refused("it is signed in another way than its key is for")
	}
	out = verified{all: claims{}, fetched: fetched}
	if err := t.Claims(key.Key, &out.Claims, &out.all); err != nil {
		return out, refused("its signature is wrong, or its claims are not allowed")
	}
	return out, i.holds(out, audiences, v.now())
}

// withAssigned is the principal of a good token with what role assignments give it now.
func (v *Verifier) withAssigned(ctx context.Context, sum [sha256.Size]byte,
	k known) (auth.Principal, error) {
	if now := v.now(); k.again.IsZero() || len(k.principal.Objects) > 0 && !now.Before(k.again) {
		if len(k.principal.Objects) > 0 {
			more, err := v.assigned(ctx, k.principal.Objects)
			if err != nil {
				return auth.Principal{}, &sandpool.Error{Class: sandpool.Unavailable, Err: err,
					Message: "The server cannot read role assignments at the moment. Try again."}
			}
			k.principal.Grants = append(k.principal.Grants[:k.byRules:k.byRules], more...)
		}
		k.again = now.Add(assignedFor)
		if len(k.principal.Grants) > 0 || len(k.principal.Objects) > 0 {
			v.remember(sum, k)
		}
	}
	return k.principal, nil
}

// holds returns why a token that its issuer has signed does not hold, and nil if it does.
func (i *issuer) holds(t verified, audiences []string, now time.Time) error {
	if t.Expiry == nil {
		return refused("it does not say when it ends")
	}
	err := t.ValidateWithLeeway(jwt.Expected{Issuer: i.Issuer, AnyAudience: audiences, Time: now},
		skew)
	switch {
	case errors.Is(err, jwt.ErrInvalidAudience):
		return refused(fmt.Sprintf("it is for %.200q; this server is %q", t.Audience, audiences))
	case errors.Is(err, jwt.ErrExpired):
		return refused("it ended at " + t.Expiry.Time().UTC().Format(time.RFC3339))
	case err != nil:
		return refused("it does not hold: " + err.Error())
	case !isName(t.Subject):
		return refused("it does not say whose it is, in 1 to 255 printable characters")
	}
	for _, a := range i.Audiences {
		if t.Audience.Contains(a) {
			return nil
		}
	}
	// It is good as the ID token of somebody who has signed in here. One that another client was
	// given is not.
	if by := t.all["azp"]; by != nil && by != i.SignIn.ClientID || by == nil &&
		len(t.Audience) > 1 {
		return refused("it was given to another client than the one that signs people in")
	}
	return nil
}

// principal is who a token is of.
func (i *issuer) principal(t verified) auth.Principal {
	p := auth.Principal{Subject: "oidc:" + i.Issuer + "#" + t.Subject, Name: i.name(t.all),
		Person: t.all.person()}
	if i.RoleAssignments {
		p.Objects = t.all.objects()
	}
	for _, r := range i.rules {
		if g, ok := r.grant(t.all); ok {
			p.Grants = append(p.Grants, g)
		}
	}
	return p
}

// name is what people call the holder.
func (i *issuer) name(c claims) string {
	for _, claim := range []string{i.NameClaim, "preferred_username", "upn", "email", "azp",
		"appid", "sub"} {
		if s := c.text(claim); isName(s) && (i.SignIn == nil || s != i.SignIn.ClientID) {
			return fmt.Sprintf("%.100s", s)
		}
	}
	return ""
}

// isName reports whether s may stand in logs and lists as somebody's name.
func isName(s string) bool {
	return s != "" && len(s) <= 255 && strings.IndexFunc(s, func(c rune) bool {
		return !unicode.IsPrint(c)
	}) < 0 && utf8.ValidString(s)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (v *Verifier) remembered(sum [sha256.Size]byte) (known, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k, ok := v.good[sum]
	return k, ok && v.now().Before(k.until)
}

// remember keeps a token that was good and may give something. Only those get here, so nobody
// without one can push others out.
func (v *Verifier) remember(sum [sha256.Size]byte, k known) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.good) >= maxRemembered {
		clear(v.good)
	}
	v.good[sum] = k
}

// refused says why a token is not accepted. Its sender can read all of it, so this gives nothing
// away.
func refused(why string) error {
	return sandpool.Errorf(sandpool.Unauthenticated, "InvalidAuthenticationToken", "Authorization",
		"The bearer token is not accepted: %s.", why)
}
