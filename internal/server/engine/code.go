package engine

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/oci"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// Where the program of the agent is in an image of sandpool, by which it also copies itself.
const (
	programs     = "/usr/local/bin"
	agentProgram = programs + "/sandpool-agent"
)

// The words of the setting agent.
const (
	byCopy   = "copy"
	byVolume = "volume"
)

// Digests says what references to images mean now; *oci.Client does.
type Digests interface {
	Resolve(ctx context.Context, reference string, cred oci.Credentials) (string, error)
}

// Code makes the templates of code pools whose sandboxes are pods. A pod boots: its kernel starts
// and imports what a snapshot would hold, which ready sessions have done before anybody asks.
type Code struct {
	cluster Kubernetes
	digests Digests
}

// NewCode returns a Code. digests must not be nil.
func NewCode(k Kubernetes, digests Digests) *Code { return &Code{k, digests} }

// Languages reports of which languages the cluster has an image.
func (k Kubernetes) Languages() []string {
	if k.agentImage() == "" {
		return nil
	}
	return slices.Sorted(maps.Keys(k.Images))
}

// agentImage is the image of sandpool from which sandboxes get the agent.
func (k Kubernetes) agentImage() string { return cmp.Or(k.AgentImage, k.ProbeImage) }

// Template is the template of a pool's sandboxes. name is the image that the pool names, or that of
// its language. Limits and what they may reach are the caller's to fill in.
func (c *Code) Template(ctx context.Context, p sandpool.Pool, name,
	language string) (sandbox.Template, error) {
	reference, ok := c.cluster.Images[name]
	if !ok {
		return sandbox.Template{}, sandpool.Errorf(sandpool.NotFound, "ImageNotFound", "image",
			"The cluster has no image %q. Push it with sandpool image push, and name it in "+
				"kubernetes.images.", name)
	}
	root, err := c.root(ctx, p, reference)
	if err != nil {
		return sandbox.Template{}, err
	}
	return c.cluster.code(root, language), nil
}

// code is the template of a code pool's sandboxes in an image.
func (k Kubernetes) code(root sandbox.Image, language string) sandbox.Template {
	t := sandbox.Template{
		Root: root,
		Layers: []sandbox.Layer{{Target: agent.Dir(), Folder: programs,
			Image: sandbox.Image{Reference: k.agentImage()},
			Copy:  []string{agentProgram, agent.CopyCommand}}},
		Scratch: []string{agent.DataDir, agent.Home},
		Args:    agent.ArgsInPod(language),
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"LANG=C.UTF-8"},
		Dir:          "/",
		User:         agent.UserAndGroup(),
		Logs:         true,
		Ready:        agent.Ready(),
		ReadyTimeout: agent.WarmTime,
		Start:        sandbox.Boot,
	}
	if k.Security == image {
		// The agent is another user than the code, which so cannot end it.
		t.User, t.Capabilities = "", agent.Capabilities()
	}
	return t
}

// knownBy is between a reference and what it meant, in what a pool knows of its image. A reference
// has no space.
const knownBy = " "

// root pins the image. A registry that does not answer does not stop a pool that had an image of
// the same reference before: of another one its digest says nothing.
func (c *Code) root(ctx context.Context, p sandpool.Pool, reference string) (sandbox.Image, error) {
	pinned, err := c.digests.Resolve(ctx, reference, oci.Credentials{})
	if err != nil {
		digest, ok := strings.CutPrefix(p.ImageDigest, reference+knownBy)
		if !ok || sandpool.ClassOf(err) != sandpool.Unavailable {
			return sandbox.Image{}, err
		}
		return sandbox.Image{Reference: reference, Digest: digest, Known: p.ImageDigest}, nil
	}
	_, digest, _ := strings.Cut(pinned, "@")
	return sandbox.Image{Reference: reference, Digest: digest,
		Known: reference + knownBy + digest}, nil
}
