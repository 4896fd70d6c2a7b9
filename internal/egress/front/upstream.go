package front

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/sandpool/sandpool/internal/egress"
)

// Upstream is a proxy of HTTP through which the Front's own proxy reaches hosts, on machines whose
// network allows nothing else. It is told names, and resolves them itself.
type Upstream struct{ url *url.URL }

// ParseUpstream reads "http://[USER:PASSWORD@]HOST:PORT", or the same with "https://". Its errors
// do not repeat the password.
func ParseUpstream(s string) (*Upstream, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" ||
		u.Port() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("is no proxy; use http://HOST:PORT or https://HOST:PORT, with " +
			"USER:PASSWORD@ before HOST if it asks for them")
	}
	u.Path = ""
	return &Upstream{u}, nil
}

// open connects to the proxy, from the server's own network.
func (u *Upstream) open(roots *x509.CertPool) (net.Conn, error) {
	d := &net.Dialer{Timeout: dialTimeout}
	if u.url.Scheme == "https" {
		return tls.DialWithDialer(d, "tcp", u.url.Host, &tls.Config{MinVersion: tls.VersionTLS12,
			RootCAs: roots})
	}
	return d.Dial("tcp", u.url.Host)
}

// connect returns a tunnel through the proxy to a port of a host. The certificate of a proxy with
// TLS is verified by roots; nil means the system's.
func (u *Upstream) connect(roots *x509.CertPool, name string, port uint16) (_ net.Conn, err error) {
	conn, err := u.open(roots)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	_ = conn.SetDeadline(time.Now().Add(dialTimeout))
	to := net.JoinHostPort(name, strconv.Itoa(int(port)))
	ask := "CONNECT " + to + " HTTP/1.1\r\nHost: " + to + "\r\n"
	if user := u.url.User; user != nil {
		password, _ := user.Password()
		ask += "Proxy-Authorization: Basic " +
			base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)) + "\r\n"
	}
	if _, err := io.WriteString(conn, ask+"\r\n"); err != nil {
		return nil, err
	}
	in := bufio.NewReader(io.LimitReader(conn, maxHeader))
	resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return nil, fmt.Errorf("the proxy's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the proxy says %d to %s", resp.StatusCode, to)
	}
	_ = conn.SetDeadline(time.Time{})
	early, err := in.Peek(in.Buffered())
	return &replayed{conn, io.MultiReader(bytes.NewReader(early), conn)}, err
}

// verdict says whether a connection may be used for a name, which the sandbox asks for over it.
func (f *Front) verdict(k *link, policy egress.Policy, name string) egress.Verdict {
	if k.beyond {
		return policy.Beyond(name, k.to.Port())
	}
	return policy.Inspected(f.ground, name, k.to)
}

// connectBeyond is connect for a link that the proxy above leads on.
func (f *Front) connectBeyond(k *link, policy egress.Policy, name string) (net.Conn, error) {
	if v := f.verdict(k, policy, name); !v.Allowed {
		f.refuse(k, name, v.Reason)
		return nil, errors.New(v.Reason)
	}
	plain, err := egress.ParseName(name) // in the form that was judged
	if err != nil {
		return nil, err
	}
	server, err := f.options.Upstream.connect(f.options.Roots, plain, k.to.Port())
	if err != nil {
		return nil, err
	}
	return f.recheck(k, server)
}

// recheck closes a connection that the policy has forbidden while it was made, before Recheck could
// see it.
func (f *Front) recheck(k *link, server net.Conn) (net.Conn, error) {
	if now, ok := f.host.Policy(k.sandbox); !ok || !k.allowed(now, f.ground) {
		_ = server.Close()
		return nil, errors.New("the policy has changed")
	}
	return server, nil
}

// throughUpstream makes the requests of a link go by the proxy above, as it is asked for URLs.
func (f *Front) throughUpstream(t *http.Transport) {
	t.Proxy = http.ProxyURL(f.options.Upstream.url)
	t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: dialTimeout}
		return d.DialContext(ctx, network, f.options.Upstream.url.Host)
	}
}

// newLegBeyond is newLeg for a host that the proxy above reaches.
func (f *Front) newLegBeyond(k *link, policy egress.Policy, name string,
	port uint16) (*link, error) {
	leg := &link{Conn: k.Conn, in: k.in, sandbox: k.sandbox, proxied: true, name: name,
		beyond: true, to: netip.AddrPortFrom(netip.Addr{}, port)}
	if v := f.verdict(leg, policy, name); !v.Allowed {
		f.refuse(leg, name, v.Reason)
		return nil, errors.New(v.Reason)
	}
	return leg, nil
}
