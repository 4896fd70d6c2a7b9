package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/sandpool/sandpool/api"
)

// poolSettings are the flags that create and update share. Their names are those
// of "az containerapp sessionpool". All of them reach the server, which says what
// it does not serve; nothing is dropped on the way.
type poolSettings struct {
	MaxSessions    *int     `help:"Most sessions at the same time (a new pool: 10)." placeholder:"N"`
	ReadySessions  *int     `help:"Sandboxes kept ready (a new pool: 5)." placeholder:"N"`
	CooldownPeriod *int     `help:"Seconds without a request after which a session ends (a new pool: 300)." placeholder:"SECONDS"`
	LifecycleType  string   `help:"Timed. OnContainerExit is not served yet." placeholder:"TYPE"`
	MaxAlivePeriod *int     `help:"Longest life of a session, with OnContainerExit; not served yet." placeholder:"SECONDS"`
	NetworkStatus  string   `help:"EgressDisabled. EgressEnabled is not served yet." placeholder:"STATUS"`
	CPU            *float64 `name:"cpu" help:"Cores of one sandbox." placeholder:"CORES"`
	Memory         string   `help:"Memory of one sandbox, such as 1.0Gi." placeholder:"SIZE"`
	Image          string   `short:"i" help:"Image of the sandboxes." placeholder:"IMAGE"`
	Tags           []string `help:"Tags, KEY=VALUE each." sep:"none" placeholder:"KEY=VALUE"`
	NoWait         bool     `help:"Do not wait until the pool can be used."`

	Environment   string   `group:"later" help:"Managed environment." placeholder:"ID"`
	ContainerName string   `group:"later" help:"Name of the container." placeholder:"NAME"`
	Command       []string `group:"later" help:"Command line to start." sep:"none" placeholder:"WORD"`
	Args          []string `group:"later" help:"Arguments of the command." sep:"none" placeholder:"WORD"`
	TargetPort    *int     `group:"later" help:"Port that the container serves." placeholder:"PORT"`
	EnvVars       []string `group:"later" help:"Environment, KEY=VALUE or KEY=secretref:NAME each." sep:"none" placeholder:"KEY=VALUE"`
	Secrets       []string `group:"later" short:"s" help:"Secrets, NAME=VALUE each." sep:"none" placeholder:"NAME=VALUE"`

	RegistryServer   string `group:"later" help:"Registry of the image." placeholder:"HOST"`
	RegistryUsername string `group:"later" help:"User of the registry." placeholder:"NAME"`
	RegistryPassword string `group:"later" help:"Password of the registry." placeholder:"PASSWORD"`
	RegistryIdentity string `group:"later" help:"Identity that pulls the image." placeholder:"ID"`

	MISystemAssigned bool     `name:"mi-system-assigned" group:"later" help:"Give sessions a system-assigned identity."`
	MIUserAssigned   []string `name:"mi-user-assigned" group:"later" help:"Identities of sessions." placeholder:"ID"`
}

// empty reports whether no setting was given.
func (s poolSettings) empty() bool {
	s.NoWait = false
	return reflect.ValueOf(s).IsZero()
}

// body returns the settings as a resource: whole for a PUT, a merge patch for a PATCH.
func (s *poolSettings) body(kind string) (api.SessionPool, error) {
	tags, err := pairs("tags", s.Tags)
	if err != nil {
		return api.SessionPool{}, err
	}
	if s.CPU != nil && (math.IsNaN(*s.CPU) || math.IsInf(*s.CPU, 0)) {
		return api.SessionPool{}, usageError(fmt.Sprintf("--cpu %v: give a number of cores, such as 0.5", *s.CPU))
	}
	props := &api.SessionPoolProperties{EnvironmentID: s.Environment}
	if s.MaxSessions != nil || s.ReadySessions != nil {
		props.ScaleConfiguration = &api.ScaleConfiguration{MaxConcurrentSessions: s.MaxSessions, ReadySessionInstances: s.ReadySessions}
	}
	if s.CooldownPeriod != nil || s.MaxAlivePeriod != nil || s.LifecycleType != "" {
		life := s.LifecycleType
		if life == "" && s.CooldownPeriod != nil {
			life = "Timed"
		}
		props.DynamicPoolConfiguration = &api.DynamicPoolConfiguration{LifecycleConfiguration: &api.LifecycleConfiguration{
			LifecycleType: life, CooldownPeriodInSeconds: s.CooldownPeriod, MaxAlivePeriodInSeconds: s.MaxAlivePeriod}}
	}
	if s.NetworkStatus != "" {
		props.SessionNetworkConfiguration = &api.SessionNetworkConfiguration{Status: s.NetworkStatus}
	}
	pool := api.SessionPool{Tags: tags, Properties: props}
	if strings.EqualFold(kind, "CustomContainer") || s.customOnly() {
		err = s.custom(props)
	} else if s.CPU != nil || s.Memory != "" || s.Image != "" {
		props.Sandpool = &api.SandpoolSettings{Image: s.Image, CPU: s.CPU, Memory: s.Memory}
	}
	s.identity(&pool)
	return pool, err
}

// customOnly reports whether a flag was given that means a custom container.
func (s *poolSettings) customOnly() bool {
	return s.ContainerName != "" || len(s.Command) > 0 || len(s.Args) > 0 || s.TargetPort != nil || len(s.EnvVars) > 0 ||
		len(s.Secrets) > 0 || s.RegistryServer != "" || s.RegistryUsername != "" || s.RegistryPassword != "" || s.RegistryIdentity != ""
}

// custom fills the template of custom containers.
func (s *poolSettings) custom(props *api.SessionPoolProperties) error {
	env, err := s.environment()
	if err != nil {
		return err
	}
	container := api.Container{Image: s.Image, Name: s.ContainerName, Command: s.Command, Args: s.Args, Env: env}
	if s.CPU != nil || s.Memory != "" {
		container.Resources = &api.ContainerResources{CPU: s.CPU, Memory: s.Memory}
	}
	template := &api.CustomContainerTemplate{Containers: []api.Container{container}}
	if s.TargetPort != nil {
		template.Ingress = &api.Ingress{TargetPort: s.TargetPort}
	}
	secrets, err := pairs("secrets", s.Secrets)
	if err != nil {
		return err
	}
	registry := api.RegistryCredentials{Server: s.RegistryServer, Username: s.RegistryUsername, Identity: s.RegistryIdentity}
	if s.RegistryPassword != "" {
		const name = "registry-password"
		registry.PasswordSecretRef = name
		if secrets == nil {
			secrets = map[string]string{}
		}
		secrets[name] = s.RegistryPassword
	}
	if registry != (api.RegistryCredentials{}) {
		template.RegistryCredentials = &registry
	}
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		value := secrets[name]
		props.Secrets = append(props.Secrets, api.PoolSecret{Name: name, Value: &value})
	}
	props.CustomContainerTemplate = template
	return nil
}

func (s *poolSettings) environment() ([]api.EnvironmentVar, error) {
	var env []api.EnvironmentVar
	for _, kv := range s.EnvVars {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" {
			return nil, usageError(fmt.Sprintf("--env-vars %q: write KEY=VALUE or KEY=secretref:NAME", kv))
		}
		if ref, isRef := strings.CutPrefix(value, "secretref:"); isRef {
			env = append(env, api.EnvironmentVar{Name: name, SecretRef: ref})
			continue
		}
		env = append(env, api.EnvironmentVar{Name: name, Value: &value})
	}
	return env, nil
}

// identity fills the managed identities.
func (s *poolSettings) identity(pool *api.SessionPool) {
	var kinds, ids []string
	if s.MISystemAssigned {
		kinds, ids = append(kinds, "SystemAssigned"), append(ids, "system")
	}
	if len(s.MIUserAssigned) > 0 {
		kinds, ids = append(kinds, "UserAssigned"), append(ids, s.MIUserAssigned...)
	}
	if len(kinds) == 0 {
		return
	}
	pool.Identity = &api.Identity{Type: strings.Join(kinds, ",")}
	for _, id := range ids {
		raw, err := json.Marshal(map[string]string{"identity": id, "lifecycle": "Main"})
		if err == nil { // two strings always encode
			pool.Properties.ManagedIdentitySettings = append(pool.Properties.ManagedIdentitySettings, raw)
		}
	}
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
			return nil, usageError(fmt.Sprintf("--%s %q: write KEY=VALUE", flag, kv))
		}
		m[k] = v
	}
	return m, nil
}
