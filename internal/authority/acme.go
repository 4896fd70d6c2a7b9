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
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
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
			net.ParseIP(h) != nil {
			found = append(found, [2]string{"hosts",
				"host names in lower case with a dot, without port and star"})
		}
	}
	return found
}

// Issued is certificates that an authority elsewhere gives by ACME. They are got when the server
// starts, kept in files, and renewed by themselves when a third of their life is left. A nil Issued
// is none.
type Issued struct {
	log     *slog.Logger
	a       ACME
	manager *autocert.Manager
	plain   net.Listener // for challenges of HTTP; nil without them
	answers http.Handler // there
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
	i := &Issued{log: log, a: a, manager: &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(dir), Email: a.Email,
		HostPolicy: autocert.HostWhitelist(a.Hosts...),
		Client: &acme.Client{DirectoryURL: a.Directory, UserAgent: "sandpool",
			HTTPClient: &http.Client{Transport: transport, Timeout: 30 * time.Second}}}}
	if a.HTTPListen == "" {
		return i, nil
	}
	i.answers = withoutPort(i.manager.HTTPHandler(nil)) // which leads all other requests to HTTPS
	var lc net.ListenConfig
	if i.plain, err = lc.Listen(ctx, "tcp", a.HTTPListen); err != nil {
		return nil, fmt.Errorf("tls.acme.http_listen: %w", err)
	}
	return i, nil
}

// withoutPort hands requests to next as if they had come to the standard port: hosts are compared
// as they are configured.
func withoutPort(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host, _, err := net.SplitHostPort(r.Host); err == nil {
			named := *r
			named.Host, r = host, &named
		}
		next.ServeHTTP(w, r)
	})
}

// TLS is the configuration of a server with these certificates. A caller that names no host gets
// that of the first one.
func (i *Issued) TLS() *tls.Config {
	conf := config()
	conf.NextProtos = append(conf.NextProtos, acme.ALPNProto)
	conf.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if h.ServerName == "" {
			named := *h
			named.ServerName = i.a.Hosts[0]
			h = &named
		}
		return i.manager.GetCertificate(h)
	}
	return conf
}

// retry is how long Run waits before it asks again for what it did not get. Authorities count
// failures: Let's Encrypt takes five an hour.
const retry = 15 * time.Minute

// Run serves challenges and gets the certificates, until ctx ends.
func (i *Issued) Run(ctx context.Context) error {
	if i == nil {
		return nil
	}
	if i.plain != nil {
		srv := &http.Server{Handler: i.answers, ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
			IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
		stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
		defer stop()
		go i.obtain(ctx)
		if err := srv.Serve(i.plain); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
	i.obtain(ctx)
	return nil
}

// obtain gets what is missing, before a caller waits for it.
func (i *Issued) obtain(ctx context.Context) {
	missing := slices.Clone(i.a.Hosts)
	again := time.NewTicker(retry)
	defer again.Stop()
	for {
		missing = slices.DeleteFunc(missing, func(host string) bool {
			// Without a cipher for ECDSA, autocert would get a certificate with an RSA key.
			_, err := i.manager.GetCertificate(&tls.ClientHelloInfo{ServerName: host,
				CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}})
			if err != nil && ctx.Err() == nil {
				i.log.Error("there is no certificate for a host", "host", host, "directory",
					i.a.Directory, "again", retry, "error", err)
			} else if err == nil {
				i.log.Info("there is a certificate", "host", host)
			}
			return err == nil
		})
		if len(missing) == 0 {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// Close ends listening; Run must have ended, or never have begun.
func (i *Issued) Close() error {
	if i == nil || i.plain == nil {
		return nil
	}
	if err := i.plain.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
