package local

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/cmd/sandpool/config"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
	"github.com/sandpool/sandpool/internal/local"
	"github.com/sandpool/sandpool/internal/server"
)

// maxPart bounds one file of a bundle.
const maxPart = 16 << 20

// supportTime bounds the making of a bundle.
const supportTime = time.Minute

// SupportCmd is "sandpool support".
type SupportCmd struct {
	config.Flags
	File string `arg:"" help:"Archive to write, such as support.tar.gz." type:"path"`
}

// part is a file of a bundle, and how to get it.
type part struct {
	name string
	make func(context.Context) ([]byte, error)
}

// Run writes what somebody who can help wants to see, without what is secret.
func (c *SupportCmd) Run(ctx context.Context, a *console.App) error {
	cfg, err := c.Load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, supportTime)
	defer cancel()
	bar := console.NewProgress(a.Stderr)
	var missing []string
	parts := c.parts(a, cfg)
	err = writeWhole(c.File, func(w io.Writer) error {
		zip := gzip.NewWriter(w)
		out := tar.NewWriter(zip)
		for _, p := range parts {
			bar.Update("looks at "+p.name, "")
			text, err := p.make(ctx)
			if err != nil {
				missing = append(missing, p.name)
				text = []byte("This could not be had: " + err.Error() + "\n")
			}
			if !strings.HasSuffix(p.name, ".pb.gz") {
				text = redact(text)
			}
			if err := out.WriteHeader(&tar.Header{Name: "sandpool-support/" + p.name, Mode: 0o600,
				Size: int64(len(text)), ModTime: time.Now()}); err != nil {
				return err
			}
			if _, err := out.Write(text); err != nil {
				return err
			}
		}
		return errors.Join(out.Close(), zip.Close())
	})
	bar.Clear()
	if err != nil {
		return err
	}
	a.Say("%s is written; read it before you send it: tar -xOf %s | less", c.File, c.File)
	if len(missing) > 0 {
		a.Say("not to be had: %s", strings.Join(missing, ", "))
	}
	return nil
}

// parts are what a bundle holds.
func (c *SupportCmd) parts(a *console.App, cfg server.Config) []part {
	here := func(path string) func(context.Context) ([]byte, error) {
		return func(ctx context.Context) ([]byte, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
			if err != nil {
				return nil, err
			}
			res, err := local.NewClient(cfg.DataDir).Do(req)
			if err != nil {
				return nil, err
			}
			defer func() { _ = res.Body.Close() }() // it was read
			return io.ReadAll(io.LimitReader(res.Body, maxPart))
		}
	}
	return []part{
		{"version.txt", func(context.Context) ([]byte, error) { return versions(), nil }},
		{"configuration.yaml", func(context.Context) ([]byte, error) {
			return yaml.Marshal(forOthers(cfg))
		}},
		{"doctor.json", func(context.Context) ([]byte, error) {
			return json.MarshalIndent(server.Check(cfg), "", " ")
		}},
		{"machine.txt", func(context.Context) ([]byte, error) { return machine(), nil }},
		{"pools.json", func(ctx context.Context) ([]byte, error) { return pools(ctx, a) }},
		{"events.json", func(ctx context.Context) ([]byte, error) {
			cl, err := a.Client()
			if err != nil {
				return nil, err
			}
			page, err := cl.Events(ctx, client.Events{})
			if err != nil {
				return nil, err
			}
			return json.MarshalIndent(page.Value, "", " ")
		}},
		{"metrics.txt", func(ctx context.Context) ([]byte, error) {
			cl, err := a.Client()
			if err != nil {
				return nil, err
			}
			return cl.Metrics(ctx)
		}},
		{"log-levels.json", here("/log-levels")},
		{"goroutines.txt", here("/debug/pprof/goroutine?debug=1")},
		{"heap.pb.gz", here("/debug/pprof/heap")},
		{"cpu.pb.gz", here("/debug/pprof/profile?seconds=2")},
	}
}

// redacted stands in place of what is secret.
const redacted = "REDACTED"

// forOthers is a configuration without what is secret of it.
func forOthers(cfg server.Config) server.Config {
	cfg.Store, cfg.Traces.Endpoint = plainURL(cfg.Store), plainURL(cfg.Traces.Endpoint)
	cfg.OTLP.Endpoint = plainURL(cfg.OTLP.Endpoint)
	cfg.Network.UpstreamProxy = plainURL(cfg.Network.UpstreamProxy)
	cfg.Traces.Headers = plainHeaders(cfg.Traces.Headers)
	cfg.OTLP.Headers = plainHeaders(cfg.OTLP.Headers)
	if len(cfg.StoreKey.Command) > 1 { // what follows the program may be a password
		cfg.StoreKey.Command = []string{cfg.StoreKey.Command[0], redacted}
	}
	return cfg
}

// plainHeaders are headers, each NAME=VALUE, without their values.
func plainHeaders(lines []string) []string {
	out := make([]string, 0, len(lines))
	for _, line := range lines {
		name, _, _ := strings.Cut(line, "=")
		out = append(out, name+"="+redacted)
	}
	return out
}

// plainURL is where a URL leads to, without who asks and how.
func plainURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return redacted
	}
	if u.User != nil {
		u.User = url.User(redacted)
	}
	if u.RawQuery != "" {
		u.RawQuery = redacted
	}
	return u.String()
}

func versions() []byte {
	text := fmt.Sprintf("%s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if info, ok := debug.ReadBuildInfo(); ok {
		text += info.String()
	}
	return []byte(text)
}

// machine is what the kernel says of itself.
func machine() []byte {
	var out bytes.Buffer
	for _, path := range []string{"/proc/version", "/proc/meminfo", "/proc/loadavg",
		"/proc/pressure/memory", "/proc/pressure/cpu", "/proc/pressure/io", "/etc/os-release"} {
		text, err := os.ReadFile(path)
		if err == nil {
			fmt.Fprintf(&out, "== %s\n%s\n", path, text)
		}
	}
	return out.Bytes()
}

// pools is each pool with its status. What its containers are told is not for others.
func pools(ctx context.Context, a *console.App) ([]byte, error) {
	cl, err := a.Client()
	if err != nil {
		return nil, err
	}
	list, err := cl.Pools(ctx)
	if err != nil {
		return nil, err
	}
	type one struct {
		Pool   any `json:"pool"`
		Status any `json:"status"`
	}
	out := make([]one, 0, len(list))
	for _, p := range list {
		if p.Properties != nil && p.Properties.CustomContainerTemplate != nil {
			for i := range p.Properties.CustomContainerTemplate.Containers {
				c := &p.Properties.CustomContainerTemplate.Containers[i]
				c.Env, c.Command, c.Args = nil, nil, nil
			}
		}
		s, err := cl.PoolStatus(ctx, p.Name)
		if err != nil {
			out = append(out, one{p, err.Error()})
			continue
		}
		out = append(out, one{p, s})
	}
	return json.MarshalIndent(out, "", " ")
}

// secrets are what is taken out of texts: our tokens and keys, JSON Web Tokens, who is named in an
// address, and what stands behind a name that says so.
func secrets() []*regexp.Regexp {
	return []*regexp.Regexp{
		regexp.MustCompile(`\b(sp[a-z]?_)[A-Za-z0-9_-]{8,}`),
		regexp.MustCompile(`\b(eyJ)[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`),
		regexp.MustCompile(`(://)[^/\s"]+@`),
		regexp.MustCompile(`(?i)((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]+`),
		regexp.MustCompile(`(?i)("?[\w-]*(?:password|secret|token|credential|api-?key)[\w-]*"?` +
			`\s*[:=]\s*)(?:"(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s",}]+)`),
	}
}

// redact takes out what is secret.
func redact(text []byte) []byte {
	for _, each := range secrets() {
		text = each.ReplaceAll(text, []byte("${1}"+redacted))
	}
	return text
}
