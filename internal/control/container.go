package control

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/pattern"
)

// Bounds of a custom container's settings. The body of a request is bounded as a whole too.
const (
	maxWords     = 256       // of a command, and of its arguments
	maxText      = 32 << 10  // bytes of a word, a value or a secret
	maxEnv       = 256       // variables
	maxSecrets   = 100       // of a pool
	maxPorts     = 16        // that a tunnel may reach
	minContainer = 128 << 20 // bytes of memory: the sandbox's own kernel takes about 40 MiB of them
)

const templateTarget = "properties.customContainerTemplate"

var (
	secretName = pattern.Lazy(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$`)
	serverName = pattern.Lazy(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$`)
)

// parseContainer reads what only pools of custom containers have. names are the secrets that the
// pool will have.
func (c *Control) parseContainer(ps *problems, p *sandpool.Pool, props *api.SessionPoolProperties,
	names []string) {
	t, own := props.CustomContainerTemplate, props.Sandpool
	if own == nil {
		own = &api.SandpoolSettings{}
	}
	if t == nil {
		t = &api.CustomContainerTemplate{}
	}
	p.Spec.Environment = props.EnvironmentID
	if len(props.EnvironmentID) > 2048 || hasControl(props.EnvironmentID) {
		ps.invalid("properties.environmentId", "properties.environmentId is not a resource id.")
	}
	refuseInContainer(ps, t)
	if len(t.Containers) == 0 {
		ps.invalid(templateTarget+".containers",
			"%s.containers is empty; a pool of type %s needs one container with an image.",
			templateTarget, sandpool.CustomContainer)
		return
	}
	const target = templateTarget + ".containers[0]"
	one := t.Containers[0]
	out := &sandpool.Container{Name: one.Name, Command: one.Command, Args: one.Args,
		Dir: own.WorkingDir}
	if len(one.Name) > 253 || hasControl(one.Name) {
		ps.invalid(target+".name",
			"%s.name is %.60q; use up to 253 characters, without control characters.", target,
			one.Name)
	}
	p.Spec.Image = one.Image
	if one.Image == "" || len(one.Image) > 512 || !imageName().MatchString(one.Image) ||
		strings.Contains(one.Image, "..") {
		ps.invalid(target+".image",
			"%s.image is %.120q; use a reference such as registry.example/app:1.0.", target,
			one.Image)
	}
	parseWords(ps, target+".command", one.Command)
	parseWords(ps, target+".args", one.Args)
	if own.WorkingDir != "" && (!path.IsAbs(own.WorkingDir) ||
		strings.ContainsRune(own.WorkingDir, 0)) {
		ps.invalid("properties.sandpool.workingDir", "properties.sandpool.workingDir is %.120q; "+
			"use an absolute path inside the container.", own.WorkingDir)
	}
	c.parseContainerResources(ps, p, target+".resources", one.Resources, own)
	out.Env = parseEnv(ps, target+".env", one.Env, names)
	out.Registry = parseRegistry(ps, t.RegistryCredentials, names)
	parseForwarding(ps, p, t.Ingress, own)
	parseProbes(ps, out, target+".probes", one.Probes)
	p.Spec.Container = out
}

// refuseInContainer reports what Azure's container apps have and session pools do not.
func refuseInContainer(ps *problems, t *api.CustomContainerTemplate) {
	if len(t.Containers) > 1 {
		ps.unsupported(templateTarget+".containers[1]", "more than one container in a session")
	}
	if len(t.InitContainers) > 0 {
		ps.unsupported(templateTarget+".initContainers", "init containers")
	}
	if len(t.Volumes) > 0 {
		ps.unsupported(templateTarget+".volumes", "volumes")
	}
	if len(t.Containers) > 0 && len(t.Containers[0].VolumeMounts) > 0 {
		ps.unsupported(templateTarget+".containers[0].volumeMounts", "volumes")
	}
	if r := t.RegistryCredentials; r != nil && r.Identity != "" {
		const target = templateTarget + ".registryCredentials.identity"
		ps.add(sandpool.Unsupported, codeUnsupported, target, "%s: no registry takes the tokens "+
			"of this server's identities. Leave it out, and set username and passwordSecretRef.", target)
	}
}

// parseWords checks a command line.
func parseWords(ps *problems, target string, words []string) {
	if len(words) > maxWords {
		ps.invalid(target, "%s has %d entries; use at most %d.", target, len(words), maxWords)
		return
	}
	for i, w := range words {
		if len(w) > maxText || strings.ContainsRune(w, 0) {
			ps.invalid(fmt.Sprintf("%s[%d]", target, i),
				"%s[%d] has a NUL in it, or more than %d bytes.", target, i, maxText)
		}
	}
}

// parseContainerResources reads cpu and memory from where Azure has them, and the others from
// sandpool's own settings.
func (c *Control) parseContainerResources(ps *problems, p *sandpool.Pool, target string,
	r *api.ContainerResources, own *api.SandpoolSettings) {
	for name, given := range map[string]bool{"image": own.Image != "", "cpu": own.CPU != nil,
		"memory": own.Memory != ""} {
		if given {
			ps.invalid("properties.sandpool."+name,
				"properties.sandpool.%s is for code pools; set it in %s.containers[0].", name,
				templateTarget)
		}
	}
	if r == nil {
		r = &api.ContainerResources{}
	}
	most := c.o.Limits.Resources
	p.Spec.Resources.CPU = parseCPU(ps, target+".cpu", r.CPU, most.CPU)
	p.Spec.Resources.Memory = parseBytes(ps, target+".memory", r.Memory, minContainer, most.Memory)
}

// parseEnv reads the variables. One name twice has no meaning that all runtimes share.
func parseEnv(ps *problems, target string, env []api.EnvironmentVar,
	names []string) (out []sandpool.EnvVar) {
	if len(env) > maxEnv {
		ps.invalid(target, "%s has %d variables; use at most %d.", target, len(env), maxEnv)
		return nil
	}
	seen := map[string]bool{}
	for i, e := range env {
		at := fmt.Sprintf("%s[%d]", target, i)
		v := sandpool.EnvVar{Name: e.Name, SecretRef: e.SecretRef}
		if e.Value != nil {
			v.Value = *e.Value
		}
		switch {
		case e.Name == "" || len(e.Name) > 512 || strings.ContainsAny(e.Name, "=\x00"):
			ps.invalid(at+".name", "%s.name is %.60q; use 1 to 512 characters without '='.", at,
				e.Name)
		case seen[e.Name]:
			ps.invalid(at+".name",
				"%s.name is %.60q, as that of an earlier variable; name each once.", at, e.Name)
		case e.SecretRef != "" && v.Value != "":
			ps.invalid(at, "The variable %.60q has a value and a secretRef; give one of them.",
				e.Name)
		case len(v.Value) > maxText || strings.ContainsRune(v.Value, 0):
			ps.invalid(at+".value",
				"The value of the variable %.60q has a NUL in it, or more than %d bytes.", e.Name,
				maxText)
		}
		seen[e.Name] = true
		checkRef(ps, at+".secretRef", e.SecretRef, names)
		out = append(out, v)
	}
	return out
}

// checkRef reports a reference to a secret that the pool will not have.
func checkRef(ps *problems, target, ref string, names []string) {
	if ref != "" && !slices.Contains(names, ref) {
		ps.invalid(target, "%s names the secret %.60q, which is not among properties.secrets.",
			target, ref)
	}
}

func parseRegistry(ps *problems, r *api.RegistryCredentials, names []string) sandpool.Registry {
	if r == nil {
		return sandpool.Registry{}
	}
	const target = templateTarget + ".registryCredentials"
	out := sandpool.Registry{Server: r.Server, Username: r.Username,
		PasswordRef: r.PasswordSecretRef}
	if out.Server == "" {
		out.Server = r.RegistryServer
	}
	if out.Server != "" && (len(out.Server) > 255 || !serverName().MatchString(out.Server)) {
		ps.invalid(target+".server",
			"%s.server is %.120q; use a host name, with a port if it is not the usual one.", target,
			out.Server)
	}
	if (out.Username == "") != (out.PasswordRef == "") {
		ps.invalid(target, "%s needs username and passwordSecretRef together, or neither.", target)
	}
	if len(out.Username) > 256 || hasControl(out.Username) {
		ps.invalid(target+".username", "%s.username has control characters or is longer than 256.",
			target)
	}
	checkRef(ps, target+".passwordSecretRef", out.PasswordRef, names)
	return out
}

// maxTunnelIdle is a week, in seconds.
const maxTunnelIdle = 7 * 24 * 3600

func parseForwarding(ps *problems, p *sandpool.Pool, in *api.Ingress, own *api.SandpoolSettings) {
	const target = templateTarget + ".ingress.targetPort"
	p.Spec.Forwarding = sandpool.Forwarding{Ports: own.Ports,
		KeepAuthorization: own.KeepAuthorization, KeepCookies: own.KeepCookies}
	switch t := sandpool.Transport(strings.ToLower(own.Transport)); t {
	case "", sandpool.TransportHTTP, sandpool.TransportHTTP2:
		p.Spec.Forwarding.Transport = t
	default:
		ps.invalid("properties.sandpool.transport",
			"properties.sandpool.transport is %.80q; use http or http2.", own.Transport)
	}
	if idle := own.TunnelIdleInSeconds; idle != nil {
		if *idle < 1 || *idle > maxTunnelIdle {
			ps.invalid("properties.sandpool.tunnelIdleInSeconds",
				"properties.sandpool.tunnelIdleInSeconds is %d; use 1 to %d, or leave it out for "+
					"no limit.", *idle, maxTunnelIdle)
		} else {
			p.Spec.Forwarding.TunnelIdle = time.Duration(*idle) * time.Second
		}
	}
	if in == nil || in.TargetPort == nil {
		ps.invalid(target, "%s is missing; it is the port on which the container serves.", target)
		return
	}
	p.Spec.Forwarding.Port = parsePort(ps, target, in.TargetPort)
	if len(own.Ports) > maxPorts {
		ps.invalid("properties.sandpool.ports",
			"properties.sandpool.ports has %d entries; use at most %d.", len(own.Ports), maxPorts)
		return
	}
	for i := range own.Ports {
		parsePort(ps, fmt.Sprintf("properties.sandpool.ports[%d]", i), &own.Ports[i])
	}
}

func parsePort(ps *problems, target string, port *int) int {
	if port == nil || *port < 1 || *port > 65535 {
		got := "missing"
		if port != nil {
			got = fmt.Sprint(*port)
		}
		ps.invalid(target, "%s is %s; use 1 to 65535.", target, got)
		return 0
	}
	return *port
}

// parseSecrets reads the secrets: nil if the request does not speak of them, so that the pool
// keeps what it has, and a secret without a value for one that keeps its value. No message holds
// a value.
func parseSecrets(ps *problems, list []api.PoolSecret) sandpool.Secrets {
	const target = "properties.secrets"
	if list == nil {
		return nil
	}
	if len(list) > maxSecrets {
		ps.invalid(target, "%s has %d entries; use at most %d.", target, len(list), maxSecrets)
		return nil
	}
	out := sandpool.Secrets{}
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", target, i)
		_, twice := out[s.Name]
		switch {
		case !secretName().MatchString(s.Name):
			ps.invalid(at+".name", "%s.name is %.60q; use letters, digits, dots and dashes, with "+
				"a letter or digit at both ends.", at, s.Name)
		case twice:
			ps.invalid(at+".name",
				"%s.name is %.60q, as that of an earlier secret; name each once.", at, s.Name)
		case s.KeyVaultURL != "":
			ps.unsupported(at+".keyVaultUrl", "secrets in a key vault")
		case s.Identity != "":
			ps.unsupported(at+".identity", "managed identities for secrets")
		case s.Value != nil && (len(*s.Value) > maxText || strings.ContainsRune(*s.Value, 0)):
			ps.invalid(at+".value",
				"The value of the secret %.60q has a NUL in it, or more than %d bytes.", s.Name,
				maxText)
		}
		out[s.Name] = sandpool.Secret{}
		if s.Value != nil {
			out[s.Name] = sandpool.NewSecret(*s.Value)
		}
	}
	return out
}
