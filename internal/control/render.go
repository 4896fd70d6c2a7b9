package control

import (
	"context"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/control/crowd"
	"github.com/sandpool/sandpool/internal/control/history"
	"github.com/sandpool/sandpool/internal/control/managed"
	"github.com/sandpool/sandpool/internal/control/network"
	"github.com/sandpool/sandpool/internal/control/ready"
	"github.com/sandpool/sandpool/internal/pool"
)

// lastFlatVersion is the last api-version whose dynamicPoolConfiguration has no
// lifecycleConfiguration.
const lastFlatVersion = "2024-10-02"

// apiVersion returns the api-version that r names. It is a hint, which chooses
// the form of the answer: every version is served, and so is none.
func apiVersion(r *http.Request) string { return r.URL.Query().Get("api-version") }

// flatVersion reports whether callers of version v read the flat form.
func flatVersion(v string) bool {
	date := v[:min(len(v), len(lastFlatVersion))]
	_, err := time.Parse(time.DateOnly, date)
	return err == nil && date <= lastFlatVersion
}

// renderOne is render with what a list has no time for: whether the pool's identities are there.
func (c *Control) renderOne(p sandpool.Pool, r *http.Request) api.SessionPool {
	if lost := managed.Lost(r.Context(), c.tree, p.Spec.Identity); lost != "" {
		p.Notice = strings.TrimSpace(p.Notice + " " + lost)
	}
	return c.render(p, r)
}

// render returns p as the caller of r reads it.
func (c *Control) render(p sandpool.Pool, r *http.Request) api.SessionPool {
	p = shown(r.Context(), p)
	w := wire(p, apiVersion(r))
	w.Properties.PoolManagementEndpoint = c.o.Endpoint(p, r)
	showMCP(w.Properties.McpServerSettings, w.Properties.PoolManagementEndpoint)
	if p.Spec.Container != nil {
		w.Properties.Sandpool.Pull = c.o.Pulling(p.ID)
		if n, err := c.pools.Status(r.Context(), p.ID); err == nil { // otherwise it has just gone
			w.Properties.TemplateUpdateStatus = templateStatus(p,
				n, w.Properties.CustomContainerTemplate)
		}
	}
	return w
}

// templateStatus counts a pool's sandboxes by the template that they were made of: the one that is
// wanted, and those before it together.
func templateStatus(p sandpool.Pool, n pool.Status,
	t *api.CustomContainerTemplate) *api.TemplateUpdateStatus {
	desired := &api.TemplateStatus{Details: p.Problem, CreatedTime: stamp(p.UpdatedAt),
		Containers: t.Containers, Ingress: t.Ingress,
		Status: api.TemplateCounts{ExpectedCount: p.ReadySessions,
			ReadyCount:         n.Ready - n.Earlier.Ready,
			PendingCount:       n.Starting - n.Earlier.Starting,
			AllocatedCount:     n.Claimed - n.Earlier.Claimed,
			ImagePullFailCount: n.PullFailures, CrashCount: n.Crashes}}
	if n.Earlier.Ready+n.Earlier.Starting+n.Earlier.Claimed == 0 {
		return &api.TemplateUpdateStatus{ActiveTemplate: desired, DesiredTemplate: desired}
	}
	active := &api.TemplateStatus{Status: api.TemplateCounts{ReadyCount: n.Earlier.Ready,
		PendingCount: n.Earlier.Starting, AllocatedCount: n.Earlier.Claimed}}
	return &api.TemplateUpdateStatus{ActiveTemplate: active, DesiredTemplate: desired}
}

// hiddenProblem is what callers read of a problem whose text is not for them.
const hiddenProblem = "The server cannot start the pool's sandboxes. Whoever may change the pool " +
	"sees why in its status, or an administrator in the server's log."

// shown returns p as the caller may see it. The cause of a problem is for those who may change the
// pool. Where there is none, the problem's text comes from the engine and names the host's files,
// so it is for the server's administrators.
func shown(ctx context.Context, p sandpool.Pool) sandpool.Pool {
	switch {
	case p.Problem == "":
	case p.Cause != "" && auth.Require(ctx, auth.WritePool, p.ID.Scope()) == nil:
		p.Problem = p.Cause
	case auth.Require(ctx, auth.ReadHost, sandpool.Scope{}) != nil:
		p.Problem = hiddenProblem
	}
	return p
}

// wire returns p in the form of an api-version, without what depends on the caller.
func wire(p sandpool.Pool, version string) api.SessionPool {
	out := api.SessionPool{
		ID: p.ID.String(), Name: p.ID.Name, Type: api.SessionPoolType, Location: p.Location,
		Tags: p.Tags,
		SystemData: &api.SystemData{CreatedBy: p.CreatedBy.Name,
			CreatedByType: string(p.CreatedBy.Kind), CreatedAt: stamp(p.CreatedAt),
			LastModifiedBy: p.UpdatedBy.Name, LastModifiedByType: string(p.UpdatedBy.Kind),
			LastModifiedAt: stamp(p.UpdatedAt)},
		Properties: &api.SessionPoolProperties{
			ContainerType:      string(p.Spec.Kind),
			PoolManagementType: dynamicType,
			ScaleConfiguration: &api.ScaleConfiguration{
				MaxConcurrentSessions: &p.MaxSessions, ReadySessionInstances: &p.ReadySessions},
			DynamicPoolConfiguration: lifecycle(p, version),
			SessionNetworkConfiguration: &api.SessionNetworkConfiguration{
				Status: string(p.Spec.Network.Status)},
			ProvisioningState: string(p.State),
			McpServerSettings: wireMCP(p.Spec.MCP),
			Sandpool:          settings(p),
		},
	}
	for _, name := range slices.Sorted(maps.Keys(p.Spec.Secrets)) {
		if name != sandpool.MCPKey {
			out.Properties.Secrets = append(out.Properties.Secrets, api.PoolSecret{Name: name})
		}
	}
	out.Identity, out.Properties.ManagedIdentitySettings = managed.Show(p.Spec.Identity)
	if p.Spec.Container != nil {
		wireContainer(out.Properties, p.Spec)
	}
	return out
}

// lifecycle is when the sessions of p end. OnContainerExit has no flat form.
func lifecycle(p sandpool.Pool, version string) *api.DynamicPoolConfiguration {
	if l := p.Spec.Lifecycle; l.Type == sandpool.OnContainerExit {
		return &api.DynamicPoolConfiguration{LifecycleConfiguration: &api.LifecycleConfiguration{
			LifecycleType: string(l.Type), MaxAlivePeriodInSeconds: secondsOrNil(l.MaxAlive)}}
	}
	seconds := int(p.Cooldown / time.Second)
	if flatVersion(version) {
		return &api.DynamicPoolConfiguration{ExecutionType: timed,
			CooldownPeriodInSeconds: &seconds}
	}
	return &api.DynamicPoolConfiguration{LifecycleConfiguration: &api.LifecycleConfiguration{
		LifecycleType: timed, CooldownPeriodInSeconds: &seconds}}
}

// wireContainer fills in what only pools of custom containers have. parseContainer reads it
// again: a PATCH is merged into this form.
func wireContainer(props *api.SessionPoolProperties, s sandpool.Spec) {
	c := s.Container
	one := api.Container{Image: s.Image, Name: c.Name, Command: c.Command, Args: c.Args,
		Probes: probes(c)}
	for _, e := range c.Env {
		v := api.EnvironmentVar{Name: e.Name, SecretRef: e.SecretRef}
		if e.SecretRef == "" {
			v.Value = &e.Value
		}
		one.Env = append(one.Env, v)
	}
	if r := s.Resources; r.CPU != 0 || r.Memory != 0 {
		one.Resources = &api.ContainerResources{Memory: formatSize(r.Memory)}
		if r.CPU != 0 {
			one.Resources.CPU = &r.CPU
		}
	}
	props.EnvironmentID = s.Environment
	props.CustomContainerTemplate = &api.CustomContainerTemplate{
		Containers: []api.Container{one}, Ingress: &api.Ingress{TargetPort: &s.Forwarding.Port}}
	if r := c.Registry; r != (sandpool.Registry{}) {
		props.CustomContainerTemplate.RegistryCredentials = &api.RegistryCredentials{
			Server: r.Server, Username: r.Username, PasswordSecretRef: r.PasswordRef}
	}
}

func settings(p sandpool.Pool) *api.SandpoolSettings {
	r := p.Spec.Resources
	s := &api.SandpoolSettings{Disk: formatSize(r.Disk), PIDs: nonZero(r.PIDs),
		Revision: p.Revision, Problem: p.Problem, Notice: p.Notice,
		WarmStart: string(p.Spec.WarmStart.Mode), WarmStartHook: p.Spec.WarmStart.Hook}
	s.IdentityAudiences = p.Spec.Identity.Audiences
	s.Egress = network.Egress(p.Spec.Network, formatSize(p.Spec.Network.Bandwidth))
	s.Queue, s.EvictIdleAfterInSeconds = crowd.QueueSettings(p.Spec.Queue), nonZero(
		int64(p.Spec.EvictIdle/time.Second))
	s.ReadySchedule, s.ReadyForecast = ready.Settings(p.Spec.Ready)
	s.History = history.Settings(p.Spec.History)
	if c := p.Spec.Container; c != nil {
		f := p.Spec.Forwarding
		s.WorkingDir, s.Ports, s.KeepAuthorization,
			s.KeepCookies = c.Dir, f.Ports, f.KeepAuthorization, f.KeepCookies
		s.Transport,
			s.TunnelIdleInSeconds = string(f.Transport), nonZero(int64(f.TunnelIdle/time.Second))
		return s
	}
	s.Image, s.CPU, s.Memory = p.Spec.Image, nonZero(r.CPU), formatSize(r.Memory)
	return s
}

// nonZero returns nil for zero.
func nonZero[T int64 | float64](n T) *T {
	if n == 0 {
		return nil
	}
	return &n
}

var units = [...]struct {
	suffix string
	bytes  float64
}{{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", 1 << 40}}

// parseSize reads "512Mi", "1.5Gi" or a number of bytes.
func parseSize(s string) (int64, bool) {
	factor := 1.0
	for _, u := range units {
		if n, ok := strings.CutSuffix(s, u.suffix); ok {
			s, factor = n, u.bytes
			break
		}
	}
	if strings.Trim(s, "0123456789.") != "" {
		return 0, false // no sign, exponent, infinity or hexadecimal
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || n*factor >= math.MaxInt64 {
		return 0, false
	}
	return int64(n * factor), true
}

// formatSize is the inverse of parseSize; zero is "".
func formatSize(n int64) string {
	if n == 0 {
		return ""
	}
	for i := len(units) - 1; i >= 0; i-- {
		if b := int64(units[i].bytes); n%b == 0 {
			return strconv.FormatInt(n/b, 10) + units[i].suffix
		}
	}
	return strconv.FormatInt(n, 10)
}
