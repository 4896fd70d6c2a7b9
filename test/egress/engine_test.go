package egress_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/erofs"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
)

// The engine holds sandboxes to their networks as the contract says, restored and booted.
func TestEngine(t *testing.T) {
	newWorld(t)
	program, err := erofs.HostFile("app", 0o755, buildApp(t))
	must(t, err)
	images, err := image.Open(filepath.Join(t.TempDir(), "images"))
	must(t, err)
	img, err := images.Put(t.Context(), "app", []erofs.Entry{program})
	must(t, err)
	for _, mode := range []sandbox.StartMode{sandbox.Restore, sandbox.Boot} {
		t.Run(string(mode), func(t *testing.T) {
			root := t.TempDir()
			for _, ipv6 := range []bool{false, true} {
				t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[ipv6], func(t *testing.T) {
					sandboxtest.RunNetwork(t, func(t *testing.T) sandboxtest.NetworkTarget {
						return engineTarget(t, root, ipv6, sandbox.Template{
							Root: img.Root(), Args: []string{"/app"}, Dir: "/", Start: mode,
							Ready: sandpool.Probe{HTTP: sandpool.HTTPProbe{Port: 8080,
								Path: "/raw"}},
							Limits: sandpool.Resources{CPU: 1, Memory: 512 << 20, PIDs: 100,
								Disk: 1 << 30},
						})
					})
				})
			}
		})
	}
}

// engineTarget opens an engine on root, which is closed with the test.
func engineTarget(t *testing.T, root string, ipv6 bool,
	template sandbox.Template) sandboxtest.NetworkTarget {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	open := func() *gvisor.Engine {
		e, err := gvisor.New(log, gvisor.Config{Root: root, IPv6: ipv6,
			Resolvers: []netip.AddrPort{netip.MustParseAddrPort(resolver + ":53")}})
		must(t, err)
		return e
	}
	e := open()
	t.Cleanup(func() { must(t, e.Close()) })
	ask := func(ctx context.Context, h sandbox.Handle, path string) (bool, error) {
		c := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return e.Dial(ctx, h, 8080)
			}}}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://app"+path, nil)
		if err != nil {
			return false, err
		}
		resp, err := c.Do(r)
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return string(text) == "true", err
	}
	one, other := index+":80", elsewhere+":80"
	if ipv6 {
		one, other = "["+index6+"]:80", "["+elsewhere6+"]:80"
	}
	return sandboxtest.NetworkTarget{
		Target: sandboxtest.Target{Runtime: e, Template: template,
			Reopen: func(t *testing.T) sandbox.Runtime {
				must(t, e.Close())
				e = open()
				return e
			}},
		One: one, Other: other,
		Hold: func(ctx context.Context, h sandbox.Handle, to string) (bool, error) {
			return ask(ctx, h, "/hold?to="+url.QueryEscape(to))
		},
		Carries: func(ctx context.Context, h sandbox.Handle) (bool, error) {
			return ask(ctx, h, "/use")
		},
	}
}
