package sandpool

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Spec is what the sandboxes of a pool are, as the pool's owner wants them. It is one value: a
// store keeps it as one JSON document, and one comparison (SameSandbox) says whether ready
// sandboxes have become stale. It holds no secret, only the names of secrets.
//
// A field that is added here makes sandboxes stale when it changes, unless the method sandbox
// leaves it out.
type Spec struct {
	Kind ContainerType `json:"kind"`
	// Image names the root filesystem. Of a code pool it is an image of the server, and empty
	// means the kind's own; of a custom container it is a reference into a registry.
	Image     string    `json:"image,omitempty"`
	Resources Resources `json:"resources,omitzero"`
	Network   Network   `json:"network,omitzero"`
	WarmStart WarmStart `json:"warmStart,omitzero"`
	// Secrets holds a version for the name of each secret of the pool. The version changes
	// when the value does, and says nothing about it.
	Secrets map[string]string `json:"secrets,omitempty"`
	// Container is there if Kind is CustomContainer.
	Container *Container `json:"container,omitempty"`

	// Identity is who the pool is to others.
	Identity ManagedIdentity `json:"identity,omitzero"`

	// What follows is about how the server treats sandboxes, not about what they are: a
	// change holds for all of them at once.

	Lifecycle  Lifecycle  `json:"lifecycle,omitzero"`
	Forwarding Forwarding `json:"forwarding,omitzero"`
	// Queue is how callers of a full pool may wait for a slot; nil means as the server says.
	Queue *Queue `json:"queue,omitempty"`
	// EvictIdle, if not zero, lets a claim on a full pool end the session that has been idle
	// longest, if that is at least so long.
	EvictIdle time.Duration `json:"evictIdle,omitempty"`
	// Ready is how many sandboxes are kept ready at times and by forecast.
	Ready ReadyPlan `json:"ready,omitzero"`
	// MCP is the pool's MCP endpoint.
	MCP MCP `json:"mcp,omitzero"`
	// History is how what sessions ran is kept; nil means that it is not. What it points to never
	// changes.
	History *History `json:"history,omitempty"`
	// Environment is the resource id of the managed environment that the owner named. It is
	// kept because clients compare it; it has no effect.
	Environment string `json:"environment,omitempty"`
}

// Same reports whether s and t say the same. They are compared as they are kept: an empty list is
// no other than none.
func (s Spec) Same(t Spec) bool {
	a, errA := json.Marshal(s)
	b, errB := json.Marshal(t)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// SameSandbox reports whether a sandbox that was made by s may serve as one made by t.
func (s Spec) SameSandbox(t Spec) bool {
	return reflect.DeepEqual(s.sandbox(), t.sandbox())
}

// sandbox returns s without what does not change a sandbox that runs, and with one form of what
// can be written in several.
func (s Spec) sandbox() Spec {
	s.Lifecycle, s.Forwarding, s.Environment = Lifecycle{}, Forwarding{}, ""
	s.Queue, s.EvictIdle, s.MCP, s.History = nil, 0, MCP{}, nil
	s.Ready = ReadyPlan{}
	s.Secrets = s.usedSecrets()
	s.Identity = ManagedIdentity{InSessions: s.Identity.Used()} // the rest is asked each time
	if s.Container != nil {
		c := *s.Container
		c.Liveness = nil // asked of a running sandbox from outside
		c.Name = ""
		c.Registry = Registry{} // says how to get the image, not what it is
		c.Command, c.Args = someOf(c.Command), someOf(c.Args)
		c.Env = someOf(c.Env)
		s.Container = &c
	}
	// The rest reaches sandboxes that run, but not what their environment says, nor the authority
	// that they must trust.
	network := Network{Status: s.Network.Status, Proxy: s.Network.Proxied()}
	if s.Network.EndsTLS() {
		network.Credentials = []Credential{{URL: "https://"}}
	}
	s.Network = network
	return s
}

// someOf makes an empty list nil, which DeepEqual tells apart.
func someOf[E any](list []E) []E {
	if len(list) == 0 {
		return nil
	}
	return list
}

// usedSecrets are the secrets that get into a sandbox.
func (s Spec) usedSecrets() map[string]string {
	used := map[string]string{}
	if s.Container != nil {
		for _, e := range s.Container.Env {
			if e.SecretRef != "" {
				used[e.SecretRef] = s.Secrets[e.SecretRef]
			}
		}
	}
	return used
}

// Clone returns a copy that shares nothing with s.
func (s Spec) Clone() Spec {
	s.Secrets = maps.Clone(s.Secrets)
	s.Network.Allow, s.Network.Deny = slices.Clone(s.Network.Allow), slices.Clone(s.Network.Deny)
	s.Network.Credentials = slices.Clone(s.Network.Credentials)
	if s.Container != nil {
		c := *s.Container
		c.Command, c.Args,
			c.Env = slices.Clone(c.Command), slices.Clone(c.Args), slices.Clone(c.Env)
		c.Startup, c.Liveness = c.Startup.Clone(), c.Liveness.Clone()
		s.Container = &c
	}
	s.Identity.Audiences = slices.Clone(s.Identity.Audiences)
	s.Identity.Assigned = slices.Clone(s.Identity.Assigned)
	s.Forwarding.Ports = slices.Clone(s.Forwarding.Ports)
	s.Ready = s.Ready.Clone()
	if s.Queue != nil {
		q := *s.Queue
		s.Queue = &q
	}
	return s
}

// ReadyPlan is how many sandboxes a pool keeps ready beside its usual number: at times of the week,
// and by a forecast of claims. The zero ReadyPlan adds nothing.
type ReadyPlan struct {
	Windows []ReadyWindow `json:"windows,omitempty"`
	// ForecastMost is the most that the forecast asks for; 0 means that there is none. Lead is
	// how far it looks ahead.
	ForecastMost int           `json:"forecastMost,omitempty"`
	Lead         time.Duration `json:"lead,omitempty"`
}

// ReadyWindow is a part of each of some days, in which Ready sandboxes are kept ready. From and To
// are minutes of a day in Zone, a name of the IANA database; a window whose To is not after its
// From ends on the next day.
type ReadyWindow struct {
	Days  []time.Weekday `json:"days"`
	From  int            `json:"from"`
	To    int            `json:"to"`
	Zone  string         `json:"zone"`
	Ready int            `json:"ready"`
}

// Clone returns a copy that shares nothing with p.
func (p ReadyPlan) Clone() ReadyPlan {
	p.Windows = slices.Clone(p.Windows)
	for i := range p.Windows {
		p.Windows[i].Days = slices.Clone(p.Windows[i].Days)
	}
	return p
}

// Queue bounds how callers wait for a slot of a full pool, first come, first served. With a
// Length of zero nobody waits.
type Queue struct {
	Length int           `json:"length,omitempty" yaml:"length"` // callers at the same time
	Wait   time.Duration `json:"wait,omitempty" yaml:"wait"`     // of each, at most
}

// History says that the server keeps what sessions of a pool ran: code, and how its output began.
type History struct {
	// Retention is how long an execution is kept after its end, if there is room.
	Retention time.Duration `json:"retention"`
}

// MCP says who may use the MCP endpoint of a code pool with a key of its own. Tokens are taken in
// any case: they allow nothing there that they do not allow elsewhere.
type MCP struct {
	// Enabled gives the pool a key, and KeyDisabled refuses it.
	Enabled     bool `json:"enabled,omitempty"`
	KeyDisabled bool `json:"keyDisabled,omitempty"`
}

// MCPKey is the name of the pool's secret that is the key of its MCP endpoint. No secret of an
// owner's can have it.
const MCPKey = ".mcp-key"

// ContainerType says what a pool's sandboxes run. The names are those of the resource type
// Microsoft.App/sessionPools.
type ContainerType string

// The container types that the resource type knows.
const (
	PythonLTS       ContainerType = "PythonLTS"
	NodeLTS         ContainerType = "NodeLTS"
	Shell           ContainerType = "Shell"
	CustomContainer ContainerType = "CustomContainer"
)

// Resources bound what one sandbox takes from the host. In a Spec, zero means the server's
// default; an engine is given none that is zero.
type Resources struct {
	CPU    float64 `json:"cpu,omitempty"`    // cores; may be fractional
	Memory int64   `json:"memory,omitempty"` // bytes; over it the sandbox is killed whole
	PIDs   int64   `json:"pids,omitempty"`   // processes and threads on the host side
	Disk   int64   `json:"disk,omitempty"`   // bytes of the writable layer
}

// NetworkStatus says whether sandboxes may reach other hosts.
type NetworkStatus string

// The network modes.
const (
	EgressDisabled NetworkStatus = "EgressDisabled"
	EgressEnabled  NetworkStatus = "EgressEnabled"
)

// Network says what a sandbox may reach besides itself. The zero value means nothing.
type Network struct {
	Status NetworkStatus `json:"status,omitempty"`
	// Allow and Deny narrow EgressEnabled. An entry is a host name, "*." and a host name, an
	// address or a prefix, each with ":PORT" behind it if only that port is meant. Without an
	// entry in Allow every public address is allowed. Deny goes before Allow. Package
	// internal/egress reads them.
	Allow []string `json:"allow,omitempty"`
	Deny  []string `json:"deny,omitempty"`
	// Connections bounds those that one sandbox has at the same time; zero means the default.
	Connections int `json:"connections,omitempty"`
	// Bandwidth bounds one sandbox in each direction, in bytes a second; zero means no bound.
	Bandwidth int64 `json:"bandwidth,omitempty"`
	// Inspect says that the name which a connection to the ports 80 and 443 asks for, in TLS or in
	// HTTP, must be one that is allowed.
	Inspect bool `json:"inspect,omitempty"`
	// Proxy says that the sandbox reaches nothing but a proxy of HTTP, which its environment names
	// and which takes the host names that are allowed. Names are not resolved for it.
	Proxy bool `json:"proxy,omitempty"`
	// Credentials are added to requests of the sandbox after they have left it.
	Credentials []Credential `json:"credentials,omitempty"`
}

// Credential is a header that requests to one host get outside the sandbox, so that code in it can
// use a secret which it never sees.
type Credential struct {
	// URL is "http://" or "https://" and a host name. The server ends TLS for a host with
	// "https://", under an authority of its own that the sandbox trusts.
	URL string `json:"url"`
	// Header is the name of the header. Those of this name that code sends are dropped.
	Header string `json:"header"`
	// Prefix stands before the secret in the header's value, such as "Bearer ".
	Prefix string `json:"prefix,omitempty"`
	// SecretRef is the name of the pool's secret.
	SecretRef string `json:"secretRef"`
	// Version is that of the secret, and Value the secret. Both are for an engine alone: a pool's
	// spec has neither, and nothing that is written down has the value.
	Version string `json:"version,omitempty"`
	Value   Secret `json:"-"`
}

// equal reports whether c and d are the same, with the same secret in the same version.
func (c Credential) equal(d Credential) bool {
	value := c.Value.Equal(d.Value)
	c.Value, d.Value = Secret{}, Secret{}
	return value && reflect.DeepEqual(c, d)
}

// Equal reports whether n and o allow the same in the same words, with the same credentials.
func (n Network) Equal(o Network) bool {
	return n.SameRules(o) && slices.EqualFunc(n.Credentials, o.Credentials, Credential.equal)
}

// SameRules reports whether n and o are the same but for the secrets in their credentials.
func (n Network) SameRules(o Network) bool {
	return n.Enabled() == o.Enabled() && n.Connections == o.Connections &&
		n.Bandwidth == o.Bandwidth && n.Inspect == o.Inspect && n.Proxy == o.Proxy &&
		slices.Equal(n.Allow, o.Allow) && slices.Equal(n.Deny, o.Deny) &&
		(len(n.Credentials) > 0) == (len(o.Credentials) > 0)
}

// EndsTLS reports whether the server is to end the TLS of some host for its sandboxes.
func (n Network) EndsTLS() bool {
	return slices.ContainsFunc(n.Credentials, func(c Credential) bool {
		return strings.HasPrefix(strings.ToLower(c.URL), "https://")
	})
}

// Proxied reports whether a proxy is all that sandboxes reach.
func (n Network) Proxied() bool { return n.Enabled() && n.Proxy }

// Enabled reports whether sandboxes may reach other hosts at all.
func (n Network) Enabled() bool { return n.Status == EgressEnabled }

// StartMode says how the sandboxes of a pool come to be.
type StartMode string

// The start modes. An empty one means the default of the kind: a snapshot for code pools, whose
// agent makes clones unlike each other, and a boot for containers, which know nothing of clones.
const (
	StartByBoot     StartMode = "boot"
	StartBySnapshot StartMode = "snapshot"
)

// WarmStart is how ready sandboxes are made before anybody asks for them.
type WarmStart struct {
	Mode StartMode `json:"mode,omitempty"`
	// Hook is a path on the target port to which the server posts after each restore, so that
	// the application can take new random seeds. Empty means none. Only with StartBySnapshot.
	Hook string `json:"hook,omitempty"`
}

// Lifecycle says when a session ends besides by its cooldown, which stands beside the numbers
// of sessions in Pool.
type Lifecycle struct {
	Type LifecycleType `json:"type,omitempty"`
	// MaxAlive bounds the life of a session of type OnContainerExit; zero means no bound.
	MaxAlive time.Duration `json:"maxAlive,omitempty"`
}

// LifecycleType names what ends a session.
type LifecycleType string

// The lifecycle types; an empty one means Timed.
const (
	// Timed ends a session after the cooldown without a request.
	Timed LifecycleType = "Timed"
	// OnContainerExit ends a session when its first process exits, or after MaxAlive. There
	// is no cooldown.
	OnContainerExit LifecycleType = "OnContainerExit"
)

// Forwarding says what of a request reaches a custom container.
type Forwarding struct {
	// Port is where requests go inside the sandbox.
	Port int `json:"port,omitempty"`
	// Ports are further ones that a tunnel may reach.
	Ports []int `json:"ports,omitempty"`
	// KeepAuthorization passes the header Authorization on, and KeepCookies the cookie that
	// carries the identifier. By default a session does not see its caller's credentials.
	KeepAuthorization bool `json:"keepAuthorization,omitempty"`
	KeepCookies       bool `json:"keepCookies,omitempty"`
	// Transport is what the container speaks on Port; empty means TransportHTTP.
	Transport Transport `json:"transport,omitempty"`
	// TunnelIdle ends tunnels, WebSockets among them, in which nothing flows; zero means never.
	TunnelIdle time.Duration `json:"tunnelIdle,omitempty"`
}

// Transport is what a container speaks on its target port, in the words of Azure's ingress.
type Transport string

// The transports. Calls of gRPC go by HTTP/2 in either.
const (
	TransportHTTP  Transport = "http"  // HTTP/1.1
	TransportHTTP2 Transport = "http2" // HTTP/2 without TLS
)

// Container is what a custom container runs.
type Container struct {
	Name     string   `json:"name,omitempty"` // for people
	Registry Registry `json:"registry,omitzero"`
	// Command and Args take the place of the image's entrypoint and command, as in
	// Kubernetes; if empty they are the image's.
	Command []string `json:"command,omitempty"`
	Args    []string `json:"args,omitempty"`
	// Dir is the working directory; empty means the image's.
	Dir string   `json:"dir,omitempty"`
	Env []EnvVar `json:"env,omitempty"`
	// Startup says when a new container may be used, and Liveness whether it still can; nil
	// means a connection to the target port, and no check.
	Startup  *Probe `json:"startup,omitempty"`
	Liveness *Probe `json:"liveness,omitempty"`
}

// Registry is where an image comes from. Without Username the registry is asked anonymously.
type Registry struct {
	Server   string `json:"server,omitempty"` // a host, with a port if it is not the usual one
	Username string `json:"username,omitempty"`
	// PasswordRef is the name of the pool's secret that holds the password.
	PasswordRef string `json:"passwordRef,omitempty"`
}

// EnvVar is one variable of a container's environment: a value, or the name of the pool's
// secret that holds it.
type EnvVar struct {
	Name      string `json:"name"`
	Value     string `json:"value,omitempty"`
	SecretRef string `json:"secretRef,omitempty"`
}
