package pool

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// settings are the flags that create and update share. Their names are those
// of "az containerapp sessionpool". All of them reach the server, which says what
// it does not serve; nothing is dropped on the way.
type settings struct {
	MaxSessions      *int     `help:"Most sessions at the same time (a new pool: 10)." placeholder:"N"`
	ReadySessions    *int     `help:"Sandboxes kept ready (a new pool: 5)." placeholder:"N"`
	ReadySchedule    []string `help:"Sandboxes kept ready at times of the week, such as 'Mon-Fri 08:00-18:00 Europe/Berlin 50'; an empty one for none." sep:"none" placeholder:"WINDOW"`
	ReadyForecast    *int     `help:"Keep more sandboxes ready when claims come often, up to this many; 0 is none." placeholder:"N"`
	ReadyLead        *int64   `help:"Seconds that the forecast looks ahead: what a start takes (60), with --ready-forecast." placeholder:"SECONDS"`
	CooldownPeriod   *int     `help:"Seconds without a request after which a session ends (a new pool: 300)." placeholder:"SECONDS"`
	LifecycleType    string   `help:"What ends sessions: Timed, or OnContainerExit for custom containers." placeholder:"TYPE"`
	MaxAlivePeriod   *int     `help:"Longest life of a session in seconds, with OnContainerExit." placeholder:"SECONDS"`
	NetworkStatus    string   `help:"EgressDisabled, or EgressEnabled: sandboxes reach the public network, or what --egress-allow says." placeholder:"STATUS"`
	EgressAllow      []string `help:"What sandboxes with EgressEnabled may reach: names, *.names, addresses or prefixes, with :PORT; an empty one for all that is public." sep:"none" placeholder:"ENTRY"`
	EgressDeny       []string `help:"Exceptions to what they may reach, in the same form; an empty one for none." sep:"none" placeholder:"ENTRY"`
	EgressInspect    *bool    `help:"Look into connections to ports 80 and 443: what TLS and HTTP ask for must be an allowed name." negatable:""`
	EgressProxy      *bool    `help:"Leave sandboxes nothing but a proxy of HTTP, for host names alone; their environment has it." negatable:""`
	EgressCredential []string `help:"Header that requests to a host get outside the sandbox, such as 'https://api.example.com Authorization: Bearer secretref:NAME'; an empty one for none." sep:"none" placeholder:"CREDENTIAL"`
	MaxConnections   *int64   `help:"Connections of one sandbox at the same time (512)." placeholder:"N"`
	Bandwidth        string   `help:"Bytes a second of one sandbox in each direction, such as 10Mi." placeholder:"SIZE"`
	CPU              *float64 `name:"cpu" help:"Cores of one sandbox." placeholder:"CORES"`
	Memory           string   `help:"Memory of one sandbox, such as 1.0Gi." placeholder:"SIZE"`
	Image            string   `short:"i" help:"Image of the sandboxes; for custom containers a reference such as registry.example/app:1.0." placeholder:"IMAGE"`
	QueueLength      *int64   `help:"Callers that may wait for a slot of the full pool." placeholder:"N"`
	QueueWait        *int64   `help:"Seconds that each may wait, with --queue-length (10)." placeholder:"SECONDS"`
	EvictIdleAfter   *int64   `help:"When the pool is full, let a new session end the one that has been idle longest, if for at least this long; 0 is never." placeholder:"SECONDS"`
	History          *bool    `negatable:"" help:"Keep what sessions run, with how its output began, for those who may run code in them; --no-history forgets it."`
	HistoryRetention *int64   `help:"Seconds for which an execution is kept after its end (86400), with --history." placeholder:"SECONDS"`
	MCP              *bool    `name:"mcp" negatable:"" help:"Give the pool a key for its MCP endpoint; --no-mcp refuses keys."`
	Secrets          []string `short:"s" help:"Secrets of the pool, NAME=VALUE each, for --env-vars, --egress-credential and the registry." sep:"none" placeholder:"NAME=VALUE"`
	Tags             []string `help:"Tags, KEY=VALUE each." sep:"none" placeholder:"KEY=VALUE"`
	NoWait           bool     `help:"Do not wait until the pool can be used."`

	Environment   string   `group:"container" help:"Managed environment." placeholder:"ID"`
	ContainerName string   `group:"container" help:"Name of the container." placeholder:"NAME"`
	Command       []string `group:"container" help:"Command line to start." sep:"none" placeholder:"WORD"`
	Args          []string `group:"container" help:"Arguments of the command." sep:"none" placeholder:"WORD"`
	TargetPort    *int     `group:"container" help:"Port that the container serves." placeholder:"PORT"`
	EnvVars       []string `group:"container" help:"Environment, KEY=VALUE or KEY=secretref:NAME each." sep:"none" placeholder:"KEY=VALUE"`

	WorkingDir    string `group:"container" help:"Working directory (the image's)." placeholder:"DIR"`
	ExposedPorts  []int  `group:"container" help:"Ports that tunnels may reach besides the target port." placeholder:"PORT"`
	WarmStart     string `group:"container" help:"How ready sandboxes are made: boot (the default) or snapshot." placeholder:"MODE"`
	WarmStartHook string `group:"container" help:"Path to which the server posts after each restore of a snapshot." placeholder:"PATH"`
	ProbeYAML     string `name:"probe-yaml" group:"container" help:"File with a list of probes, as az takes it." placeholder:"FILE"`

	RegistryServer   string `group:"container" help:"Registry of the image." placeholder:"HOST"`
	RegistryUsername string `group:"container" help:"User of the registry." placeholder:"NAME"`
	RegistryPassword string `group:"container" help:"Password of the registry." placeholder:"PASSWORD"`
	RegistryIdentity string `group:"later" help:"Identity that pulls the image." placeholder:"ID"`

	MISystemAssigned  bool     `name:"mi-system-assigned" help:"Give the pool an identity, of which code in sessions gets tokens."`
	IdentityAudiences []string `help:"What those tokens may be for, such as https://dynamicsessions.io; an empty one for nothing." sep:"none" placeholder:"RESOURCE"`
	MIUserAssigned    []string `name:"mi-user-assigned" help:"Give the pool user-assigned identities, by their resource ids, of which code in sessions gets tokens." placeholder:"ID"`
	MIRemove          []string `name:"mi-remove" help:"Take identities from the pool: resource ids, or system for its own." placeholder:"ID"`
}

// empty reports whether no setting was given.
func (s settings) empty() bool {
	s.NoWait = false
	return reflect.ValueOf(s).IsZero()
}

// body returns the settings as a resource: whole for a PUT, a merge patch on old for a PATCH. A
// patch replaces lists whole, so what stays of a list is taken from old.
func (s *settings) body(kind string, old *api.SessionPoolProperties) (api.SessionPool, error) {
	tags, err := pairs("tags", s.Tags)
	if err != nil {
		return api.SessionPool{}, err
	}
	if s.CPU != nil && (math.IsNaN(*s.CPU) || math.IsInf(*s.CPU, 0)) {
		return api.SessionPool{},
			console.UsageError(fmt.Sprintf("--cpu %v: give a number of cores, such as 0.5", *s.CPU))
	}
	props := &api.SessionPoolProperties{EnvironmentID: s.Environment}
	if s.MaxSessions != nil || s.ReadySessions != nil {
		props.ScaleConfiguration = &api.ScaleConfiguration{MaxConcurrentSessions: s.MaxSessions,
			ReadySessionInstances: s.ReadySessions}
	}
	if s.CooldownPeriod != nil || s.MaxAlivePeriod != nil || s.LifecycleType != "" {
		life := s.LifecycleType
		if life == "" && s.CooldownPeriod != nil {
			life = "Timed"
		}
		props.DynamicPoolConfiguration = &api.DynamicPoolConfiguration{
			LifecycleConfiguration: &api.LifecycleConfiguration{
				LifecycleType: life, CooldownPeriodInSeconds: s.CooldownPeriod,
				MaxAlivePeriodInSeconds: s.MaxAlivePeriod}}
	}
	if s.NetworkStatus != "" {
		props.SessionNetworkConfiguration =
			&api.SessionNetworkConfiguration{Status: s.NetworkStatus}
	}
	if s.MCP != nil {
		props.McpServerSettings = &api.McpServerSettings{IsMcpServerEnabled: s.MCP}
	}
	pool := api.SessionPool{Tags: tags, Properties: props}
	if strings.EqualFold(kind, "CustomContainer") || s.customOnly() {
		err = s.custom(props, old)
	} else if s.CPU != nil || s.Memory != "" || s.Image != "" {
		props.Sandpool = &api.SandpoolSettings{Image: s.Image, CPU: s.CPU, Memory: s.Memory}
	}
	s.crowd(props)
	s.history(props)
	s.audiences(&pool)
	return pool, errors.Join(err, s.ready(props), s.secrets(props, old), s.egress(props))
}

// registrySecret is the name of the secret that --registry-password becomes.
const registrySecret = "registry-password"

// secrets fills in those of the flags, beside those that the pool has.
func (s *settings) secrets(props, old *api.SessionPoolProperties) error {
	given, err := pairs("secrets", s.Secrets)
	if err != nil {
		return err
	}
	if s.RegistryPassword != "" {
		if given == nil {
			given = map[string]string{}
		}
		given[registrySecret] = s.RegistryPassword
	}
	if old != nil && len(given) > 0 {
		for _, kept := range old.Secrets {
			if _, ok := given[kept.Name]; !ok {
				props.Secrets = append(props.Secrets, api.PoolSecret{Name: kept.Name})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		value := given[name]
		props.Secrets = append(props.Secrets, api.PoolSecret{Name: name, Value: &value})
	}
	return nil
}

// egress fills in what sandboxes with a network may reach. A list with nothing but an empty entry
// takes back what there was.
func (s *settings) egress(props *api.SessionPoolProperties) error {
	if len(s.EgressAllow) == 0 && len(s.EgressDeny) == 0 && s.MaxConnections == nil &&
		s.Bandwidth == "" && s.EgressInspect == nil && s.EgressProxy == nil &&
		len(s.EgressCredential) == 0 {
		return nil
	}
	if props.Sandpool == nil {
		props.Sandpool = &api.SandpoolSettings{}
	}
	props.Sandpool.Egress = &api.Egress{Allow: entries(s.EgressAllow), Deny: entries(s.EgressDeny),
		MaxConnections: s.MaxConnections, Bandwidth: s.Bandwidth, Inspect: s.EgressInspect,
		Proxy: s.EgressProxy}
	if len(s.EgressCredential) == 0 {
		return nil
	}
	var err error
	props.Sandpool.Egress.Credentials, err = credentials(s.EgressCredential)
	return err
}

// entries returns list without empty entries; of nothing but those an empty list.
func entries(list []string) []string {
	if list == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "" })
}

// crowd fills in what a full pool does with further callers.
func (s *settings) crowd(props *api.SessionPoolProperties) {
	if s.QueueLength == nil && s.QueueWait == nil && s.EvictIdleAfter == nil {
		return
	}
	if props.Sandpool == nil {
		props.Sandpool = &api.SandpoolSettings{}
	}
	props.Sandpool.EvictIdleAfterInSeconds = s.EvictIdleAfter
	if s.QueueLength != nil || s.QueueWait != nil {
		props.Sandpool.Queue = &api.Queue{Length: s.QueueLength, WaitInSeconds: s.QueueWait}
	}
}

// history fills in whether what sessions run is kept. A retention alone is of a pool that keeps it.
func (s *settings) history(props *api.SessionPoolProperties) {
	if s.History == nil && s.HistoryRetention == nil {
		return
	}
	if props.Sandpool == nil {
		props.Sandpool = &api.SandpoolSettings{}
	}
	props.Sandpool.History = &api.HistorySettings{Enabled: s.History,
		RetentionInSeconds: s.HistoryRetention}
}

// customOnly reports whether a flag was given that means a custom container.
func (s *settings) customOnly() bool {
	return s.ContainerName != "" || len(s.Command) > 0 || len(s.Args) > 0 || s.TargetPort != nil ||
		len(s.EnvVars) > 0 || s.ownSettings() != nil || s.ProbeYAML != "" ||
		s.RegistryServer != "" || s.RegistryUsername != "" || s.RegistryPassword != "" ||
		s.RegistryIdentity != ""
}

// custom fills the template of custom containers.
func (s *settings) custom(props, old *api.SessionPoolProperties) error {
	props.Sandpool = s.ownSettings()
	template := &api.CustomContainerTemplate{}
	given, err := s.container(api.Container{})
	if err != nil {
		return err
	}
	if !reflect.ValueOf(given).IsZero() || old == nil {
		if old != nil && old.CustomContainerTemplate != nil &&
			len(old.CustomContainerTemplate.Containers) > 0 {
			if given, err = s.container(old.CustomContainerTemplate.Containers[0]); err != nil {
				return err
			}
		}
		template.Containers = []api.Container{given}
	}
	if s.TargetPort != nil {
		template.Ingress = &api.Ingress{TargetPort: s.TargetPort}
	}
	registry := api.RegistryCredentials{Server: s.RegistryServer, Username: s.RegistryUsername,
		Identity: s.RegistryIdentity}
	if s.RegistryPassword != "" {
		registry.PasswordSecretRef = registrySecret
	}
	if registry != (api.RegistryCredentials{}) {
		template.RegistryCredentials = &registry
	}
	if !reflect.ValueOf(*template).IsZero() {
		props.CustomContainerTemplate = template
	}
	return nil
}

// container is c with what the flags say in its place.
func (s *settings) container(c api.Container) (api.Container, error) {
	env, err := s.environment()
	if err != nil {
		return c, err
	}
	probes, err := readProbes(s.ProbeYAML)
	if err != nil {
		return c, err
	}
	c.Image, c.Name = cmp.Or(s.Image, c.Image), cmp.Or(s.ContainerName, c.Name)
	c.Command, c.Args = someOf(s.Command, c.Command), someOf(s.Args, c.Args)
	c.Env, c.Probes = someOf(env, c.Env), someOf(probes, c.Probes)
	if s.CPU != nil || s.Memory != "" {
		was := api.ContainerResources{}
		if c.Resources != nil {
			was = *c.Resources
		}
		c.Resources = &api.ContainerResources{CPU: cmp.Or(s.CPU, was.CPU),
			Memory: cmp.Or(s.Memory, was.Memory)}
	}
	return c, nil
}

// someOf returns list, or fallback if it is empty.
func someOf[E any](list, fallback []E) []E {
	if len(list) > 0 {
		return list
	}
	return fallback
}

// ownSettings are those of custom containers that Azure's resource type has no name for; nil if
// none was given.
func (s *settings) ownSettings() *api.SandpoolSettings {
	own := api.SandpoolSettings{WarmStart: s.WarmStart, WarmStartHook: s.WarmStartHook,
		WorkingDir: s.WorkingDir, Ports: s.ExposedPorts}
	if reflect.ValueOf(own).IsZero() {
		return nil
	}
	return &own
}

// readProbes reads a list of probes from a YAML file: the list itself, or below the key "probes".
func readProbes(file string) ([]api.ContainerProbe, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, console.UsageError(fmt.Sprintf("--probe-yaml: %v", err))
	}
	var doc any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, console.UsageError(fmt.Sprintf("--probe-yaml %s: %v", file, err))
	}
	if m, ok := doc.(map[string]any); ok {
		doc = m["probes"]
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, console.UsageError(fmt.Sprintf("--probe-yaml %s: %v", file, err))
	}
	var probes []api.ContainerProbe
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&probes); err != nil {
		return nil, console.UsageError(fmt.Sprintf(
			"--probe-yaml %s: write a list of probes: %v", file, err))
	}
	return probes, nil
}

func (s *settings) environment() ([]api.EnvironmentVar, error) {
	var env []api.EnvironmentVar
	for _, kv := range s.EnvVars {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" {
			return nil, console.UsageError(fmt.Sprintf(
				"--env-vars %q: write KEY=VALUE or KEY=secretref:NAME", kv))
		}
		if ref, isRef := strings.CutPrefix(value, "secretref:"); isRef {
			env = append(env, api.EnvironmentVar{Name: name, SecretRef: ref})
			continue
		}
		env = append(env, api.EnvironmentVar{Name: name, Value: &value})
	}
	return env, nil
}

// pairs reads KEY=VALUE arguments of a flag.
func pairs(flag string, args []string) (map[string]string, error) {
	if len(args) == 0 {
		return nil, nil
	}
	m := map[string]string{}
	for _, kv := range args {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, console.UsageError(fmt.Sprintf("--%s %q: write KEY=VALUE", flag, kv))
		}
		m[k] = v
	}
	return m, nil
}

// SpreadLists lets the flags of lists be written as az writes them: once, with several values
// behind them. Each further value gets the flag again. A value of a flag of pairs has a "=" in it,
// so a pool's name may follow.
func SpreadLists(args []string) []string {
	if len(args) < 2 || args[0] != "pool" {
		return args
	}
	var out []string
	flag, pairs := "", false
	for _, arg := range args {
		switch {
		case strings.HasPrefix(arg, "-"):
			flag = ""
			switch arg {
			case "--env-vars", "--secrets", "-s", "--tags":
				flag, pairs = arg, true
			case "--command", "--args", "--mi-user-assigned", "--mi-remove":
				flag, pairs = arg, false
			}
		case flag == "" || out[len(out)-1] == flag:
		case !pairs || strings.Contains(arg, "="):
			out = append(out, flag)
		default:
			flag = ""
		}
		out = append(out, arg)
	}
	return out
}
