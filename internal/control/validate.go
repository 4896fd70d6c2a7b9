package control

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/control/crowd"
	"github.com/sandpool/sandpool/internal/control/history"
	"github.com/sandpool/sandpool/internal/control/network"
	"github.com/sandpool/sandpool/internal/control/ready"
	"github.com/sandpool/sandpool/internal/pattern"
)

// Words of the resource type.
const (
	timed       = "Timed"
	dynamicType = "Dynamic"
)

// What a pool gets whose request says nothing: the defaults of az.
const (
	defaultMaxSessions   = 10
	defaultReadySessions = 5
	defaultCooldown      = 300 * time.Second
)

// parse checks the request for the pool id and returns the pool that it
// describes. old is the pool as it is, nil if there is none.
// The secrets are those of Pools.Put.
func (c *Control) parse(ctx context.Context, id sandpool.PoolID, body api.SessionPool,
	old *sandpool.Pool) (sandpool.Pool, sandpool.Secrets, error) {
	var ps problems
	props := body.Properties
	if props == nil {
		props = &api.SessionPoolProperties{}
	}
	p := sandpool.Pool{ID: id, Location: body.Location, Tags: body.Tags}
	if old != nil {
		p = *old
		p.Tags, p.Spec = body.Tags, sandpool.Spec{Secrets: old.Spec.Secrets}
	} else if id.Name != strings.ToLower(id.Name) {
		ps.add(sandpool.Invalid, "InvalidSessionPoolName", "sessionPoolName",
			"The session pool name %q has capitals. Use lower-case letters, digits and hyphens.",
			id.Name)
	}
	c.parsePlace(&ps, &p, body, old)
	custom := c.isCustom(props, old)
	refuse(&ps, props, custom)
	if err := c.parseIdentity(ctx, &ps, &p, body.Identity, props, old); err != nil {
		return p, nil, err
	}
	c.parseType(&ps, &p, props, old)
	c.parseScale(&ps, &p, props.ScaleConfiguration)
	c.parseLifecycle(&ps, &p, props.DynamicPoolConfiguration)
	parseMCP(&ps, &p, props.McpServerSettings)
	c.parseNetwork(&ps, &p, props)
	c.parseSandpool(&ps, &p, props.Sandpool, custom)
	c.parseHistory(&ps, &p, props.Sandpool, old)
	secrets := parseSecrets(&ps, props.Secrets)
	names := secrets.Names()
	if secrets == nil {
		names = slices.Sorted(maps.Keys(p.Spec.Secrets))
	}
	checkCredentials(&ps, p.Spec.Network.Credentials, secrets, names)
	if custom {
		c.parseContainer(&ps, &p, props, names)
	}
	return p, secrets, ps.err()
}

// The bounds of tags are those of Resource Manager.
const (
	maxTags     = 50
	maxTagName  = 512
	maxTagValue = 256
)

var locationName = pattern.Lazy(`^[A-Za-z0-9][A-Za-z0-9 ._-]*$`)

// parsePlace reads the location and the tags. A pool cannot move.
func (c *Control) parsePlace(ps *problems, p *sandpool.Pool, body api.SessionPool,
	old *sandpool.Pool) {
	known, _ := c.locations()
	switch {
	case old != nil && body.Location != "" &&
		sandpool.PlainLocation(body.Location) != sandpool.PlainLocation(old.Location):
		ps.add(sandpool.Conflict, "InvalidResourceLocation", "location",
			"The session pool is in %q and cannot move to %q. Delete it and create it there.",
			old.Location, body.Location)
	case old == nil && body.Location == "":
		p.Location = known[0]
	case old == nil && (len(body.Location) > 90 || !locationName().MatchString(body.Location)):
		ps.invalid("location", "location is %q; use up to 90 letters, digits and spaces.",
			body.Location)
	case old == nil:
		var ok bool
		if p.Location, ok = c.location(body.Location); !ok {
			ps.invalid("location", "This server has no location %q; it has %s.", body.Location,
				strings.Join(known, ", "))
		}
	}
	if len(body.Tags) > maxTags {
		ps.invalid("tags", "tags has %d entries; use at most %d.", len(body.Tags), maxTags)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(body.Tags)) {
		if value := body.Tags[name]; name == "" || len(name) > maxTagName ||
			len(value) > maxTagValue || hasControl(name) || hasControl(value) {
			ps.invalid("tags",
				"The tag %.60q is not allowed. Use a name of 1 to %d and a value of up to %d characters, without control characters.",
				name, maxTagName, maxTagValue)
		}
	}
}

func hasControl(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0
}

// isCustom reports whether the request is for a pool of custom containers, which this server
// builds; parseType reports the others.
func (c *Control) isCustom(props *api.SessionPoolProperties, old *sandpool.Pool) bool {
	kind := props.ContainerType
	if kind == "" && old != nil {
		kind = string(old.Spec.Kind)
	}
	return strings.EqualFold(kind, string(sandpool.CustomContainer)) &&
		slices.Contains(c.o.Kinds, sandpool.CustomContainer)
}

// parseType reads what a pool's sandboxes run, which never changes.
func (c *Control) parseType(ps *problems, p *sandpool.Pool, props *api.SessionPoolProperties,
	old *sandpool.Pool) {
	const target = "properties.containerType"
	known := []sandpool.ContainerType{sandpool.PythonLTS, sandpool.NodeLTS, sandpool.Shell,
		sandpool.CustomContainer}
	want := sandpool.PythonLTS
	if props.ContainerType != "" {
		i := slices.IndexFunc(known, func(t sandpool.ContainerType) bool {
			return strings.EqualFold(string(t), props.ContainerType)
		})
		if i < 0 {
			ps.invalid(target, "%s is %q; use %s.", target, props.ContainerType, c.kinds())
			return
		}
		want = known[i]
	} else if old != nil {
		want = old.Spec.Kind
	}
	switch {
	case old != nil && want != old.Spec.Kind:
		ps.add(sandpool.Conflict, codeImmutable, target,
			"%s is %s and cannot become %s. Delete the session pool and create it again.", target,
			old.Spec.Kind, want)
	case !slices.Contains(c.o.Kinds, want):
		ps.add(sandpool.Unsupported, codeUnsupported, target,
			"%s: this server does not support %s. Use %s.", target, want, c.kinds())
	}
	p.Spec.Kind = want
}

// kinds lists the container types that this server builds, for a sentence.
func (c *Control) kinds() string {
	names := make([]string, len(c.o.Kinds))
	for i, k := range c.o.Kinds {
		names[i] = string(k)
	}
	return strings.Join(names, ", ")
}

func (c *Control) parseScale(ps *problems, p *sandpool.Pool, s *api.ScaleConfiguration) {
	const (
		maxTarget   = "properties.scaleConfiguration.maxConcurrentSessions"
		readyTarget = "properties.scaleConfiguration.readySessionInstances"
	)
	if s == nil {
		s = &api.ScaleConfiguration{}
	}
	p.MaxSessions = min(defaultMaxSessions, c.o.Limits.MaxSessions)
	if s.MaxConcurrentSessions != nil {
		p.MaxSessions = *s.MaxConcurrentSessions
	}
	if p.MaxSessions < 1 || p.MaxSessions > c.o.Limits.MaxSessions {
		ps.invalid(maxTarget, "%s is %d; use 1 to %d.", maxTarget, p.MaxSessions,
			c.o.Limits.MaxSessions)
		if s.ReadySessionInstances == nil {
			return // its default would follow from a wrong number
		}
	}
	p.ReadySessions = max(0, min(defaultReadySessions, p.MaxSessions-1))
	if s.ReadySessionInstances != nil {
		p.ReadySessions = *s.ReadySessionInstances
	}
	if p.ReadySessions < 0 || p.ReadySessions >= p.MaxSessions && p.ReadySessions != 0 {
		ps.add(sandpool.Invalid, codeReady, readyTarget,
			"%s is %d; it must be at least 0 and smaller than maxConcurrentSessions, which is %d.",
			readyTarget, p.ReadySessions, p.MaxSessions)
	}
}

// parseLifecycle reads both forms of dynamicPoolConfiguration.
func (c *Control) parseLifecycle(ps *problems, p *sandpool.Pool, d *api.DynamicPoolConfiguration) {
	const target = "properties.dynamicPoolConfiguration"
	if d == nil {
		d = &api.DynamicPoolConfiguration{}
	}
	lifecycle, seconds, at := d.ExecutionType, d.CooldownPeriodInSeconds, target
	field := target + ".executionType"
	if l := d.LifecycleConfiguration; l != nil {
		if lifecycle != "" && l.LifecycleType != "" &&
			!strings.EqualFold(lifecycle, l.LifecycleType) ||
			seconds != nil && l.CooldownPeriodInSeconds != nil &&
				*seconds != *l.CooldownPeriodInSeconds {
			ps.invalid(target,
				"%s says one thing by itself and another in lifecycleConfiguration. Use one of the two forms.", target)
			return
		}
		if l.LifecycleType != "" {
			lifecycle, field = l.LifecycleType, target+".lifecycleConfiguration.lifecycleType"
		}
		if l.CooldownPeriodInSeconds != nil {
			seconds, at = l.CooldownPeriodInSeconds, target+".lifecycleConfiguration"
		}
	}
	onExit := strings.EqualFold(lifecycle, string(sandpool.OnContainerExit))
	switch {
	case onExit && p.Spec.Kind != sandpool.CustomContainer:
		ps.unsupported(field, "the lifecycle type OnContainerExit of pools other than "+
			string(sandpool.CustomContainer))
	case onExit && seconds != nil:
		ps.invalid(at+".cooldownPeriodInSeconds",
			"%s.cooldownPeriodInSeconds has no meaning with %s: a session lives until its container exits. Leave it out.",
			at, sandpool.OnContainerExit)
	case lifecycle != "" && !onExit && !strings.EqualFold(lifecycle, timed):
		ps.invalid(field, "%s is %q; use %s or %s.", field, lifecycle, timed,
			sandpool.OnContainerExit)
	}
	c.parseMaxAlive(ps, p, target+".lifecycleConfiguration.maxAlivePeriodInSeconds",
		d.LifecycleConfiguration, onExit)
	c.parseCooldown(ps, p, at+".cooldownPeriodInSeconds", seconds)
}

// The longest life of a session that ends when its container exits: what it is by default, as in
// az, and what it can be.
const (
	defaultMaxAlive = time.Hour
	mostMaxAlive    = 7 * 24 * time.Hour
)

func (c *Control) parseMaxAlive(ps *problems, p *sandpool.Pool, target string,
	l *api.LifecycleConfiguration, onExit bool) {
	var seconds *int
	if l != nil {
		seconds = l.MaxAlivePeriodInSeconds
	}
	switch {
	case !onExit && seconds != nil && p.Spec.Kind != sandpool.CustomContainer:
		ps.unsupported(target, "the lifecycle type OnContainerExit of pools other than "+
			string(sandpool.CustomContainer))
	case !onExit && seconds != nil:
		ps.invalid(target, "%s is for the lifecycle type %s; leave it out.", target,
			sandpool.OnContainerExit)
	case !onExit:
		p.Spec.Lifecycle = sandpool.Lifecycle{Type: sandpool.Timed}
	default:
		p.Spec.Lifecycle = sandpool.Lifecycle{Type: sandpool.OnContainerExit,
			MaxAlive: defaultMaxAlive}
		least, most := int((c.o.Limits.MinCooldown+time.Second-1)/time.Second), int(
			mostMaxAlive/time.Second)
		if seconds != nil && (*seconds < least || *seconds > most) {
			ps.invalid(target, "%s is %d; use %d to %d.", target, *seconds, least, most)
		} else if seconds != nil {
			p.Spec.Lifecycle.MaxAlive = time.Duration(*seconds) * time.Second
		}
	}
}

func (c *Control) parseCooldown(ps *problems, p *sandpool.Pool, target string, seconds *int) {
	l := c.o.Limits
	p.Cooldown = min(max(defaultCooldown, l.MinCooldown), l.MaxCooldown)
	if seconds == nil {
		return
	}
	least, most := int((l.MinCooldown+time.Second-1)/time.Second), int(l.MaxCooldown/time.Second)
	// compared as seconds: as a Duration a large number would overflow
	if *seconds < least || *seconds > most {
		ps.invalid(target, "%s is %d; use %d to %d.", target, *seconds, least, most)
		return
	}
	p.Cooldown = time.Duration(*seconds) * time.Second
}

func (c *Control) parseNetwork(ps *problems, p *sandpool.Pool, props *api.SessionPoolProperties) {
	var egress *api.Egress
	var bandwidth int64
	if props.Sandpool != nil && props.Sandpool.Egress != nil {
		egress = props.Sandpool.Egress
		bandwidth = parseBytes(ps, "properties.sandpool.egress.bandwidth", egress.Bandwidth, 1, 0)
	}
	is, wrong := network.Parse(c.o.Network, props.SessionNetworkConfiguration, egress, bandwidth)
	p.Spec.Network = is
	*ps = append(*ps, wrong...)
}

// checkCredentials reports credentials whose secret the pool will not have, or that is no value of
// a header. names are the secrets that it will have, and secrets those of the request.
func checkCredentials(ps *problems, list []sandpool.Credential, secrets sandpool.Secrets,
	names []string) {
	for i, c := range list {
		at := fmt.Sprintf("properties.sandpool.egress.credentials[%d].secretRef", i)
		if checkRef(ps, at, c.SecretRef, names); c.SecretRef == sandpool.MCPKey {
			ps.invalid(at, "%s names the key of the MCP endpoint, which is for callers.", at)
		}
		if !httpguts.ValidHeaderFieldValue(secrets[c.SecretRef].Reveal()) {
			ps.invalid("properties.secrets", "The secret %.60q, which is for a header, has a line "+
				"break or another control character in it.", c.SecretRef)
		}
	}
}

// parseHistory reads whether what sessions run is kept. A pool that has asked for it may go on to
// ask where that has been turned off for all.
func (c *Control) parseHistory(ps *problems, p *sandpool.Pool, s *api.SandpoolSettings,
	old *sandpool.Pool) {
	if s == nil {
		return
	}
	off := c.o.NoHistory && (old == nil || old.Spec.History == nil)
	plan, bad := ready.Parse(s.ReadySchedule, s.ReadyForecast, p.MaxSessions)
	p.Spec.Ready, *ps = plan, append(*ps, bad...)
	how, wrong := history.Parse(s.History, p.Spec.Kind, off)
	if p.Spec.History = how; wrong != nil {
		*ps = append(*ps, wrong)
	}
}

// The least that a sandbox with an interpreter works in.
const (
	minCPU    = 0.1
	minMemory = 256 << 20
	minPIDs   = 128
	minDisk   = 16 << 20
)

var imageName = pattern.Lazy(`^[A-Za-z0-9][A-Za-z0-9._/:@+-]*$`)

// parseSandpool reads the settings of sandpool's own. Absent ones are the
// server's defaults, which are zeros in a Pool.
func (c *Control) parseSandpool(ps *problems, p *sandpool.Pool, s *api.SandpoolSettings,
	custom bool) {
	const target = "properties.sandpool."
	if s == nil {
		s = &api.SandpoolSettings{}
	}
	most := c.o.Limits.Resources
	if s.PIDs != nil {
		p.Spec.Resources.PIDs = *s.PIDs
		if *s.PIDs < minPIDs || most.PIDs > 0 && *s.PIDs > most.PIDs {
			ps.invalid(target+"pids", "%spids is %d; use %s.", target, *s.PIDs,
				span(fmt.Sprint(minPIDs), fmt.Sprint(most.PIDs), most.PIDs > 0))
		}
	}
	p.Spec.Resources.Disk = parseBytes(ps, target+"disk", s.Disk, minDisk, most.Disk)
	parseWarmStart(ps, p, s, custom)
	parseCrowd(ps, p, s)
	if custom {
		return // the rest is where Azure has it
	}
	p.Spec.Image = s.Image
	if s.Image != "" && (len(s.Image) > 255 || !imageName().MatchString(s.Image) ||
		strings.Contains(s.Image, "..")) {
		ps.invalid(target+"image",
			"%simage is %q; use the name of an image as 'sandpool image list' shows it.",
			target, s.Image)
	}
	p.Spec.Resources.CPU = parseCPU(ps, target+"cpu", s.CPU, most.CPU)
	p.Spec.Resources.Memory = parseBytes(ps, target+"memory", s.Memory, minMemory, most.Memory)
	if s.WorkingDir != "" || len(s.Ports) > 0 || s.KeepAuthorization || s.KeepCookies ||
		s.Transport != "" || s.TunnelIdleInSeconds != nil {
		ps.invalid("properties.sandpool",
			"workingDir, ports, keepAuthorization, keepCookies, transport and tunnelIdleInSeconds "+
				"in properties.sandpool are for pools of type %s.", sandpool.CustomContainer)
	}
}

// parseCPU reads a number of cores; none is zero, the server's default. A most of zero is no bound.
func parseCPU(ps *problems, target string, cores *float64, most float64) float64 {
	if cores == nil {
		return 0
	}
	if *cores < minCPU || most > 0 && *cores > most {
		ps.invalid(target, "%s is %g; use %s cores.", target, *cores,
			span(fmt.Sprint(minCPU), fmt.Sprint(most), most > 0))
	}
	return *cores
}

// parseWarmStart reads how ready sandboxes are made. Code pools always restore a snapshot.
func parseWarmStart(ps *problems, p *sandpool.Pool, s *api.SandpoolSettings, custom bool) {
	const target = "properties.sandpool.warmStart"
	w := sandpool.WarmStart{Mode: sandpool.StartMode(strings.ToLower(s.WarmStart)),
		Hook: s.WarmStartHook}
	switch {
	case w == (sandpool.WarmStart{}):
		return
	case !custom:
		ps.invalid(target, "%s and warmStartHook are for pools of type %s.", target,
			sandpool.CustomContainer)
	case w.Mode != "" && w.Mode != sandpool.StartByBoot && w.Mode != sandpool.StartBySnapshot:
		ps.invalid(target, "%s is %.60q; use %s or %s.", target, s.WarmStart, sandpool.StartByBoot,
			sandpool.StartBySnapshot)
	case w.Hook != "" && w.Mode != sandpool.StartBySnapshot:
		ps.invalid(target+"Hook", "%sHook is called after a restore; set %s to %s as well.",
			target, target, sandpool.StartBySnapshot)
	case w.Hook != "" && (!strings.HasPrefix(w.Hook, "/") || len(w.Hook) > 2048 ||
		strings.ContainsAny(w.Hook, " #") || hasControl(w.Hook)):
		ps.invalid(target+"Hook",
			"%sHook is %.120q; use a path that begins with a slash, without spaces.",
			target, w.Hook)
	}
	p.Spec.WarmStart = w
}

// parseCrowd reads what a full pool does with further callers.
func parseCrowd(ps *problems, p *sandpool.Pool, s *api.SandpoolSettings) {
	queue, wrong := crowd.Queue(s.Queue)
	idle, bad := crowd.EvictIdle(s.EvictIdleAfterInSeconds, p.Spec.Lifecycle.Type)
	p.Spec.Queue, p.Spec.EvictIdle = queue, idle
	for _, e := range []*sandpool.Error{wrong, bad} {
		if e != nil {
			*ps = append(*ps, e)
		}
	}
}

func parseBytes(ps *problems, target, s string, least, most int64) int64 {
	if s == "" {
		return 0
	}
	n, ok := parseSize(s)
	if !ok || n < least || most > 0 && n > most {
		ps.invalid(target, "%s is %q; use %s, written as 512Mi or 1.5Gi.", target,
			s, span(formatSize(least), formatSize(most), most > 0))
	}
	return n
}

// span words a range for people.
func span(least, most string, bounded bool) string {
	if !bounded {
		return "at least " + least
	}
	return least + " to " + most
}
