package client

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
)

// Versions of the wire API that the client speaks; see docs/compatibility.md.
const (
	controlVersion = "2025-07-01"
	dataVersion    = "2025-10-02-preview"
)

// Limits of time for calls whose context has no deadline of its own.
const (
	callTimeout     = time.Minute      // anything that neither runs code nor moves a file
	transferTimeout = 15 * time.Minute // one file, in either direction
	// executionGrace is added to an execution's own timeout: claiming, restarting
	// a kernel that does not yield, and the way there and back.
	executionGrace = 45 * time.Second
)

// Config says which server to talk to and as whom.
type Config struct {
	// Endpoint is the server's URL, such as http://127.0.0.1:8720. Required.
	Endpoint string
	// Token is the bearer token. Required.
	Token string
	// CA is a file of certificates, in PEM, to trust beside those that the system trusts.
	CA string
	// Subscription and ResourceGroup are the place of pools in the resource tree; empty
	// means sandpool.DefaultSubscription and sandpool.DefaultResourceGroup.
	Subscription  string
	ResourceGroup string
	// HTTPClient makes the requests; nil means one that keeps enough connections
	// alive for hundreds of concurrent calls.
	HTTPClient *http.Client
}

// Client is a connection to one server. Use New.
type Client struct {
	endpoint *url.URL
	token    string
	sub, rg  string
	ca       string
	http     *http.Client
}

// New checks cfg and returns a Client. It makes no request.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(strings.TrimRight(cfg.Endpoint, "/"))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil ||
		u.RawQuery != "" {
		return nil, sandpool.Errorf(sandpool.Invalid, "", "endpoint",
			"The endpoint %q is not a server's URL; use one like http://127.0.0.1:8720.",
			cfg.Endpoint)
	}
	if strings.ContainsAny(cfg.Token, "\r\n\t ") {
		return nil, sandpool.Errorf(sandpool.Invalid, "", "token",
			"The token contains white space; give it without.")
	}
	c := &Client{endpoint: u, ca: cfg.CA, token: cfg.Token, sub: cfg.Subscription,
		rg: cfg.ResourceGroup}
	if c.sub == "" {
		c.sub = sandpool.DefaultSubscription
	}
	if c.rg == "" {
		c.rg = sandpool.DefaultResourceGroup
	}
	transport := newTransport()
	if cfg.CA != "" {
		if transport.TLSClientConfig, err = trusting(cfg.CA); err != nil {
			return nil, err
		}
	}
	h := http.Client{Transport: transport}
	if cfg.HTTPClient != nil {
		h = *cfg.HTTPClient
	}
	// The API never redirects. Following one would carry a DELETE of "files/.."
	// to another path.
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http = &h
	return c, nil
}

// trusting returns a configuration that also trusts the certificates in the file at path.
func trusting(path string) (*tls.Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the certificates to trust: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, sandpool.Errorf(sandpool.Invalid, "", "ca",
			"The file %q holds no certificate in PEM.", path)
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

// newTransport returns a transport that keeps as many idle connections to its one
// server as a burst of sessions needs: the default of two per host makes every
// further concurrent call pay for a new connection.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: (&net.Dialer{Timeout: 5 * time.Second,
			KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		MaxIdleConns:          512,
		MaxIdleConnsPerHost:   512,
		IdleConnTimeout:       90 * time.Second,
	}
}

// CA is the file of certificates that the client trusts beside those of the system; empty means
// none.
func (c *Client) CA() string { return c.ca }

// Endpoint returns the server's URL without a trailing slash.
func (c *Client) Endpoint() string { return c.endpoint.String() }

// PoolEndpoint returns the URL under which the data plane of the named pool
// is served: what other clients call its pool management endpoint.
func (c *Client) PoolEndpoint(pool string) string {
	return c.endpoint.String() + c.data(pool)
}

// CloseIdle closes connections that no call uses at the moment.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

// control is a path of the control plane beneath the resource group's pools.
func (c *Client) control(elem ...string) string {
	parts := append([]string{"subscriptions", c.sub, "resourceGroups", c.rg, "providers",
		"Microsoft.App", "sessionPools"}, elem...)
	return joinPath(parts...)
}

// data is a path of a pool's data plane.
func (c *Client) data(pool string, elem ...string) string {
	parts := append([]string{"subscriptions", c.sub, "resourceGroups", c.rg, "sessionPools", pool},
		elem...)
	return joinPath(parts...)
}

// joinPath escapes each element, so that a file called "a/b" or "a?b" stays one element.
func joinPath(elem ...string) string {
	var b strings.Builder
	for _, e := range elem {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(e))
	}
	return b.String()
}
