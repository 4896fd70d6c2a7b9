package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/authority"
	"github.com/sandpool/sandpool/internal/control/tree"
	"github.com/sandpool/sandpool/internal/keyring"
	"github.com/sandpool/sandpool/internal/limit"
	"github.com/sandpool/sandpool/internal/oidc"
	"github.com/sandpool/sandpool/internal/pattern"
	"github.com/sandpool/sandpool/internal/peer"
	"github.com/sandpool/sandpool/internal/pool/share"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor"
	"github.com/sandpool/sandpool/internal/server/engine"
	"github.com/sandpool/sandpool/internal/server/entry"
	"github.com/sandpool/sandpool/internal/server/network"
	"github.com/sandpool/sandpool/internal/server/settings"
	"github.com/sandpool/sandpool/internal/usage"
)

// hostName is a name of two labels or more.
var hostName = pattern.Lazy(
	`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$`)

// Config is everything an operator can set. Each field has a default; it is
// read from a YAML file, then from the environment (SANDPOOL_ and the field's
// path in capitals, such as SANDPOOL_LIMITS_MIN_COOLDOWN), then from flags.
type Config struct {
	// DataDir holds everything the server keeps: store, images, snapshots, tokens.
	DataDir string `yaml:"data_dir"`
	// Store is the address of a PostgreSQL that keeps pools, sessions and tokens (postgres://…).
	// Empty means a file below DataDir.
	Store string `yaml:"store"`
	// StoreKey says where the key is that seals the store's secrets. Without it the key is in a
	// file below DataDir, which is made when there is none.
	StoreKey keyring.Settings `yaml:"store_key"`
	// Name tells this server from others with the same Store: the same after a restart, and no two
	// that run at the same time. Empty means the machine's host name.
	Name string `yaml:"name"`
	// Peers is how servers with the same Store reach each other.
	Peers peer.Settings `yaml:"peers"`
	// ImageDir holds the images; empty means the directory images below DataDir.
	ImageDir string `yaml:"image_dir"`
	// Engine is what runs sandboxes: gvisor or kubernetes.
	Engine engine.Name `yaml:"engine"`
	// Kubernetes is the cluster of the engine of that name.
	Kubernetes engine.Kubernetes `yaml:"kubernetes"`
	// Listen is the address of the API, host:port. Port 0 picks a free one.
	Listen string `yaml:"listen"`
	// PublicURL is how callers reach the API, without a trailing slash; it is
	// the beginning of every poolManagementEndpoint. Empty means the listener's own address.
	PublicURL string `yaml:"public_url"`
	// EndpointURL is the beginning of every poolManagementEndpoint, if that is not PublicURL: a
	// scheme and a host, whose first label may be {region}, the location of the pool.
	EndpointURL string `yaml:"endpoint_url"`
	// EndpointSuffix gives each pool a host name of its own, {pool}.{suffix}, at which its endpoint
	// has the root path; its first label may be {region}. Empty means none: pools are reached below
	// their path alone.
	EndpointSuffix string `yaml:"endpoint_suffix"`
	// Locations are those whose pools this server serves, the first one that of pools which name
	// none. Empty means that it serves every pool, whatever its location is called.
	Locations []string `yaml:"locations"`
	// TLS serves HTTPS, by files, a private authority or ACME.
	TLS authority.Settings `yaml:"tls"`
	// Issuers are foreign ones whose tokens are accepted, beside the server's own.
	Issuers []oidc.Settings `yaml:"issuers"`
	// IssuerKeyDays is after how many days another key signs the server's own JSON Web Tokens; with
	// 0 only commands make one.
	IssuerKeyDays int `yaml:"issuer_key_days"`
	// AuditMB bounds the audit log in MiB; the oldest records go.
	AuditMB int64 `yaml:"audit_mb"`
	// HistoryMB bounds, in MiB of memory, what is kept of what sessions ran, of pools that ask for
	// it. With 0 none may.
	HistoryMB int64 `yaml:"history_mb"`
	// Usage is what is kept of what sessions have used.
	Usage usage.Settings `yaml:"usage"`
	// CORS lets pages in browsers use the API.
	CORS CORS `yaml:"cors"`
	// Dashboard serves pages below /ui/.
	Dashboard bool `yaml:"dashboard"`
	// MetricsListen is an address at which metrics are served without a token, host:port. Empty
	// means none; with a token they are at /metrics of the API in any case.
	MetricsListen string `yaml:"metrics_listen"`
	// Traces are told to a collector of OpenTelemetry, and so may metrics and events be.
	Traces Traces `yaml:"traces"`
	OTLP   OTLP   `yaml:"otlp"`
	// Agent is the path of the sandpool-agent program; empty means beside this program.
	Agent string `yaml:"agent"`
	// FullStatus is the HTTP status of a claim beyond a pool's maximum: 404 or 429.
	FullStatus int `yaml:"full_status"`
	// OnExit says what becomes of sandboxes when the server stops in an orderly way.
	OnExit OnExit `yaml:"on_exit"`
	// CgroupParent is the cgroup beneath which those of the sandboxes are: a path from the root
	// of each hierarchy, without a slash before it.
	CgroupParent string `yaml:"cgroup_parent"`
	// Starts bounds how many sandboxes are started at the same time.
	Starts int `yaml:"starts"`
	// Queue is how callers of a full pool may wait for a slot, unless the pool says.
	Queue sandpool.Queue `yaml:"queue"`
	// Limits are the ranges that pools may use.
	Limits Limits `yaml:"limits"`
	// Network is how sandboxes with EgressEnabled reach others.
	Network network.Settings `yaml:"network"`
	// Registries are where container images may come from.
	Registries Registries `yaml:"registries"`
	// Sandbox is what one sandbox gets where its pool does not say.
	Sandbox Sandbox `yaml:"sandbox"`
	// Reserve is what of the machine new sandboxes leave to those that run and to the server.
	Reserve Reserve `yaml:"reserve"`
	// LightWeight is how much of the processor sandboxes that compute little are given, of which
	// others have 100.
	LightWeight int `yaml:"light_weight"`
}

// Traces says where spans of requests go; see tracing.Config.
type Traces struct {
	Endpoint string   `yaml:"endpoint"`
	Sample   float64  `yaml:"sample"`
	Headers  []string `yaml:"headers"`
}

// OTLP says where metrics and events go, where nobody scrapes and follows them; see otlp.Config.
type OTLP struct {
	Endpoint string   `yaml:"endpoint"`
	Headers  []string `yaml:"headers"`
	// Interval is how often metrics are sent.
	Interval time.Duration `yaml:"interval"`
	// Metrics and Events say which of them are sent.
	Metrics bool `yaml:"metrics"`
	Events  bool `yaml:"events"`
}

// CORS names the origins whose pages may use the API from a browser, such as
// https://app.example.com, or "*" for every one. None may if there are none.
type CORS struct {
	Origins []string `yaml:"origins"`
}

// isOrigin reports whether s is an origin as browsers write it, or "*".
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	return s == "*" || err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" &&
		s == u.Scheme+"://"+u.Host
}

// CAFile is the certificate that clients of a server with TLS.Auto are to trust.
func (c Config) CAFile() string {
	return filepath.Join(c.DataDir, authority.CertFile)
}

// acmeDir is where certificates by ACME are kept, with their keys, below the data directory.
const acmeDir = "acme"

// tls is the configuration of TLS, nil if the server has none. issued are its certificates by ACME,
// nil if those are not what it has.
func (c Config) tls(log *slog.Logger, issued *authority.Issued) (*tls.Config, error) {
	switch {
	case issued != nil:
		return issued.TLS(), nil
	case c.TLS.Auto:
		a, made, err := authority.Open(c.DataDir,
			authority.Names(c.Listen, c.PublicURL, c.tlsNames()), nil)
		if err != nil {
			return nil, err
		}
		if made {
			log.Info("a private certificate authority was made; clients are to trust it",
				"file", c.CAFile())
		}
		return a.TLS(), nil
	case c.TLS.Cert != "":
		return authority.FromFiles(c.TLS.Cert, c.TLS.Key)
	}
	return nil, nil
}

// OnExit is what an orderly stop does with sandboxes.
type OnExit string

// The modes of OnExit.
const (
	// KeepSandboxes leaves sessions running; the next start adopts them.
	KeepSandboxes OnExit = "keep"
	// StopSandboxes ends every session.
	StopSandboxes OnExit = "stop"
)

// Limits are the ranges of a pool's settings. The defaults are those that the
// Azure documentation gives for code interpreter pools.
type Limits struct {
	MinCooldown time.Duration `yaml:"min_cooldown"`
	MaxCooldown time.Duration `yaml:"max_cooldown"`
	MaxSessions int           `yaml:"max_sessions"`
	// MaxExecution is the longest timeout that one execution may ask for.
	MaxExecution time.Duration `yaml:"max_execution"`
	// Caller is how much each principal may ask, and Pool how much all together may of one pool.
	Caller limit.Limits `yaml:"caller"`
	Pool   limit.Limits `yaml:"pool"`
	// CallerSessions is how many sessions each principal may have at a time; zero means any number.
	CallerSessions int `yaml:"caller_sessions"`
	// Sandbox is the most that a pool may ask for each of its sandboxes.
	Sandbox Sandbox `yaml:"sandbox"`
	// Image bounds the image of a custom container.
	Image ImageLimits `yaml:"image"`
}

// Sandbox is what one sandbox may take from the host.
type Sandbox struct {
	CPU      float64 `yaml:"cpu"`       // cores
	MemoryMB int64   `yaml:"memory_mb"` // MiB
	PIDs     int64   `yaml:"pids"`      // host threads
	DiskMB   int64   `yaml:"disk_mb"`   // MiB of files that it may write
}

// DefaultConfig returns the configuration of a server that was told nothing.
func DefaultConfig() Config {
	return Config{
		DataDir:    "/var/lib/sandpool",
		Engine:     engine.GVisor,
		Kubernetes: engine.DefaultKubernetes(),
		Listen:     "127.0.0.1:8720",
		FullStatus: http.StatusNotFound,
		OnExit:     KeepSandboxes,
		Dashboard:  true,
		AuditMB:    1024,
		HistoryMB:  64,
		Usage:      usage.DefaultSettings(),
		Peers:      peer.DefaultSettings(),
		Traces:     Traces{Sample: 1},
		OTLP:       OTLP{Interval: 30 * time.Second, Metrics: true, Events: true},

		CgroupParent: "sandpool",

		IssuerKeyDays: 90,

		Starts: 2 * runtime.NumCPU(),
		Limits: Limits{
			MinCooldown: 300 * time.Second, MaxCooldown: 3600 * time.Second,
			MaxSessions: 600, MaxExecution: 220 * time.Second,
			Sandbox: Sandbox{CPU: 2, MemoryMB: 4096, PIDs: 4096, DiskMB: 8192},
			Image:   defaultImageLimits(),
		},
		Sandbox: Sandbox{CPU: 1, MemoryMB: 1024, PIDs: 1536, DiskMB: 1024},
		Reserve: defaultReserve(),

		LightWeight: share.Light,
	}
}

// LoadConfig returns the defaults changed by the YAML file at path (none if
// empty) and by the variables of env (KEY=value). Unknown names are errors, and
// all problems are reported at once.
func LoadConfig(path string, env []string) (Config, error) {
	cfg := DefaultConfig()
	var problems []error
	if path != "" {
		if err := settings.ReadFile(path, &cfg); err != nil {
			problems = append(problems, err)
		}
	}
	problems = append(problems, settings.ReadEnv(env, &cfg)...)
	problems = append(problems, cfg.Validate())
	return cfg, errors.Join(problems...)
}

// resources returns s in the units of the vocabulary.
func (s Sandbox) resources() sandpool.Resources {
	return sandpool.Resources{CPU: s.CPU, Memory: s.MemoryMB << 20, PIDs: s.PIDs,
		Disk: s.DiskMB << 20}
}

// Images is the directory of the images.
func (c Config) Images() string {
	if c.ImageDir != "" {
		return c.ImageDir
	}
	return filepath.Join(c.DataDir, "images")
}

// gvisor is the configuration of the gVisor engine.
func (c Config) gvisor() gvisor.Config {
	resolvers, private := c.Network.Parsed()
	return gvisor.Config{Resolvers: resolvers, Private: private, IPv6: c.Network.IPv6,
		Root: filepath.Join(c.DataDir, "engine"), CgroupParent: c.CgroupParent, TuneHost: true}
}

// egressCA is the directory of the authority that sandboxes trust for hosts with credentials.
func (c Config) egressCA() string { return filepath.Join(c.DataDir, "egress-ca") }

// agentProgram is the path of sandpool-agent.
func (c Config) agentProgram() (string, error) {
	if c.Agent != "" {
		return c.Agent, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the agent: %w", err)
	}
	return filepath.Join(filepath.Dir(self), "sandpool-agent"), nil
}

// checkIssuers reports what is wrong with the issuers, and with how people sign in with them.
func (c Config) checkIssuers() []error {
	return append(oidc.Validate(c.Issuers), entry.Check(c.Issuers, entry.Server{
		Dashboard: c.Dashboard, PublicURL: c.PublicURL, Listen: c.Listen, TLS: c.TLS.On()}))
}

// Validate reports every field that is out of range.
func (c Config) Validate() error {
	var problems []error
	need := func(ok bool, field string, value any, fix string) {
		if text, quoted := value.(string); quoted {
			value = strconv.Quote(text)
		}
		if !ok {
			problems = append(problems, fmt.Errorf("configuration: %s is %v; use %s", field,
				value, fix))
		}
	}
	_, port, err := net.SplitHostPort(c.Listen)
	_, perr := strconv.ParseUint(port, 10, 16)
	need(err == nil && perr == nil, "listen", c.Listen, "host:port, such as 127.0.0.1:8720")
	_, port, err = net.SplitHostPort(c.MetricsListen)
	_, perr = strconv.ParseUint(port, 10, 16)
	need(c.MetricsListen == "" || err == nil && perr == nil, "metrics_listen", c.MetricsListen,
		"host:port, such as 127.0.0.1:9720, or none")
	need(filepath.IsAbs(c.DataDir), "data_dir", c.DataDir, "an absolute path")
	scheme, _, _ := strings.Cut(c.Store, ":") // the rest may hold a password
	need(c.Store == "" || scheme == "postgres" || scheme == "postgresql", "store",
		"an address with another scheme",
		"one that begins with postgres://, or none for a file below data_dir")
	problems = append(problems, c.StoreKey.Validate()...)
	problems = append(problems, c.Peers.Validate(c.Store != "")...)
	bad := slices.IndexFunc(c.Locations, func(s string) bool { return !tree.IsLocation(s) })
	need(bad < 0, fmt.Sprintf("locations[%d]", bad), c.Locations, tree.LocationForm)
	for _, p := range c.TLS.Problems() {
		need(false, "tls"+p.Name, p.Value, p.Fix)
	}
	need(c.PublicURL == "" || strings.HasPrefix(c.PublicURL, "http://") ||
		strings.HasPrefix(c.PublicURL, "https://"), "public_url", c.PublicURL,
		"a URL that begins with http:// or https://")
	need(c.EndpointURL == "" || isHost(c.endpointHost()), "endpoint_url", c.EndpointURL,
		"a scheme and a host, such as https://{region}.example.com")
	need(c.EndpointSuffix == "" || isHost(c.EndpointSuffix), "endpoint_suffix", c.EndpointSuffix,
		"a host name in lower case, such as pools.example.com or {region}.example.com")
	for _, origin := range c.CORS.Origins {
		need(isOrigin(origin), "cors.origins", origin,
			`a scheme and a host, such as https://app.example.com, or "*"`)
	}
	need(c.FullStatus == http.StatusNotFound || c.FullStatus == http.StatusTooManyRequests,
		"full_status", c.FullStatus, "404 or 429")
	need(c.OnExit == KeepSandboxes || c.OnExit == StopSandboxes, "on_exit", string(c.OnExit),
		"keep or stop")
	need(c.CgroupParent != "" && filepath.IsLocal(c.CgroupParent) &&
		filepath.Clean(c.CgroupParent) == c.CgroupParent && c.CgroupParent[0] != '.',
		"cgroup_parent", c.CgroupParent,
		"a relative path without dots, such as sandpool or machine.slice/sandpool")
	need(c.AuditMB >= 32, "audit_mb", c.AuditMB, "at least 32")
	problems = append(problems, append(c.Usage.Validate(), c.checkHistory(), c.checkKeys())...)
	need(c.Starts >= 1, "starts", c.Starts, "at least 1")
	need(c.Queue.Length >= 0 && c.Queue.Length <= 1000, "queue.length", c.Queue.Length, "0 to 1000")
	need(c.Queue.Wait >= 0 && c.Queue.Wait <= time.Minute, "queue.wait", c.Queue.Wait, "at most 60s")
	need((c.Queue.Length == 0) == (c.Queue.Wait == 0), "queue", fmt.Sprintf("%d callers and %s",
		c.Queue.Length, c.Queue.Wait), "both length and wait, or neither")
	need(c.Limits.MinCooldown >= time.Second, "limits.min_cooldown", c.Limits.MinCooldown,
		"at least 1s")
	need(c.Limits.MaxCooldown >= c.Limits.MinCooldown, "limits.max_cooldown", c.Limits.MaxCooldown,
		fmt.Sprintf("at least limits.min_cooldown, %s", c.Limits.MinCooldown))
	need(c.Limits.CallerSessions >= 0, "limits.caller_sessions", c.Limits.CallerSessions, "0 or more")
	need(c.Limits.MaxSessions >= 1, "limits.max_sessions", c.Limits.MaxSessions, "at least 1")
	need(c.Limits.MaxExecution >= time.Second, "limits.max_execution", c.Limits.MaxExecution,
		"at least 1s")
	need(c.Limits.Image.DownloadMB >= 1, "limits.image.download_mb", c.Limits.Image.DownloadMB,
		"at least 1")
	need(c.Limits.Image.UnpackedMB >= 1, "limits.image.unpacked_mb", c.Limits.Image.UnpackedMB,
		"at least 1")
	need(c.Limits.Image.Entries >= 1000, "limits.image.entries", c.Limits.Image.Entries,
		"at least 1000")
	need(c.Engine == engine.GVisor || c.Engine == engine.InKubernetes, "engine", string(c.Engine),
		"gvisor or kubernetes")
	if c.Engine == engine.InKubernetes {
		problems = append(problems, c.Kubernetes.Validate()...)
	}
	problems = slices.Concat(problems, c.Network.Validate(), c.checkIssuers())
	problems = append(problems, c.Limits.Caller.Validate("limits.caller"),
		c.Limits.Pool.Validate("limits.pool"))
	problems = append(problems, c.checkCollectors()...)
	problems = append(problems, c.OCI().Validate()...)
	most, one := c.Limits.Sandbox, c.Sandbox
	need(one.CPU >= 0.1, "sandbox.cpu", one.CPU, "at least 0.1 cores")
	need(one.MemoryMB >= 256, "sandbox.memory_mb", one.MemoryMB,
		"at least 256: an interpreter with its libraries takes about 150")
	need(one.PIDs >= 128, "sandbox.pids", one.PIDs,
		"at least 128: the sandbox's own kernel takes about 40 threads")
	need(one.DiskMB >= 16, "sandbox.disk_mb", one.DiskMB, "at least 16")
	c.checkShares(need)
	need(most.CPU >= one.CPU, "limits.sandbox.cpu", most.CPU,
		fmt.Sprintf("at least sandbox.cpu, %v", one.CPU))
	need(most.MemoryMB >= one.MemoryMB, "limits.sandbox.memory_mb", most.MemoryMB,
		fmt.Sprintf("at least sandbox.memory_mb, %d", one.MemoryMB))
	need(most.PIDs >= one.PIDs, "limits.sandbox.pids", most.PIDs,
		fmt.Sprintf("at least sandbox.pids, %d", one.PIDs))
	need(most.DiskMB >= one.DiskMB, "limits.sandbox.disk_mb", most.DiskMB,
		fmt.Sprintf("at least sandbox.disk_mb, %d", one.DiskMB))
	return errors.Join(problems...)
}
