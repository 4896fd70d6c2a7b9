package authority

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/sandpool/sandpool/internal/descriptor"
)

// ACME says which authority gives the server its certificates, by RFC 8555. To configure it is to
// accept the authority's terms. The authority sees that a host is the server's by a challenge of
// TLS, for which the server must be reached at port 443 (tls-alpn-01, RFC 8737), or by one of HTTP.
type ACME struct {
	// Directory is the URL of the authority's directory; empty means no ACME.
	Directory string `yaml:"directory"`
	// Email is for the authority's messages; empty means none.
	Email string `yaml:"email"`
	// Hosts are the names that the certificates are for, each with one of its own.
	Hosts []string `yaml:"hosts"`
	// HTTPListen is where challenges of HTTP are answered (http-01), which must be reached at port
	// 80; empty means that there are none. What else comes there is led to HTTPS.
	HTTPListen string `yaml:"http_listen"`
	// CAFile holds certificates in PEM by which the directory is known beside the system's.
	CAFile string `yaml:"ca_file"`
}

// Problems returns what is wrong with a, each as the name of a setting and what it must be.
func (a ACME) Problems() (found [][2]string) {
	if a.Directory == "" {
		return nil
	}
	u, err := url.Parse(a.Directory)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		found = append(found, [2]string{"directory", "the https URL of the directory"})
	}
	if len(a.Hosts) == 0 {
		found = append(found, [2]string{"hosts", "the host names that callers use"})
	}
	for _, h := range a.Hosts {
		if h != strings.ToLower(h) || !strings.Contains(h, ".") || strings.ContainsAny(h, "*:/ ") ||
			strings.ContainsFunc(h, func(r rune) bool { return r > unicode.MaxASCII }) ||
			net.ParseIP(h) != nil {
			found = append(found, [2]string{"hosts",
				"host names in lower case with a dot, without port and star, others than of ASCII as " +
					"xn--"})
		}
	}
	return found
}

// Issued is certificates that an authority elsewhere gives by ACME. They are got when the server
// starts, kept in files, and renewed by themselves when a third of their life is left. What is
// there is served until there is a newer one, whatever becomes of the authority: connections never
// ask it, only Run does. A nil Issued is none.
type Issued struct {
	log    *slog.Logger
	a      ACME
	kept   autocert.DirCache // a key and its chain for each host, and the account's key
	client *http.Client
	plain  net.Listener // for challenges of HTTP; nil without them
	now    func() time.Time
	after  func(time.Duration) <-chan time.Time

	mu     sync.RWMutex                // guards what follows
	hosts  map[string]*held            // each of a.Hosts
	proofs map[string]*tls.Certificate // answers to challenges of TLS, by host
	tokens map[string]string           // answers to challenges of HTTP, by path
}

// held is what there is for one host.
type held struct {
	cert     *tls.Certificate // with its Leaf; nil if there is none yet
	next     time.Time        // when it is asked for
	failures int64
	tried    chan struct{} // closed once it was asked for, or there is one
	once     sync.Once     // closes it
}

// Certificate is one that is served, in numbers.
type Certificate struct {
	Host       string
	Start, End time.Time // zero if there is none yet
	Failures   int64     // times that one was asked for and not got, since the server started
}

// OpenACME returns certificates that are kept in dir, and nil if a is none. It listens for
// challenges of HTTP; Run serves them.
func OpenACME(ctx context.Context, log *slog.Logger, dir string, a ACME) (*Issued, error) {
	if a.Directory == "" {
		return nil, nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("acme: %w", err)
	}
	if a.CAFile != "" {
		text, err := os.ReadFile(a.CAFile)
		if err != nil {
			return nil, fmt.Errorf("acme: %w", err)
		}
		if !roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("acme: there is no certificate in %q", a.CAFile)
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	i := &Issued{log: log, a: a, kept: autocert.DirCache(dir), now: time.Now, after: time.After,
		client: &http.Client{Transport: transport, Timeout: 30 * time.Second},
		hosts:  map[string]*held{}, proofs: map[string]*tls.Certificate{},
		tokens: map[string]string{}}
	for _, host := range a.Hosts {
		h := &held{tried: make(chan struct{})}
		if h.cert, err = i.load(ctx, host); err != nil {
			log.Warn("a certificate that was kept cannot be used; a new one is asked for", "host",
				host, "directory", dir, "error", err)
		}
		if h.cert != nil {
			h.next = due(h.cert.Leaf)
			h.once.Do(func() { close(h.tried) })
		}
		i.hosts[host] = h
	}
	if a.HTTPListen == "" {
		return i, nil
	}
	var lc net.ListenConfig
	if i.plain, err = lc.Listen(ctx, "tcp", a.HTTPListen); err != nil {
		return nil, fmt.Errorf("tls.acme.http_listen: %w", err)
	}
	return i, nil
}

// answer serves challenges of HTTP and leads all other requests to HTTPS, at the standard port.
func (i *Issued) answer(w http.ResponseWriter, r *http.Request) {
	i.mu.RLock()
	token, ok := i.tokens[r.URL.Path]
	i.mu.RUnlock()
	switch {
	case ok:
		_, _ = w.Write([]byte(token))
	case strings.HasPrefix(r.URL.Path, "/.well-known/acme-challenge/"):
		http.NotFound(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		http.Error(w, "Use HTTPS", http.StatusBadRequest)
	default:
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		http.Redirect(w, r, "https://"+host+r.URL.RequestURI(), http.StatusFound)
	}
}

// TLS is the configuration of a server with these certificates. A caller that names no host gets
// that of the first one.
func (i *Issued) TLS() *tls.Config {
	conf := config()
	conf.NextProtos = append(conf.NextProtos, acme.ALPNProto)
	conf.GetCertificate = i.certificate
	return conf
}

// certificate is what a connection is served with. The first ones wait until the authority was
// asked; later ones never do.
func (i *Issued) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if name == "" {
		name = i.a.Hosts[0]
	}
	if slices.Equal(hello.SupportedProtos, []string{acme.ALPNProto}) {
		i.mu.RLock()
		defer i.mu.RUnlock()
		if proof := i.proofs[name]; proof != nil {
			return proof, nil
		}
		return nil, fmt.Errorf("acme: no challenge is under way for %q", name)
	}
	h := i.hosts[name] // the map itself does not change
	if h == nil {
		return nil, fmt.Errorf("acme: %q is not among tls.acme.hosts", name)
	}
	select {
	case <-h.tried:
	case <-hello.Context().Done():
		return nil, hello.Context().Err()
	}
	i.mu.RLock()
	defer i.mu.RUnlock()
	if h.cert == nil {
		return nil, fmt.Errorf("acme: there is no certificate for %q yet", name)
	}
	return h.cert, nil
}

// Certificates are those of all hosts, in the order of the configuration.
func (i *Issued) Certificates() (all []Certificate) {
	if i == nil {
		return nil
	}
	i.mu.RLock()
	defer i.mu.RUnlock()
	for _, host := range i.a.Hosts {
		h := i.hosts[host]
		c := Certificate{Host: host, Failures: h.failures}
		if h.cert != nil {
			c.Start, c.End = h.cert.Leaf.NotBefore, h.cert.Leaf.NotAfter
		}
		all = append(all, c)
	}
	return all
}

// Run serves challenges, gets the certificates and renews them, until ctx ends.
func (i *Issued) Run(ctx context.Context) error {
	if i == nil {
		return nil
	}
	if i.plain == nil {
		i.renew(ctx)
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv := &http.Server{Handler: http.HandlerFunc(i.answer), ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ConnState: descriptor.NewConns(descriptor.Beside).Watch}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	renewed := make(chan struct{})
	go func() { defer close(renewed); i.renew(ctx) }()
	err := srv.Serve(i.plain)
	cancel()
	<-renewed
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close ends listening; Run must have ended, or never have begun.
func (i *Issued) Close() error {
	if i == nil {
		return nil
	}
	i.client.CloseIdleConnections()
	if i.plain == nil {
		return nil
	}
	if err := i.plain.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
