package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
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
	client  *http.Client
	baseURL url.URL
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
	return &registry{ref: r, host: host, path: path, shown: shown, guard: newGuard(apiHost(host), c.cfg.PlainHTTP, c.roots)}
}

// apiHost is where the API of a registry is.
func apiHost(host string) string {
	if host == hub {
		return name.DefaultRegistry
	}
	return host
}

// connect finds out how the registry wants to be asked. It is called before all else.
func (r *registry) connect(ctx context.Context) error {
	var options []name.Option
	if r.guard.mayBePlain(apiHost(r.host)) {
		options = append(options, name.Insecure)
	}
	reg, err := name.NewRegistry(apiHost(r.host), options...)
	if err != nil {
		return err
	}
	scope := reg.Repo(r.path).Scope(transport.PullScope)
	authenticated, err := transport.NewWithContext(ctx, reg, r.shown.authenticator(), limited{r.guard}, []string{scope})
	if err != nil {
		return err
	}
	r.client = &http.Client{Transport: authenticated, CheckRedirect: checkRedirect}
	r.baseURL = url.URL{Scheme: "https", Host: apiHost(r.host)} // the transport knows better
	return nil
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

// maxAnswer is more than any answer but a blob may have.
const maxAnswer = maxManifest + 1

// RoundTrip implements http.RoundTripper.
func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := l.next.RoundTrip(r)
	if err == nil && r.Context().Value(wantsBlob{}) == nil {
		answer.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(answer.Body, maxAnswer), answer.Body}
	}
	return answer, err
}

// wantsBlob marks the context of requests whose answer is bounded by the caller.
type wantsBlob struct{}

func (r *registry) get(ctx context.Context, kind, which string, header http.Header, want ...int) (*http.Response, error) {
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
	answer, err := r.get(ctx, "manifests", which, http.Header{"Accept": {strings.Join(acceptable(), ", ")}}, http.StatusOK)
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
		return nil, "", damaged("The registry %s sent something else than the manifest %s.", r.host, which)
	}
	return body, answer.Header.Get("Content-Type"), nil
}

// blob implements source.
func (r *registry) blob(ctx context.Context, d descriptor, offset int64) (io.ReadCloser, int64, error) {
	header := http.Header{}
	if offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	ctx = context.WithValue(ctx, wantsBlob{}, true)
	answer, err := r.get(ctx, "blobs", string(d.Digest), header, http.StatusOK, http.StatusPartialContent)
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
func (r *registry) describe(err error) error { return describe(err, r.host, r.ref.String(), r.shown) }

func (r *registry) close() { r.guard.close() }

var _ source = (*registry)(nil)
