package issuer

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/time/rate"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/store"
)

// lifetime is how long a JWT is good for; skew is what clocks may differ by.
const (
	lifetime = time.Hour
	skew     = time.Minute
)

// Audiences are what tokens may be for: Resource Manager, and dynamic sessions under their
// present and their first name. A token for one of them is good for the whole server.
func Audiences() []string {
	return []string{"https://management.azure.com", "https://management.core.windows.net",
		"https://dynamicsessions.io", "https://acasessions.io"}
}

// Tokens is what the issuer needs of package auth.
type Tokens interface {
	// Verify returns the principal of a token's text.
	Verify(ctx context.Context, c auth.Credential) (auth.Principal, error)
	// Holder returns the principal of the token with the given id, if it is valid.
	Holder(ctx context.Context, id string) (auth.Principal, error)
}

var _ Tokens = (*auth.Tokens)(nil)

// Issuer gives out and verifies tokens.
type Issuer struct {
	// Failed hears of clients that are refused; nil means that nobody does.
	Failed func(r *http.Request, status int, e *sandpool.Error)
	// Address is how others reach the server, for tokens that are no answer to a request there.
	Address string
	// Managed returns the principal of a pool's identity, with object as its id, if a token of it
	// may be for the audience, and an error of class Unauthenticated if not; nil means that pools
	// have none.
	Managed func(ctx context.Context, pool sandpool.PoolID, object,
		audience string) (auth.Principal, error)
	// Foreign returns the principal of a token of a foreign issuer; nil means that there are none.
	Foreign auth.Verifier
	// Approvals keeps which device codes were approved; nil means that there are none.
	Approvals store.Documents

	tokens  Tokens
	baseURL func(*http.Request) string
	keys    *Keys
	now     func() time.Time
	// devices and polls bound what those who are not known may ask for.
	devices, polls *rate.Limiter
}

var _ auth.Verifier = (*Issuer)(nil)

// New returns an Issuer. baseURL is how callers reach the server; now is the clock, nil means
// time.Now.
func New(tokens Tokens, keys *Keys, baseURL func(*http.Request) string,
	now func() time.Time) (*Issuer, error) {
	if tokens == nil || keys == nil || baseURL == nil {
		return nil, errors.New("issuer: tokens, keys and a base URL are required")
	}
	if now == nil {
		now = time.Now
	}
	return &Issuer{tokens: tokens, keys: keys, baseURL: baseURL, now: now,
		devices: rate.NewLimiter(10, 100), polls: rate.NewLimiter(200, 1000)}, nil
}

// claims are what a token says beside the registered ones. Clients read the tenant from it.
type claims struct {
	jwt.Claims
	Tenant string `json:"tid"`
	Object string `json:"oid"`
	App    string `json:"appid"`
	// Resource is whose identity it is, in Entra ID's name for that: a pool, or the identity itself
	// if that is a resource. Holder is then the pool that has it.
	Resource string `json:"xms_mirid,omitempty"`
	Holder   string `json:"xms_az_rid,omitempty"`
	// Via is the token of a foreign issuer that this one stands for, sealed.
	Via string `json:"via,omitempty"`
}

// issue returns a token for the principal, whose subject is that of a token of the server, or of a
// foreign issuer's, which via is then.
func (i *Issuer) issue(p auth.Principal, issuer, audience string, lifetime time.Duration,
	via string) (string, error) {
	now := i.now()
	id := strings.TrimPrefix(p.Subject, subjectPrefix)
	return jwt.Signed(i.keys.signing().signer).Claims(claims{
		Claims: jwt.Claims{Issuer: issuer, Subject: p.Subject, Audience: jwt.Audience{audience},
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now),
			Expiry: jwt.NewNumericDate(now.Add(lifetime))},
		Tenant: Tenant, Object: id, App: id, Via: via,
	}).Serialize()
}

// momentLifetime is how long a token is good that one server shows another.
const momentLifetime = time.Minute

// IssueFor returns a token with which the server asks another one in the name of a principal, and
// false for one that is not of the server's own tokens.
func (i *Issuer) IssueFor(p auth.Principal) (string, bool) {
	if !strings.HasPrefix(p.Subject, subjectPrefix) {
		return "", false
	}
	text, err := i.issue(p, i.Address+"/adfs", Audiences()[0], momentLifetime, "")
	return text, err == nil
}

// managedPrefix begins the subjects of pools' identities.
const managedPrefix = "identity:"

// ManagedLifetime is how long a token of a pool's identity is good. Nobody else than this server
// learns that a pool is gone before.
const ManagedLifetime = 15 * time.Minute

// IssueManaged returns a token of an identity that the pool p has, for an audience, whatever that
// is, and when it ends. Whether the pool allows that is the caller's to know.
func (i *Issuer) IssueManaged(p sandpool.Pool, of sandpool.AssignedIdentity,
	audience string) (string, time.Time, error) {
	now := i.now()
	ends := now.Add(ManagedLifetime)
	c := claims{
		Claims: jwt.Claims{Issuer: i.Address + "/adfs", Subject: managedPrefix + of.Principal,
			Audience: jwt.Audience{audience}, IssuedAt: jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(ends)},
		Tenant: Tenant, Object: of.Principal, App: of.Client, Resource: of.ID}
	if !p.IsOwn(of) {
		c.Holder = p.ID.String()
	}
	text, err := jwt.Signed(i.keys.signing().signer).Claims(c).Serialize()
	return text, ends, err
}

// managed returns the principal of a token of a pool's identity, which may have ended.
func (i *Issuer) managed(ctx context.Context, object string, got claims) (auth.Principal, error) {
	scope, err := arm.ParseScope(cmp.Or(got.Holder, got.Resource))
	if err != nil || scope.Pool == "" || i.Managed == nil {
		return auth.Principal{}, refused()
	}
	return i.Managed(ctx, scope.PoolID(), object, got.Audience[0])
}

// Tenant is the one tenant that there is.
const Tenant = sandpool.DefaultSubscription

// subjectPrefix begins the subjects of the server's own tokens.
const subjectPrefix = "token:"

// Recognizes implements auth.Verifier: a JSON Web Token that names one of the issuer's keys.
func (i *Issuer) Recognizes(c auth.Credential) bool {
	if c.Kind != auth.Bearer || strings.Count(c.Text, ".") != 2 {
		return false
	}
	t, err := jwt.ParseSigned(c.Text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || len(t.Headers) != 1 {
		return false
	}
	_, ok := i.keys.verifying(t.Headers[0].KeyID)
	return ok
}

// Verify implements auth.Verifier.
func (i *Issuer) Verify(ctx context.Context, c auth.Credential) (auth.Principal, error) {
	t, err := jwt.ParseSigned(c.Text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || len(t.Headers) != 1 {
		return auth.Principal{}, refused()
	}
	var got claims
	key, ok := i.keys.verifying(t.Headers[0].KeyID)
	if !ok || t.Claims(&key.private.PublicKey, &got) != nil {
		return auth.Principal{}, refused()
	}
	if got.Expiry == nil || got.NotBefore == nil || got.Tenant != Tenant ||
		got.ValidateWithLeeway(jwt.Expected{Time: i.now()}, skew) != nil {
		return auth.Principal{}, refused()
	}
	if len(got.Audience) != 1 || !slices.Contains(Audiences(), got.Audience[0]) {
		return auth.Principal{}, refused()
	}
	if object, ok := strings.CutPrefix(got.Subject, managedPrefix); ok {
		p, err := i.managed(ctx, object, got)
		p.Ends = got.Expiry.Time()
		return p, err
	}
	p, err := i.holder(ctx, got.Subject, got.Via)
	p.Ends = got.Expiry.Time()
	return p, err
}

// holder returns who has a subject now: by a token of the server, or by one of a foreign issuer,
// which via holds and which is looked at as if it had been shown itself.
func (i *Issuer) holder(ctx context.Context, subject, via string) (auth.Principal, error) {
	if id, ok := strings.CutPrefix(subject, subjectPrefix); ok && via == "" {
		return i.tokens.Holder(ctx, id)
	}
	text, ok := i.keys.unsealed(via, aboutVia())
	if !ok || i.Foreign == nil {
		return auth.Principal{}, refused()
	}
	c := auth.Credential{Kind: auth.Bearer, Text: string(text)}
	if !i.Foreign.Recognizes(c) {
		return auth.Principal{}, refused()
	}
	p, err := i.Foreign.Verify(ctx, c)
	if err == nil && p.Subject != subject {
		return auth.Principal{}, refused()
	}
	return p, err
}

// aboutVia is authenticated with a token that another one stands for.
func aboutVia() []byte { return []byte("token of a foreign issuer") }

func refused() error {
	return sandpool.Errorf(sandpool.Unauthenticated, "InvalidAuthenticationToken", "Authorization",
		"The bearer token is not valid: it is wrong, expired, for something else, or its client "+
			"was revoked.")
}
