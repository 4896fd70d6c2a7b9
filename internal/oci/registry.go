package oci

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sandpool/sandpool"
)

// source is where an image comes from.
type source interface {
	// manifest returns a manifest or an index, by tag or digest, and the media type that it was
	// said to be. One that was asked for by digest has that digest.
	manifest(ctx context.Context, which string) (body []byte, mediaType string, err error)
	// blob opens a blob at an offset. A source that cannot do that begins at 0, as start says.
	blob(ctx context.Context, d descriptor, offset int64) (r io.ReadCloser, start int64, err error)
}

// registry is a source: one repository in a registry or a mirror of it.
type registry struct {
	ref     Reference // what was asked for; its repository may have another path here
	host    string
	path    string // of the repository
	shown   Credentials
	guard   *guard
	patient patient
	client  *http.Client
	baseURL url.URL
	scope   string // what is done there, of package transport; empty means pull
	as      name.Registry
}

// maxManifest is what registries accept: 4 MiB.
//
// https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests
const maxManifest = 4 << 20

// sources returns the places that may have r: mirrors first, each with the credentials that
// docker's configuration has for it, then the registry with those of the caller.
func (c *Client) sources(ctx context.Context, r Reference, given Credentials) ([]*registry, error) {
	var out []*registry
	for _, mirror := range c.cfg.Mirrors[r.Host] {
		host, prefix, _ := strings.Cut(mirror, "/")
		path := strings.Trim(prefix+"/"+r.Repository, "/")
		shown, err := c.credentialsFor(ctx, host, path)
		if err != nil {
			return nil, err
		}
		out = append(out, c.registry(r, host, path, shown))
	}
	if given.IsZero() {
		found, err := c.credentialsFor(ctx, r.Host, r.Repository)
		if err != nil {
			return nil, err
		}
		given = found
	}
	return append(out, c.registry(r, r.Host, r.Repository, given)), nil
}

func (c *Client) registry(r Reference, host, path string, shown Credentials) *registry {
	g := newGuard(apiHost(host), c.cfg.PlainHTTP, c.roots)
	return &registry{ref: r, host: host, path: path, shown: shown, guard: g,
		patient: patient{next: g}}
}

// apiHost is where the API of a registry is.
func apiHost(host string) string {
	if host == hub {
		return name.DefaultRegistry
	}
	return host
}

// connect finds out how the registry wants to be asked. It is called before all else. TLS is
// left out only where the guard lets that be, and only if the registry does not speak it.
func (r *registry) connect(ctx context.Context) error {
	err := r.try(ctx, "https")
	if err == nil || !r.guard.mayBePlain(apiHost(r.host)) || speaksTLS(err) {
		return err
	}
	return r.try(ctx, "http")
}

// speaksTLS says whether err came from somebody who speaks TLS: an answer, or a certificate.
func speaksTLS(err error) bool {
	var (
		answer      *transport.Error
		certificate *tls.CertificateVerificationError
		alert       tls.AlertError
	)
	return errors.As(err, &answer) || errors.As(err, &certificate) || errors.As(err, &alert)
}

// try connects by one scheme. The registry library would try both at once where it thinks that
// fit, and then blame either.
func (r *registry) try(ctx context.Context, scheme string) error {
	var options []name.Option
	if scheme == "http" {
		options = append(options, name.Insecure)
	}
	reg, err := name.NewRegistry(apiHost(r.host), options...)
	if err != nil {
		return err
	}
	first := &firstTry{scheme: scheme, next: limited{&r.patient}}
	scope := reg.Repo(r.path).Scope(cmp.Or(r.scope, transport.PullScope))
	authenticated, err := transport.NewWithContext(ctx, reg, r.shown.authenticator(), first,
		[]string{scope})
	if err != nil {
		return first.explain(err)
	}
	first.done.Store(true)
	r.as = reg
	r.client = &http.Client{Transport: authenticated, CheckRedirect: checkRedirect}
	r.baseURL = url.URL{Scheme: scheme, Host: apiHost(r.host)}
	return nil
}

// firstTry lets the first request go by one scheme only. The others can go by both: a token
// service has TLS where a registry on the loopback interface has none.
type firstTry struct {
	scheme string
	next   http.RoundTripper
	done   atomic.Bool

	mu     sync.Mutex // guards failed
	failed error
}

var errOtherScheme = errors.New("the other scheme is tried")

// RoundTrip implements http.RoundTripper.
func (f *firstTry) RoundTrip(r *http.Request) (*http.Response, error) {
	if !f.done.Load() && r.URL.Scheme != f.scheme {
		return nil, errOtherScheme
	}
	answer, err := f.next.RoundTrip(r)
	if err == nil {
		f.done.Store(true)
		return answer, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = err
	return nil, err
}

// explain is err without the attempt that was not made.
func (f *firstTry) explain(err error) error {
	var answer *transport.Error
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case errors.As(err, &answer):
		return answer
	case errors.Is(err, errOtherScheme) && f.failed != nil:
		return f.failed
	case errors.Is(err, errOtherScheme):
		_, after, _ := strings.Cut(err.Error(), errOtherScheme.Error())
		return errors.New(strings.TrimPrefix(after, "; "))
	}
	return err
}

// checkRedirect bounds redirects. What they lead to is the guard's matter; that credentials are
// not taken along is the transport's, which adds them by host.
func checkRedirect(_ *http.Request, via []*http.Request) error {
	if len(via) >= 5 {
		return errors.New("the registry redirects without end")
	}
	return nil
}

// limited cuts off answers that nobody reads to the end on purpose: pings, tokens, errors.
type limited struct{ next http.RoundTripper }

const (
	// maxAnswer is more than any answer but a blob may have.
	maxAnswer = maxManifest + 1
	// maxError is what the registry library reads of an error.
	maxError = 64 << 10
)

// RoundTrip implements http.RoundTripper.
func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := l.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	most := int64(maxAnswer)
	switch {
	case answer.StatusCode >= http.StatusBadRequest:
		most = maxError
	case r.Context().Value(wantsBlob{}) != nil:
		return answer, nil
	}
	answer.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(answer.Body, most), answer.Body}
	return answer, nil
}

// wantsBlob marks the context of requests whose answer is bounded by the caller.
type wantsBlob struct{}

func (r *registry) get(ctx context.Context, kind, which string, header http.Header,
	want ...int) (*http.Response, error) {
	u := r.baseURL.JoinPath("v2", r.path, kind, which)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header = header
	answer, err := r.client.Do(request)
	if err != nil {
		return nil, err
	}
	if err := transport.CheckError(answer, want...); err != nil {
		answer.Body.Close()
		return nil, err
	}
	return answer, nil
}

// manifest implements source.
func (r *registry) manifest(ctx context.Context, which string) ([]byte, string, error) {
	answer, err := r.get(ctx, "manifests", which, http.Header{"Accept": {strings.Join(acceptable(),
		", ")}}, http.StatusOK)
	if err != nil {
		return nil, "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, "", err
	}
	if len(body) > maxManifest {
		return nil, "", tooLarge("The manifest of %s has more than %d MiB.", r.ref, maxManifest>>20)
	}
	if strings.HasPrefix(which, "sha256:") && digestOf(body) != digest(which) {
		return nil, "", damaged("The registry %s sent something else than the manifest %s.", r.host,
			which)
	}
	return body, answer.Header.Get("Content-Type"), nil
}

// blob implements source.
func (r *registry) blob(ctx context.Context, d descriptor,
	offset int64) (io.ReadCloser, int64, error) {
	header := http.Header{}
	if offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	ctx = context.WithValue(ctx, wantsBlob{}, true)
	answer, err := r.get(ctx, "blobs", string(d.Digest), header, http.StatusOK,
		http.StatusPartialContent)
	if err != nil {
		return nil, 0, err
	}
	if answer.StatusCode == http.StatusOK {
		return answer.Body, 0, nil
	}
	from, ok := rangeStart(answer.Header.Get("Content-Range"))
	if !ok || from != offset {
		answer.Body.Close()
		return nil, 0, fmt.Errorf("the registry answers bytes that were not asked for")
	}
	return answer.Body, offset, nil
}

// rangeStart is where "bytes 5-9/10" begins.
func rangeStart(text string) (int64, bool) {
	text, ok := strings.CutPrefix(text, "bytes ")
	first, _, dash := strings.Cut(text, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	return n, ok && dash && err == nil
}

// describe makes an error of this source one for callers.
func (r *registry) describe(err error) error {
	err = describe(err, r.host, r.ref.String(), r.shown)
	var known *sandpool.Error
	if wait := r.patient.told(); wait > 0 && errors.As(err, &known) && known.Code == CodeBusy {
		known.RetryAfter = wait
	}
	return err
}

func (r *registry) close() { r.guard.close() }

var _ source = (*registry)(nil)
