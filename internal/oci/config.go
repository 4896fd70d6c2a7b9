package oci

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/oci/layer"
)

// Config is what an operator decides about registries.
type Config struct {
	// Allow lists the registries that images may come from; empty allows all that Deny does not
	// list. An entry is a host ("registry.example.com", "10.0.0.5:5000"), a host's subdomains
	// ("*.example.com") or either with the beginning of a repository ("ghcr.io/acme"). Docker
	// Hub is docker.io.
	Allow []string
	// Deny lists registries that images may not come from, whatever Allow says.
	Deny []string
	// PlainHTTP lists the hosts, with port, that are asked without TLS. Those on the loopback
	// interface need not be listed.
	PlainHTTP []string
	// Mirrors lists, by registry, hosts that are asked first, each with an optional
	// beginning for the repository ("mirror.example.com/hub").
	Mirrors map[string][]string
	// CAFile holds further certificates, in PEM, by which registries are known; empty means
	// those of the system alone.
	CAFile string
	// DockerConfig is a docker configuration file, whose credentials and helpers serve pulls that
	// bring none; empty means that those are anonymous.
	DockerConfig string
	// Limits bound one image.
	Limits Limits
}

// Limits bound what one pull may take.
type Limits struct {
	// Layer bounds the unpacked image.
	Layer layer.Limits
	// Download is how many bytes all layers may have as they are downloaded.
	Download int64
	// Layers is how many an image may have.
	Layers int
	// Time bounds a pull, however slowly bytes come.
	Time time.Duration
	// Stall is how long nothing may come before a download is resumed.
	Stall time.Duration
}

// DefaultLimits are generous for any image that is worth a warm sandbox.
func DefaultLimits() Limits {
	return Limits{Layer: layer.DefaultLimits(), Download: 16 << 30, Layers: 256,
		Time: 30 * time.Minute, Stall: 30 * time.Second}
}

// Client pulls images into a store. Its methods may be called at the same time.
type Client struct {
	store   *image.Store
	cfg     Config
	roots   *x509.CertPool // nil: the system's
	flights flights
	// slots bounds how many pulls work at once: each takes a core and as much disk as its image.
	slots chan struct{}
}

// pullsAtOnce is how many pulls a server works on; others wait.
const pullsAtOnce = 2

// New returns a client. Zero limits are the default ones.
func New(store *image.Store, cfg Config) (*Client, error) {
	fill(&cfg.Limits)
	c := &Client{store: store, cfg: cfg, slots: make(chan struct{}, pullsAtOnce)}
	problems := cfg.Validate()
	if cfg.CAFile != "" {
		var err error
		c.roots, err = readRoots(cfg.CAFile)
		problems = append(problems, err)
	}
	if cfg.DockerConfig != "" {
		_, err := readDockerConfig(cfg.DockerConfig)
		problems = append(problems, err)
	}
	return c, errors.Join(problems...)
}

// Validate reports what is wrong with the text of cfg; New looks at the files as well.
func (cfg Config) Validate() (problems []error) {
	for field, list := range map[string][]string{"allow": cfg.Allow, "deny": cfg.Deny} {
		for _, pattern := range list {
			host, _, _ := strings.Cut(pattern, "/")
			problems = append(problems, checkHost(field, strings.TrimPrefix(host, "*.")))
		}
	}
	for _, host := range cfg.PlainHTTP {
		problems = append(problems, checkHost("plain_http", host))
	}
	for registry, mirrors := range cfg.Mirrors {
		problems = append(problems, checkHost("mirrors", registry))
		for _, m := range mirrors {
			host, _, _ := strings.Cut(m, "/")
			problems = append(problems, checkHost("mirrors", host))
		}
	}
	return slices.DeleteFunc(problems, func(err error) bool { return err == nil })
}

// fill sets the limits that are zero.
func fill(l *Limits) {
	d := DefaultLimits()
	if l.Layer.Bytes == 0 {
		l.Layer.Bytes = d.Layer.Bytes
	}
	if l.Layer.Entries == 0 {
		l.Layer.Entries = d.Layer.Entries
	}
	if l.Layer.Ratio == 0 {
		l.Layer.Ratio = d.Layer.Ratio
	}
	if l.Download == 0 {
		l.Download = d.Download
	}
	if l.Layers == 0 {
		l.Layers = d.Layers
	}
	if l.Time == 0 {
		l.Time = d.Time
	}
	if l.Stall == 0 {
		l.Stall = d.Stall
	}
}

func readRoots(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("configuration: registries.ca_file: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("the system's certificates: %w", err)
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf(
			"configuration: registries.ca_file is %q, which holds no certificate in PEM", file)
	}
	return roots, nil
}

// checkHost refuses what cannot be the host of a URL.
func checkHost(field, host string) error {
	if u, err := url.Parse("//" + host); err != nil || u.Host != host || host == "" ||
		strings.HasSuffix(host, ":") {
		return fmt.Errorf(
			"configuration: registries.%s has %q; use a host, such as registry.example.com or 10.0.0.5:5000",
			field, host)
	}
	return nil
}

// matches says whether pattern is about the repository on the registry host.
func matches(pattern, host, repository string) bool {
	pattern, host = strings.ToLower(pattern), strings.ToLower(host)
	wantHost, wantRepository, _ := strings.Cut(pattern, "/")
	if suffix, ok := strings.CutPrefix(wantHost, "*"); ok {
		if !strings.HasSuffix(host, suffix) {
			return false
		}
	} else if host != wantHost {
		return false
	}
	wantRepository = strings.Trim(wantRepository, "/")
	return wantRepository == "" || repository == wantRepository || strings.HasPrefix(repository,
		wantRepository+"/")
}
