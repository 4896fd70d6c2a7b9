package auth

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
)

// maxHeader bounds an Authorization header. A token of this server has 72 bytes, the JSON Web
// Tokens of others have 1 to 4 KB.
const maxHeader = 16 << 10

// Credential is what a request shows of who it comes from.
type Credential struct {
	// Kind is where it was found.
	Kind Kind
	// Text is the secret itself.
	Text string
	// Pool is the pool whose own keys the request may show; zero means none.
	Pool sandpool.PoolID
}

// Kind is a way to show a credential.
type Kind int

// The kinds of credential.
const (
	// Bearer is a token in the Authorization header (RFC 6750).
	Bearer Kind = iota
	// APIKey is a key in the header x-ms-apikey, of a request that may show one.
	APIKey
)

// keyHeader carries a pool's own key.
const keyHeader = "X-Ms-Apikey"

// Verifier finds out who a credential belongs to.
type Verifier interface {
	// Recognizes reports whether c has the form of the credentials that this verifier knows.
	// At most one verifier of a server recognizes a credential.
	Recognizes(c Credential) bool
	// Verify returns the principal of a credential that is recognized. One that is not valid
	// is an error of class Unauthenticated, which does not say why; class Unavailable means
	// that it cannot be checked at the moment.
	Verify(ctx context.Context, c Credential) (Principal, error)
}

// Options are the parts of an Authenticator that the server chooses.
type Options struct {
	// Fail writes an error as the answer. Required.
	Fail func(w http.ResponseWriter, r *http.Request, err error)
	// Keys returns the pool whose own keys a request may show, and false if it may show none;
	// nil means that none may.
	Keys func(r *http.Request) (sandpool.PoolID, bool)
	// Now is the clock by which grants end; nil means time.Now.
	Now func() time.Time
}

// Authenticator finds the principals of requests.
type Authenticator struct {
	verifiers []Verifier
	o         Options
}

// NewAuthenticator returns an Authenticator that asks the verifiers given, in this order.
func NewAuthenticator(o Options, verifiers ...Verifier) (*Authenticator, error) {
	if o.Fail == nil || len(verifiers) == 0 || slices.Contains(verifiers, nil) {
		return nil, errors.New("authenticator: Options.Fail and a verifier are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Authenticator{verifiers: verifiers, o: o}, nil
}

// Middleware refuses requests without a valid credential, and gives the others'
// principal to the context, where FromContext and Require find it.
func (a *Authenticator) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := a.Authenticate(r)
		if err != nil {
			if sandpool.ClassOf(err) == sandpool.Unauthenticated {
				w.Header().Set("Www-Authenticate", `Bearer realm="sandpool"`)
			}
			a.o.Fail(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(WithPrincipal(r.Context(), p)))
	})
}

// Authenticate returns the principal of r, with the grants that it has now.
func (a *Authenticator) Authenticate(r *http.Request) (Principal, error) {
	c, err := a.credential(r)
	if err != nil {
		return Principal{}, err
	}
	for _, v := range a.verifiers {
		if v.Recognizes(c) {
			p, err := v.Verify(r.Context(), c)
			if err != nil {
				return Principal{}, err
			}
			return p.At(a.o.Now()), nil
		}
	}
	if strings.HasPrefix(c.Text, "eyJ") && strings.Count(c.Text, ".") == 2 { // a JSON Web Token
		return Principal{}, foreign()
	}
	return Principal{}, refused()
}

// credential returns what r shows. Where a pool's own keys count, one may stand in place of a
// token; two credentials would leave open whose the request is.
func (a *Authenticator) credential(r *http.Request) (Credential, error) {
	var pool sandpool.PoolID
	if a.o.Keys != nil {
		if id, ok := a.o.Keys(r); ok {
			pool = id
		}
	}
	if keys := r.Header.Values(keyHeader); pool != (sandpool.PoolID{}) && len(keys) > 0 {
		switch {
		case len(keys) > 1 || r.Header.Get("Authorization") != "":
			return Credential{}, missing("The request has more than one key or token. Send one: " +
				"x-ms-apikey, or Authorization.")
		case len(keys[0]) > maxHeader:
			return Credential{}, missing("The header x-ms-apikey has %d bytes, which no key has.",
				len(keys[0]))
		}
		return Credential{Kind: APIKey, Text: strings.TrimSpace(keys[0]), Pool: pool}, nil
	}
	text, err := bearer(r)
	return Credential{Kind: Bearer, Text: text, Pool: pool}, err
}

// bearer returns the token's text that r carries, in its one Authorization header.
func bearer(r *http.Request) (string, error) {
	headers := r.Header.Values("Authorization")
	inQuery := strings.Contains(r.URL.RawQuery, "access_token=")
	switch {
	case inQuery:
		return "", missing("A token in the query is refused, because addresses end up in logs. " +
			"Send it in the header Authorization.")
	case len(headers) == 0:
		return "", missing("The request has no token. Send the header Authorization: Bearer " +
			"TOKEN; 'sandpool token create' makes a token.")
	case len(headers) > 1:
		return "", missing("The request has %d Authorization headers. Send one.", len(headers))
	case len(headers[0]) > maxHeader:
		return "", missing("The Authorization header has %d bytes. A token of this server has %d.",
			len(headers[0]), tokenLen)
	}
	scheme, text, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", missing("The Authorization header's scheme is not Bearer.")
	}
	return strings.TrimSpace(text), nil
}

func missing(format string, args ...any) error {
	return sandpool.Errorf(sandpool.Unauthenticated, "AuthenticationFailed", "Authorization",
		format, args...)
}

// foreign is the error of a JSON Web Token that nobody here has made or trusts.
func foreign() error {
	return sandpool.Errorf(sandpool.Unauthenticated, "InvalidAuthenticationToken", "Authorization",
		"The token's issuer is not one that this server accepts. Use a token of this server, as "+
			"'sandpool token create' makes them, or have its operator name the issuer in the "+
			"setting issuers.")
}

func refused() error {
	return sandpool.Errorf(sandpool.Unauthenticated, "InvalidAuthenticationToken", "Authorization",
		"The bearer token is not valid: it is unknown, wrong, revoked or expired.")
}
