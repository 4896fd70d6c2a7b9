// Package serve is the commands that run a server on this machine (serve, with its quickstart) and
// say what the machine lacks for one (doctor).
package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/cmd/sandpool/config"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
	"github.com/sandpool/sandpool/internal/logging"
	"github.com/sandpool/sandpool/internal/loopback"
	"github.com/sandpool/sandpool/internal/server"
)

// Cmd runs a server.
type Cmd struct {
	config.Flags
	Listen     string `help:"Address of the API, host:port; port 0 picks a free one." placeholder:"ADDR"`
	PublicURL  string `name:"public-url" help:"URL under which callers reach the API, if it is not the address." placeholder:"URL"`
	TLS        string `name:"tls" enum:"auto,acme," default:"" help:"auto: serve HTTPS with certificates of a private authority, which 'sandpool trust' has clients trust. acme: with those of the authority that tls.acme in the configuration names."`
	LogLevel   string `enum:"debug,info,warn,error," default:"" help:"Least important log line to write: debug, info, warn or error (default info; with --quickstart warn)."`
	LogFormat  string `enum:"text,json" default:"text" help:"Form of the log on stderr: text or json."`
	Quickstart bool   `help:"Also build the Python image if it is missing, create pool 'python' with 3 ready sessions, and run a sample in it; stop all sandboxes at the end."`
}

// Help says what serve leaves on the machine.
func (Cmd) Help() string {
	return "Runs until Ctrl-C. Needs no configuration: the state is in one data directory, the " +
		"API listens on loopback, " +
		"an administrator's token is made at the first start (admin-token in the data " +
		"directory), and the client configuration " +
		"of this user leads to the server from then on, unless it leads to another one that " +
		"answers."
}

// Run serves until ctx ends.
func (c *Cmd) Run(ctx context.Context, a *console.App) error {
	cfg, err := c.Load()
	if err != nil {
		return err
	}
	if c.Listen != "" {
		cfg.Listen = c.Listen
	}
	if c.PublicURL != "" {
		cfg.PublicURL = c.PublicURL
	}
	switch {
	case c.TLS == "auto":
		cfg.TLS.Auto = true
	case c.TLS == "acme" && cfg.TLS.ACME.Directory == "":
		return console.UsageError("--tls acme needs to know who gives certificates: set " +
			"tls.acme.directory to the URL of an authority's directory, and tls.acme.hosts to the " +
			"names that callers use")
	}
	if err := cfg.Validate(); err != nil {
		return console.UsageError(err.Error())
	}
	if c.Quickstart {
		// Who tries it out expects that Ctrl-C leaves nothing behind.
		cfg.OnExit = server.StopSandboxes
	}
	log, err := c.logger(a)
	if err != nil {
		return err
	}
	srv, err := server.New(ctx, log, cfg)
	if err != nil {
		return err
	}
	conn := client.Config{Endpoint: reachable(srv.URL()), Token: srv.AdminToken()}
	if cfg.TLS.Auto {
		conn.CA = cfg.CAFile()
	}
	return errors.Join(c.serve(ctx, a, srv, cfg, conn), srv.Close())
}

func (c *Cmd) serve(ctx context.Context, a *console.App, srv *server.Server, cfg server.Config,
	conn client.Config) error {
	err := c.serveUntil(ctx, a, srv, cfg, conn)
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		kept, err := srv.Kept(context.WithoutCancel(ctx))
		if kept > 0 {
			a.Say("stopped; sandboxes that stay for the next start: %d (on_exit: stop ends them)",
				kept)
		} else {
			a.Say("stopped")
		}
		return err
	}
	return err
}

func (c *Cmd) serveUntil(ctx context.Context, a *console.App, srv *server.Server, cfg server.Config,
	conn client.Config) error {
	if c.Quickstart {
		if err := quickImage(ctx, a, cfg); err != nil {
			return err
		}
	}
	a.Say("serving %s", conn.Endpoint)
	tokenFile := filepath.Join(cfg.DataDir, "admin-token")
	settings := writeClientConfig(ctx, a, conn, tokenFile)
	g, run := errgroup.WithContext(ctx)
	g.Go(func() error { return srv.Run(run) })
	if c.Quickstart {
		g.Go(func() error { return quickstart(run, a, srv, conn, tokenFile, settings) })
	}
	return g.Wait()
}

func (c *Cmd) logger(a *console.App) (*slog.Logger, error) {
	level := slog.LevelInfo
	if c.Quickstart {
		level = slog.LevelWarn
	}
	if c.LogLevel != "" {
		if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
			return nil, console.UsageError(err.Error())
		}
	}
	opts := &slog.HandlerOptions{Level: slog.LevelDebug} // it is logging that decides
	var lines slog.Handler = slog.NewTextHandler(a.Stderr, opts)
	if c.LogFormat == "json" {
		lines = slog.NewJSONHandler(a.Stderr, opts)
	}
	return slog.New(logging.New(lines, level, nil)), nil
}

// writeClientConfig lets other commands of this user find the server. It returns what a
// shell must put before them if the file leads to another one; otherwise nothing.
func writeClientConfig(ctx context.Context, a *console.App, conn client.Config,
	tokenFile string) string {
	path, err := client.ConfigPath(os.Getenv)
	if err == nil {
		err = leadTo(ctx, path, conn)
	}
	if err != nil {
		settings := fmt.Sprintf(`SANDPOOL_ENDPOINT=%s SANDPOOL_TOKEN="$(cat %s)"`,
			shellQuote(conn.Endpoint), shellQuote(tokenFile))
		a.Say("%v\nto use this server instead:  export %s", err, settings)
		return settings + " "
	}
	a.Say("other sandpool commands of this user use it: %s leads there", path)
	return ""
}

// healthWait is how long the server that a client configuration leads to has to show that it lives.
const healthWait = 2 * time.Second

// leadTo writes conn to the client configuration at path. One that leads to another
// machine is somebody's choice, and one that leads to a server that answers is in use: they stay.
func leadTo(ctx context.Context, path string, conn client.Config) error {
	old, err := client.LoadConfig(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("%w; it is left as it is", err)
	case old.Endpoint == "" || old.Endpoint == conn.Endpoint:
	case !isHere(old.Endpoint) || answers(ctx, old):
		return fmt.Errorf("other sandpool commands of this user go on using %s: %s leads there",
			old.Endpoint, path)
	}
	return client.SaveConfig(path, conn)
}

func answers(ctx context.Context, conn client.Config) bool {
	ctx, cancel := context.WithTimeout(ctx, healthWait)
	defer cancel()
	cl, err := client.New(conn)
	if err != nil {
		return false
	}
	defer cl.CloseIdle()
	return cl.Health(ctx) == nil
}

// isHere reports whether an endpoint is on this machine.
func isHere(endpoint string) bool {
	u, err := url.Parse(endpoint)
	return err == nil && loopback.Is(u.Host)
}

// reachable replaces a wildcard address, which is where a server listens but
// nobody connects to, by loopback.
func reachable(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return endpoint
	}
	ip := net.ParseIP(u.Hostname())
	if ip == nil || !ip.IsUnspecified() {
		return endpoint
	}
	host := "127.0.0.1"
	if ip.To4() == nil {
		host = "::1"
	}
	u.Host = net.JoinHostPort(host, u.Port())
	return u.String()
}
