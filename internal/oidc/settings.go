package oidc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/loopback"
)

// Settings are what an operator says of one issuer.
type Settings struct {
	// Issuer is the claim "iss" of its tokens, to the letter: an https URL. Plain HTTP is for
	// loopback alone.
	Issuer string `yaml:"issuer"`
	// Audiences are what its tokens may be for. Required, unless people only sign in with it.
	Audiences []string `yaml:"audiences"`
	// Discovery is the address of its configuration; empty means where OpenID Connect Discovery has
	// it, Issuer and /.well-known/openid-configuration.
	Discovery string `yaml:"discovery"`
	// CAFile holds certificates in PEM that it is to be trusted by, beside the system's.
	CAFile string `yaml:"ca_file"`
	// Algorithms are the signatures that are accepted; empty means RS256, PS256 and ES256.
	Algorithms []string `yaml:"algorithms"`
	// NameClaim is what people call the holder; empty means the first there is of
	// preferred_username, upn, email and azp.
	NameClaim string `yaml:"name_claim"`
	// RoleAssignments means that role assignments name object ids of this issuer: the claims "oid"
	// and "groups" of its tokens. One issuer at the most has it, since ids do not say whose they
	// are.
	RoleAssignments bool `yaml:"role_assignments"`
	// SignIn lets people sign in to the dashboard with the issuer; nil means that they cannot.
	SignIn *SignInSettings `yaml:"sign_in"`
	// Rules are what tokens give. All that hold count.
	Rules []Rule `yaml:"rules"`
}

// Rule gives a role to those whose tokens have some claims.
type Rule struct {
	// Claims must all hold. A claim that is a list holds if one of its entries does; a dot leads
	// into an object, as in realm_access.roles. A star at the end stands for any ending.
	Claims map[string]string `yaml:"claims"`
	// Role is the role that is given.
	Role string `yaml:"role"`
	// Scope is where it holds, as sandpool.ParseScope reads it. Its identifier may contain claims
	// in braces.
	Scope string `yaml:"scope"`
	// Expires is when the rule ends, such as 2030-01-31T00:00:00Z; empty means never.
	Expires string `yaml:"expires"`
}

// expiry is when the rule ends; zero means never.
func (r Rule) expiry() (time.Time, error) {
	if r.Expires == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, r.Expires)
	return t.UTC(), err
}

// algorithms are the signatures that can be accepted: those with a public key.
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384,
		jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA}
}

// accepted are the signatures that tokens of the issuer may have.
func (s Settings) accepted() []jose.SignatureAlgorithm {
	if len(s.Algorithms) == 0 {
		return []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256}
	}
	out := make([]jose.SignatureAlgorithm, 0, len(s.Algorithms))
	for _, a := range s.Algorithms {
		out = append(out, jose.SignatureAlgorithm(a))
	}
	return out
}

// discovery is where the issuer's configuration is.
func (s Settings) discovery() string {
	if s.Discovery != "" {
		return s.Discovery
	}
	return strings.TrimSuffix(s.Issuer, "/") + "/.well-known/openid-configuration"
}

// maxIssuers and maxRules bound what every token is held against.
const (
	maxIssuers = 20
	maxRules   = 100
)

// Assigns reports whether one of the issuers' principals are given roles by role assignments.
func Assigns(all []Settings) bool {
	return slices.ContainsFunc(all, func(s Settings) bool { return s.RoleAssignments })
}

// Validate reports every setting that is out of range.
func Validate(all []Settings) []error {
	var problems []error
	if len(all) > maxIssuers {
		problems = append(problems, fmt.Errorf("configuration: issuers has %d entries; use at "+
			"most %d", len(all), maxIssuers))
	}
	seen, names, assigns := map[string]bool{}, map[string]bool{}, ""
	for i, s := range all {
		bad := func(field, format string, args ...any) {
			problems = append(problems, fmt.Errorf("configuration: issuers[%d].%s %s", i, field,
				fmt.Sprintf(format, args...)))
		}
		if err := checkURL(s.Issuer); err != nil {
			bad("issuer", "%v", err)
		}
		if seen[s.Issuer] {
			bad("issuer", "is %q as another one's; give each issuer one entry", s.Issuer)
		}
		seen[s.Issuer] = true
		if s.Discovery != "" {
			if err := checkURL(s.Discovery); err != nil {
				bad("discovery", "%v", err)
			}
		}
		if len(s.Audiences) == 0 && !s.byIDToken() || slices.Contains(s.Audiences, "") {
			bad("audiences", "is empty or has an empty entry; name what tokens are for, such as "+
				"https://dynamicsessions.io")
		}
		if s.SignIn != nil {
			for _, e := range s.SignIn.check(names) {
				bad("sign_in."+e.field, "%s", e.fix)
			}
		}
		for _, a := range s.Algorithms {
			if !slices.Contains(algorithms(), jose.SignatureAlgorithm(a)) {
				bad("algorithms", "has %q; use of %v", a, algorithms())
			}
		}
		if len(s.Rules) == 0 && !s.RoleAssignments || len(s.Rules) > maxRules {
			bad("rules", "has %d entries; use 1 to %d, since a token gives nothing by itself",
				len(s.Rules), maxRules)
		}
		if s.RoleAssignments && assigns != "" {
			bad("role_assignments", "is true as that of %q; ids do not say whose they are, so one "+
				"issuer may have it", assigns)
		}
		if s.RoleAssignments {
			assigns = s.Issuer
		}
		for j, r := range s.Rules {
			for _, e := range r.check() {
				bad(fmt.Sprintf("rules[%d].%s", j, e.field), "%s", e.fix)
			}
		}
	}
	return problems
}

// ruleError says what is wrong with a rule.
type ruleError struct{ field, fix string }

func (r Rule) check() []ruleError {
	var problems []ruleError
	if len(r.Claims) == 0 {
		problems = append(problems, ruleError{"claims",
			`is empty; name one that must hold, such as sub: "*" for everybody`})
	}
	for name, value := range r.Claims {
		if name == "" || value == "" {
			problems = append(problems, ruleError{"claims", "has an empty name or value"})
		}
	}
	if _, err := auth.ParseRole(r.Role); err != nil {
		problems = append(problems, ruleError{"role", "is not a role: " + err.Error()})
	}
	if _, err := parseScope(r.Scope); err != nil {
		problems = append(problems, ruleError{"scope", "is not allowed: " + err.Error()})
	}
	if _, err := r.expiry(); err != nil {
		problems = append(problems, ruleError{"expires",
			fmt.Sprintf("is %.40q; write it as 2030-01-31T00:00:00Z", r.Expires)})
	}
	return problems
}

// checkURL accepts addresses that nobody on the way can change.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("is %q; use a URL such as https://login.example.com/realms/main", s)
	}
	if u.Scheme == "https" || u.Scheme == "http" && loopback.Is(u.Host) {
		return nil
	}
	return fmt.Errorf("is %q; use https, since others on the way could change what is read", s)
}

// httpClient asks an issuer. Redirects are not followed: they could lead where the operator's
// settings do not.
func (s Settings) httpClient() (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, fmt.Errorf("the issuer %s: ca_file: %w", s.Issuer, err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the issuer %s: ca_file: %q holds no certificate in PEM",
				s.Issuer, s.CAFile)
		}
		config.RootCAs = pool
	}
	return &http.Client{
		Timeout: fetchTimeout,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config,
			MaxResponseHeaderBytes: 64 << 10, IdleConnTimeout: time.Minute, MaxIdleConns: 2},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the issuer redirects, which is not followed; name the address " +
				"itself")
		},
	}, nil
}
