package egress

import (
	"fmt"
	"net/textproto"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/sandpool/sandpool"
)

// Scheme is how requests go that get a credential, and so at which port.
type Scheme string

// The schemes, with ports of their own: 80 and 443. Others are not looked into.
const (
	HTTP  Scheme = "http"
	HTTPS Scheme = "https"
)

// Port is the port of a scheme.
func (s Scheme) Port() uint16 {
	if s == HTTPS {
		return 443
	}
	return 80
}

// Credential is a header for requests to a host.
type Credential struct {
	Scheme Scheme
	Host   string // as ParseName returns it
	Header string // in its canonical form
	Ref    string // of the secret
	prefix string
	value  sandpool.Secret
}

// Value is the header's value; false if the secret is not there, which is so until the server's
// pools are read after a restart, or cannot be a header's value.
func (c Credential) Value() (string, bool) {
	value := c.prefix + c.value.Reveal()
	return value, !c.value.IsZero() && httpguts.ValidHeaderFieldValue(value)
}

// Same reports whether c and d put the same into a request.
func (c Credential) Same(d Credential) bool {
	return c.Scheme == d.Scheme && c.Host == d.Host && c.Header == d.Header &&
		c.prefix == d.prefix && c.value.Equal(d.value)
}

// The bounds of credentials.
const (
	maxCredentials = 64
	maxHeaderName  = 128
	maxPrefix      = 256
)

// reserved are the headers that say how a message is to be read or where it goes, rather than
// what it asks for.
func reserved() []string {
	return []string{"Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect",
		"Host", "Http2-Settings", "Keep-Alive", "Max-Forwards", "Proxy-Authenticate",
		"Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Via"}
}

// parseCredentials reads those of n, for a policy that is complete but for them. A host that the
// policy does not allow would never get one.
func (p *Policy) parseCredentials(list []sandpool.Credential, target string) error {
	if len(list) > maxCredentials {
		return sandpool.Errorf(sandpool.Invalid, "InvalidEgressCredential", target,
			"%s has %d entries; use at most %d.", target, len(list), maxCredentials)
	}
	for i, in := range list {
		at := fmt.Sprintf("%s[%d]", target, i)
		wrong := func(field, format string, args ...any) error {
			return sandpool.Errorf(sandpool.Invalid, "InvalidEgressCredential", at+field,
				"%s%s %s", at, field, fmt.Sprintf(format, args...))
		}
		c := Credential{Header: textproto.CanonicalMIMEHeaderKey(in.Header), Ref: in.SecretRef,
			prefix: in.Prefix, value: in.Value}
		var err error
		if c.Scheme, c.Host, err = parseURL(in.URL); err != nil {
			return wrong(".url", "is %.120q: %v.", in.URL, err)
		}
		switch {
		case len(in.Header) > maxHeaderName || !httpguts.ValidHeaderFieldName(in.Header):
			return wrong(".header", "is %.80q; use the name of a header, such as Authorization.",
				in.Header)
		case slices.Contains(reserved(), c.Header):
			return wrong(".header", "is %s, which is about the connection and is not for code "+
				"or credentials to say.", c.Header)
		case len(in.Prefix) > maxPrefix || !httpguts.ValidHeaderFieldValue(in.Prefix):
			return wrong(".prefix", "has control characters or more than %d bytes.", maxPrefix)
		case in.SecretRef == "":
			return wrong(".secretRef", "is missing; name one of the pool's secrets.")
		case slices.ContainsFunc(p.credentials, func(o Credential) bool {
			return o.Scheme == c.Scheme && o.Host == c.Host && o.Header == c.Header
		}):
			return wrong("", "is a second %s for %s; give each once.", c.Header, in.URL)
		}
		on := *p
		on.enabled = true // what is wrong while the network is off is wrong when it is on
		if v := on.Named(c.Host, c.Scheme.Port()); !v.Allowed {
			return wrong(".url", "is %.120q, which the policy does not allow at port %d. %s",
				in.URL, c.Scheme.Port(), v.Reason)
		}
		p.credentials = append(p.credentials, c)
	}
	return nil
}

// parseURL reads a scheme and a host name, with nothing behind them but the scheme's own port.
func parseURL(s string) (scheme Scheme, host string, err error) {
	const form = "use https:// or http:// and a host name, such as https://api.example.com"
	before, rest, ok := strings.Cut(s, "://")
	scheme = Scheme(strings.ToLower(before))
	if !ok || scheme != HTTP && scheme != HTTPS {
		return "", "", fmt.Errorf("%s", form)
	}
	rest = strings.TrimSuffix(rest, "/")
	rest = strings.TrimSuffix(rest, fmt.Sprintf(":%d", scheme.Port()))
	switch {
	case strings.HasPrefix(rest, "*"):
		return "", "", fmt.Errorf("a credential is for one host; leave out the %q", "*.")
	case strings.ContainsAny(rest, "/?#@"):
		return "", "", fmt.Errorf("%s, and nothing behind it", form)
	case strings.Contains(rest, ":"):
		return "", "", fmt.Errorf("credentials are added at port 80 of http and 443 of https alone")
	}
	host, err = ParseName(rest)
	return scheme, host, err
}

// Credentials returns those for requests to a host, whose name ParseName has returned.
func (p Policy) Credentials(s Scheme, host string) (list []Credential) {
	if !p.enabled {
		return nil
	}
	for _, c := range p.credentials {
		if c.Scheme == s && c.Host == host {
			list = append(list, c)
		}
	}
	return list
}

// EndsTLS reports whether the TLS of a host is ended outside the sandbox.
func (p Policy) EndsTLS(host string) bool { return len(p.Credentials(HTTPS, host)) > 0 }
