package client

import (
	"net"
	"net/http"
	"net/url"
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
	c := &Client{endpoint: u, token: cfg.Token, sub: cfg.Subscription, rg: cfg.ResourceGroup}
	if c.sub == "" {
		c.sub = sandpool.DefaultSubscription
	}
	if c.rg == "" {
		c.rg = sandpool.DefaultResourceGroup
	}
	h := http.Client{Transport: newTransport()}
	if cfg.HTTPClient != nil {
		h = *cfg.HTTPClient
	}
	// The API never redirects. Following one would carry a DELETE of "files/.."
	// to another path.
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http = &h
	return c, nil
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
