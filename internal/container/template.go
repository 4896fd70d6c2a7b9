package container

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/oci"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// searchPath is where programs are looked for if the image does not say.
const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// startupPeriod is the longest time between two attempts of the check that stands in for a
// Startup probe: a container that listens is ready at once.
const startupPeriod = 250 * time.Millisecond

// restores reports whether the pool's sandboxes come from a snapshot.
func restores(s sandpool.Spec) bool {
	if s.WarmStart.Mode != sandpool.StartBySnapshot || s.Identity.Used() {
		return false // with an identity each container has environment of its own
	}
	for _, e := range s.Container.Env {
		if e.SecretRef != "" {
			return false // a snapshot would hold it
		}
	}
	return true
}

// template implements pool.Guest.Template: it brings the image here and says what to do with it.
func (c *Containers) template(ctx context.Context, p sandpool.Pool,
	secrets sandpool.Secrets) (sandbox.Template, error) {
	img, root, err := c.fetch(ctx, p, secrets)
	if err != nil {
		return sandbox.Template{}, fmt.Errorf("image %q: %w", p.Spec.Image, err)
	}
	t := sandbox.Template{
		Root:         root,
		Capabilities: sandbox.DefaultCapabilities(),
		Setuid:       true,
		HostFiles:    sandbox.AllHostFiles,
		Logs:         true,
		Grace:        grace(p.Spec.Container),
		Start:        sandbox.Boot,
		Limits:       c.options.Limits(p.Spec.Resources),
		Network:      p.Spec.Network,
	}
	if c.options.Authorities != nil {
		t.Authorities = c.options.Authorities(p.Spec.Network)
	}
	if restores(p.Spec) {
		t.Start = sandbox.Restore
	}
	t.Ready = startup(p.Spec)
	return t, run(&t, img.Config, p.Spec.Container, secrets)
}

// fetch returns the pool's image, as it was when the pool was made or its image was changed.
func (c *Containers) fetch(ctx context.Context, p sandpool.Pool,
	secrets sandpool.Secrets) (img image.Image, root sandbox.Image, err error) {
	ref, err := oci.ParseReference(p.Spec.Image)
	if err != nil {
		return img, root, err
	}
	cred, err := credentials(p.Spec.Container.Registry, ref, secrets)
	if err != nil {
		return img, root, err
	}
	pinned := ref
	pinned.Tag, pinned.Digest = "", p.ImageDigest
	at := pinned.String()
	if p.ImageDigest == "" {
		if at, err = c.images.Resolve(ctx, p.Spec.Image, cred); err != nil {
			return img, root, err
		}
	}
	img, err = c.pull(ctx, p.ID, oci.Request{Pinned: at, Reference: p.Spec.Image,
		User: User(c.options.Server, p.ID), Credentials: cred})
	if err == nil && img.Config == nil {
		err = sandpool.Errorf(sandpool.Invalid, oci.CodeNotImage, "image",
			"%s names no process to run; give the pool a command.", p.Spec.Image)
	}
	root = sandbox.Image{Reference: p.Spec.Image, Digest: img.Manifest}
	if c.options.ByNodes {
		root.Reference = ref.String()
		if cred.Username != "" {
			root.Username, root.Password = cred.Username, sandpool.NewSecret(cred.Password)
		}
	}
	return img, root, err
}

// credentials are what the registry of ref is shown. Those of another registry stay here.
func credentials(r sandpool.Registry, ref oci.Reference,
	secrets sandpool.Secrets) (oci.Credentials, error) {
	if r.Username == "" || r.Server != "" && !strings.EqualFold(r.Server, ref.Host) {
		return oci.Credentials{}, nil
	}
	password, ok := secrets[r.PasswordRef]
	if !ok {
		return oci.Credentials{}, sandpool.Errorf(sandpool.Invalid, "",
			"properties.customContainerTemplate.registryCredentials.passwordSecretRef",
			"The pool has no secret %q, which its registry's credentials name.", r.PasswordRef)
	}
	return oci.Credentials{Username: r.Username, Password: password.Reveal()}, nil
}

// User is how the image store knows that a pool of a server uses an image. Servers that share the
// store may have pools of the same name.
func User(server string, id sandpool.PoolID) string { return userPrefix + server + " " + id.Key() }

// startup is the check by which a new sandbox is ready: the pool's Startup probe, or a connection
// to the target port.
func startup(s sandpool.Spec) sandpool.Probe {
	if p := s.Container.Startup; p != nil {
		return *p.Clone()
	}
	return sandpool.Probe{TCP: sandpool.TCPProbe{Port: s.Forwarding.Port}, Period: startupPeriod}
}

// run sets what the first process of t is.
func run(t *sandbox.Template, cfg *image.Config, c *sandpool.Container,
	secrets sandpool.Secrets) error {
	var err error
	if t.Args, err = cfg.CommandLine(c.Command, c.Args); err != nil {
		return err
	}
	t.User, t.StopSignal = cfg.User, cfg.StopSignal
	t.Dir = cmp.Or(c.Dir, cfg.WorkingDir, "/")
	set := map[string]string{}
	var order []string
	put := func(name, value string) {
		if _, ok := set[name]; !ok {
			order = append(order, name)
		}
		set[name] = value
	}
	for _, e := range append([]string{searchPath}, cfg.Env...) {
		name, value, _ := strings.Cut(e, "=")
		put(name, value)
	}
	for _, e := range c.Env {
		if e.SecretRef == "" {
			put(e.Name, e.Value)
			continue
		}
		value, ok := secrets[e.SecretRef]
		if !ok {
			return sandpool.Errorf(sandpool.Invalid,
				"", "properties.customContainerTemplate.containers[0].env",
				"The variable %s names the secret %q, which the pool does not have.", e.Name,
				e.SecretRef)
		}
		t.SecretEnv = append(t.SecretEnv, sandbox.SecretVar{Name: e.Name, Value: value})
		delete(set, e.Name)
	}
	for _, name := range order {
		if value, ok := set[name]; ok {
			t.Env = append(t.Env, name+"="+value)
		}
	}
	return nil
}
