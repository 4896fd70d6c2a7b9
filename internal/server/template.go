package server

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/container"
	"github.com/sandpool/sandpool/internal/erofs"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/interpreter"
	"github.com/sandpool/sandpool/internal/oci"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/server/engine"
)

// defaultImage is the image that a first pool needs.
const defaultImage = "python"

// languages are the languages of code pools, by kind: the names of their kernels, and of the images
// that pools have which name none.
func languages() map[sandpool.ContainerType]string {
	return map[sandpool.ContainerType]string{
		sandpool.PythonLTS: defaultImage,
		sandpool.NodeLTS:   "node",
		sandpool.Shell:     "shell",
	}
}

// kinds are the container types that this server makes sandboxes of.
func (c Config) kinds() []sandpool.ContainerType {
	kinds := slices.Sorted(maps.Keys(languages()))
	if c.Engine == engine.InKubernetes { // those that it has images of
		has := c.Kubernetes.Languages()
		kinds = slices.DeleteFunc(kinds, func(k sandpool.ContainerType) bool {
			return !slices.Contains(has, languages()[k])
		})
	}
	return append(kinds, sandpool.CustomContainer)
}

// templates turns pools into templates.
type templates struct {
	cfg    Config
	images *image.Store
	agent  sandbox.Layer
	pods   *engine.Code // nil unless sandboxes are pods
	// authority is the certificate, in PEM, under which the TLS of hosts with credentials is ended.
	authority string
}

// authorities are those that the sandboxes of a pool are to trust.
func (t *templates) authorities(n sandpool.Network) string {
	if !n.Enabled() || !n.EndsTLS() {
		return ""
	}
	return t.authority
}

// newTemplates packs the agent program into the read-only layer that every
// interpreter sandbox mounts.
func newTemplates(ctx context.Context, cfg Config, images *image.Store,
	registries *oci.Client) (*templates, error) {
	if cfg.Engine == engine.InKubernetes { // whose nodes bring the agent
		return &templates{cfg: cfg, images: images, pods: engine.NewCode(cfg.Kubernetes,
			registries)}, nil
	}
	program, err := cfg.agentProgram()
	if err != nil {
		return nil, err
	}
	if r := checkAgent(program); !r.OK {
		return nil, sandpool.Errorf(sandpool.Invalid, "", "agent",
			"The program sandpool-agent is missing: %s. %s", r.Detail, r.Fix)
	}
	layer, err := packAgent(ctx, filepath.Join(cfg.DataDir, "layers"), program)
	if err != nil {
		return nil, fmt.Errorf("pack the agent %q: %w", program, err)
	}
	return &templates{cfg: cfg, images: images, agent: layer}, nil
}

// packAgent makes an image of the agent program. An earlier one goes when no sandbox that was
// started with it is left.
func packAgent(ctx context.Context, dir, program string) (sandbox.Layer, error) {
	store, err := image.Open(dir)
	if err != nil {
		return sandbox.Layer{}, err
	}
	entry, err := erofs.HostFile(path.Base(agent.Path), 0o755, program)
	if err != nil {
		return sandbox.Layer{}, err
	}
	img, err := store.Put(ctx, "agent", []erofs.Entry{entry})
	if err != nil {
		return sandbox.Layer{}, err
	}
	if _, err := store.Prune(nil); err != nil {
		return sandbox.Layer{}, err
	}
	return img.Layer(path.Dir(agent.Path)), nil
}

// guest is what runs in the sandboxes of code pools.
func (t *templates) guest(within *interpreter.Set) pool.Guest {
	g := pool.Guest{Template: t.template, Init: within.Init, Alive: within.Alive}
	if t.pods != nil {
		g.SecretVar, g.Renews = agent.SecretVar, true
	}
	return g
}

// template implements pool.Guest.Template.
func (t *templates) template(ctx context.Context, p sandpool.Pool,
	_ sandpool.Secrets) (sandbox.Template, error) {
	language, ok := languages()[p.Spec.Kind]
	if !ok {
		return sandbox.Template{}, sandpool.Errorf(sandpool.Unsupported, "", "containerType",
			"This server runs no code of kind %s.", p.Spec.Kind)
	}
	name := cmp.Or(p.Spec.Image, language)
	if t.pods != nil {
		out, err := t.pods.Template(ctx, p, name, language)
		out.Limits, out.Network = t.limits(p.Spec.Resources), p.Spec.Network
		return out, err
	}
	img, err := t.images.Resolve(name)
	if err != nil && p.Spec.Image == "" && sandpool.ClassOf(err) == sandpool.NotFound {
		return sandbox.Template{}, sandpool.Errorf(sandpool.NotFound, "ImageNotFound", "image",
			"There is no image %q, which pools of kind %s run in. Build it: sandpool image build %s",
			name, p.Spec.Kind, language)
	}
	if err != nil {
		return sandbox.Template{}, fmt.Errorf("image %q: %w", name, err)
	}
	return sandbox.Template{
		Root:   sandbox.Image{Reference: name, Digest: img.Digest},
		Layers: []sandbox.Layer{t.agent},
		Args:   agent.Args(language),
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"LANG=C.UTF-8", "HOME=/root"},
		Dir: "/",

		Capabilities: agent.Capabilities(),

		HostFiles: sandbox.ResolverFile, // the agent writes the others after a restore

		Channel: true,
		Logs:    true, // what kernels put out, which the agent passes on
		Ready:   agent.Ready(),
		Start:   sandbox.Restore,
		Limits:  t.limits(p.Spec.Resources),
		Network: p.Spec.Network,

		Authorities: t.authorities(p.Spec.Network),
	}, nil
}

// limits fills what the pool leaves open with the server's defaults.
func (t *templates) limits(r sandpool.Resources) sandpool.Resources {
	d := t.cfg.Sandbox.resources()
	return sandpool.Resources{
		CPU:    cmp.Or(r.CPU, d.CPU),
		Memory: cmp.Or(r.Memory, d.Memory),
		PIDs:   cmp.Or(r.PIDs, d.PIDs),
		Disk:   cmp.Or(r.Disk, d.Disk),
	}
}

// newContainers makes what knows of custom containers. The nodes of a cluster pull images by
// themselves.
func (s *Server) newContainers(registries *oci.Client,
	code *templates) (*container.Containers, error) {
	options := container.Options{Server: s.cfg.imageUser(), Limits: code.limits,
		Authorities: code.authorities, Pulled: s.pulled}
	if s.cfg.Engine == engine.InKubernetes {
		options.ByNodes = true
		return container.New(oci.Inspector{Client: registries}, options)
	}
	return container.New(registries, options)
}
