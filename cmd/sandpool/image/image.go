// Package image is the commands that build, pull and remove root filesystems on this machine.
package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/cmd/sandpool/config"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/oci"
)

// Cmd groups the commands of images.
type Cmd struct {
	Build  buildCmd  `cmd:"" help:"Build an image from a recipe of this program."`
	Pull   pullCmd   `cmd:"" help:"Bring a container image from a registry, an OCI layout or a file of docker save."`
	Push   pushCmd   `cmd:"" help:"Write an image that was built here to a registry, for the nodes of a cluster."`
	List   listCmd   `cmd:"" help:"List images and the disk they use."`
	Show   showCmd   `cmd:"" help:"Show what an image is, what it runs and who uses it."`
	Remove removeCmd `cmd:"" help:"Remove an image."`
	Prune  pruneCmd  `cmd:"" help:"Remove the images that nothing uses."`
}

// open opens the images of the server on this machine.
func open(f config.Flags) (*image.Store, error) {
	cfg, err := f.Load()
	if err != nil {
		return nil, err
	}
	return image.Open(cfg.Images())
}

type buildCmd struct {
	Recipe    string        `arg:"" help:"Name of the recipe, such as python."`
	Slim      bool          `help:"Build the variant with few packages. It takes the same name."`
	Name      string        `help:"Name of the image, if not the recipe's." placeholder:"NAME"`
	IfMissing bool          `help:"Do nothing if there is an image of that name." xor:"if"`
	IfChanged bool          `help:"Do nothing if the image of that name was built from the recipe as it is now." xor:"if"`
	Timeout   time.Duration `help:"End a build that takes longer." default:"1h" placeholder:"DURATION"`
	config.Flags
}

// want is what the flags ask for.
func (c *buildCmd) want() want {
	w := want{recipe: c.Recipe, name: cmp.Or(c.Name, c.Recipe), ifMissing: c.IfMissing,
		ifChanged: c.IfChanged, timeout: c.Timeout}
	if c.Slim {
		w.variant = image.Slim
	}
	return w
}

// Run builds an image.
func (c *buildCmd) Run(ctx context.Context, a *console.App) error {
	store, err := open(c.Flags)
	if err != nil {
		return err
	}
	img, built, err := build(ctx, a, store, c.want())
	if err != nil {
		return err
	}
	if !built {
		a.Say("image %s is there already", img.Name)
	}
	return print(a, img, []image.Image{img})
}

// want says which image to build, and when not to.
type want struct {
	recipe, variant      string
	name                 string
	ifMissing, ifChanged bool
	timeout              time.Duration
}

// build builds an image with progress on stderr, unless there is one that will do. It
// reports whether it built.
func build(ctx context.Context, a *console.App, store *image.Store, w want) (image.Image, bool,
	error) {
	recipe, err := image.BuiltIn(w.recipe, w.variant)
	if err != nil {
		return image.Image{}, false, err
	}
	recipe.Name = w.name
	if w.ifMissing || w.ifChanged {
		img, err := store.Resolve(w.name)
		if err != nil && sandpool.ClassOf(err) != sandpool.NotFound {
			return img, false, err
		}
		if err == nil && (w.ifMissing || img.Of(recipe)) {
			return img, false, nil
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, w.timeout, fmt.Errorf(
		"the build was not done after %s; --timeout allows it more", w.timeout))
	defer cancel()
	p, begun := console.NewProgress(a.Stderr), false
	img, err := store.Build(ctx, recipe, func(g image.Progress) {
		if !begun {
			begun = true // what a build lacks shows before its first step
			a.Say("building image %s: downloads some hundred MB and takes a few minutes", w.name)
		}
		p.Update(fmt.Sprintf("step %d/%d %s", g.Step, g.Steps, g.Name), console.Bytes(g.Bytes))
	})
	p.Clear()
	if err != nil {
		return img, false, err
	}
	for _, d := range img.Drift {
		a.Say("differs from the lock: %s", d)
	}
	p.Done(fmt.Sprintf("built image %s, %s", w.name, console.Bytes(img.Size)))
	return img, true, nil
}

// BuildIfMissing builds the image that a recipe of this program makes, with progress on stderr,
// unless the store in dir has one of the recipe's name.
func BuildIfMissing(ctx context.Context, a *console.App, dir, recipe string) error {
	store, err := image.Open(dir)
	if err != nil {
		return err
	}
	_, _, err = build(ctx, a, store, want{recipe: recipe, name: recipe, ifMissing: true,
		timeout: time.Hour})
	return err
}

type pullCmd struct {
	Images []string `arg:"" name:"image" help:"Reference, such as nginx:1.29 or registry.example.com/app@sha256:…; oci:FOLDER for an OCI layout; docker-archive:FILE for what docker save writes."`
	Tag    string   `help:"Which image of a layout or a file with several."`
	Name   string   `help:"What to call an image of a layout or a file: pools name it local:NAME."`
	login
}

// Run pulls images, one after the other.
func (c *pullCmd) Run(ctx context.Context, a *console.App) error {
	cred, err := c.credentials(ctx, a)
	if err != nil {
		return err
	}
	_, client, err := c.open()
	if err != nil {
		return err
	}
	list := []image.Image{}
	for _, ref := range c.Images {
		i, err := c.pull(ctx, a, client, ref, cred)
		if err != nil {
			return err
		}
		list = append(list, i)
	}
	return print(a, list, list)
}

// pull brings one image, with progress on stderr.
func (c *pullCmd) pull(ctx context.Context, a *console.App, client *oci.Client, ref string,
	cred oci.Credentials) (i image.Image, err error) {
	p := console.NewProgress(a.Stderr)
	tell := func(g oci.Progress) {
		p.Update(fmt.Sprintf("%s %s, layer %d of %d", g.Step, console.Printable(ref), min(g.Done+1,
			g.Layers), g.Layers),
			fmt.Sprintf("%s of %s", console.Bytes(g.Bytes), console.Bytes(g.Total)))
	}
	path, local := strings.CutPrefix(ref, "oci:")
	if !local {
		path, local = strings.CutPrefix(ref, "docker-archive:")
	}
	if local {
		i, err = client.Load(ctx, oci.LoadRequest{Path: path, Tag: c.Tag, Name: c.Name,
			Progress: tell})
	} else {
		var pinned string
		if pinned, err = client.Resolve(ctx, ref, cred); err == nil {
			i, err = client.Pull(ctx, oci.Request{Pinned: pinned, Reference: ref, Credentials: cred,
				Progress: tell})
		}
	}
	p.Clear()
	if err != nil {
		return i, err
	}
	for _, n := range i.Notes {
		a.Say("%s", console.Printable(n))
	}
	p.Done(fmt.Sprintf("pulled %s, %s", console.Printable(title(i)), console.Bytes(i.Size)))
	return i, nil
}

type listCmd struct{ config.Flags }

// Run lists images.
func (c *listCmd) Run(a *console.App) error {
	store, err := open(c.Flags)
	if err != nil {
		return err
	}
	list, err := store.List()
	if err != nil {
		return err
	}
	if list == nil {
		list = []image.Image{}
	}
	if len(list) == 0 {
		a.Say("no images in %s; 'sandpool image build python' makes one, 'sandpool image pull "+
			"nginx' brings one", store.Dir())
	}
	return print(a, list, list)
}

func print(a *console.App, v any, list []image.Image) error {
	if a.JSON() {
		return a.PrintJSON(v)
	}
	t := console.Table{Heading: []string{"NAME", "DIGEST", "SIZE", "CREATED"}}
	for _, i := range list {
		t.Add(title(i), shortDigest(identity(i)), console.Bytes(i.Size),
			i.Created.UTC().Format(time.RFC3339))
	}
	return t.Write(a.Stdout)
}

// title is what people call an image.
func title(i image.Image) string {
	if i.Name == "" && len(i.References) > 0 {
		return strings.Join(i.References, ", ")
	}
	return i.Name
}

// identity is the digest that people know an image by: of a container image, its manifest's.
func identity(i image.Image) string {
	if i.Manifest != "" {
		return i.Manifest
	}
	return i.Digest
}

func shortDigest(digest string) string {
	const enough = len("sha256:") + 12
	return digest[:min(len(digest), enough)]
}

type showCmd struct {
	Image    string `arg:"" help:"Name, reference or digest."`
	Packages bool   `help:"Write what is in it, with versions, as a page of Markdown."`
	config.Flags
}

// Run shows an image.
func (c *showCmd) Run(a *console.App) error {
	store, err := open(c.Flags)
	if err != nil {
		return err
	}
	i, err := resolve(store, c.Image)
	if err != nil {
		return err
	}
	if c.Packages {
		return writePage(a.Stdout, i)
	}
	users, err := store.UsersOf(i)
	if err != nil {
		return err
	}
	if a.JSON() {
		return a.PrintJSON(struct {
			image.Image
			UsedBy []string `json:"usedBy,omitempty"`
		}{i, users})
	}
	t := console.Table{Heading: []string{"name", title(i)}}
	add := func(name string, values ...string) {
		for _, v := range values {
			if v != "" {
				t.Add(name, v)
			}
			name = ""
		}
	}
	add("digest", identity(i))
	add("size", console.Bytes(i.Size))
	add("created", i.Created.UTC().Format(time.RFC3339))
	if cfg := i.Config; cfg != nil {
		add("entrypoint", strings.Join(cfg.Entrypoint, " "))
		add("cmd", strings.Join(cfg.Cmd, " "))
		add("user", cfg.User)
		add("directory", cfg.WorkingDir)
		add("ports", strings.Join(cfg.Ports, " "))
		add("stop signal", cfg.StopSignal)
		add("environment", cfg.Env...)
	}
	add("packages", fmt.Sprint(len(i.Packages)))
	add("note", i.Notes...)
	add("used by", users...)
	return t.Write(a.Stdout)
}

// resolve finds an image by what people write: also a reference in its short form.
func resolve(store *image.Store, ref string) (image.Image, error) {
	i, err := store.Resolve(ref)
	if sandpool.ClassOf(err) != sandpool.NotFound {
		return i, err
	}
	parsed, bad := oci.ParseReference(ref)
	if bad != nil {
		return i, err
	}
	if whole, found := store.Resolve(parsed.String()); found == nil {
		return whole, nil
	}
	if parsed.Digest != "" {
		return store.Resolve(parsed.Digest)
	}
	return i, err
}

type removeCmd struct {
	Images []string `arg:"" name:"image" help:"Name, reference or digest."`
	config.Flags
}

// Run removes images; all of them are tried.
func (c *removeCmd) Run(a *console.App) error {
	store, err := open(c.Flags)
	if err != nil {
		return err
	}
	removed, errs := []string{}, []error{}
	for _, ref := range c.Images {
		i, err := resolve(store, ref)
		if err == nil {
			err = store.Remove(key(i))
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		a.Say("image %s is removed", ref)
		removed = append(removed, ref)
	}
	if a.JSON() {
		errs = append(errs, a.PrintJSON(struct {
			Removed []string `json:"removed"`
		}{removed}))
	}
	return errors.Join(errs...)
}

// key is what the store knows an image by for certain.
func key(i image.Image) string {
	if i.Name != "" {
		return i.Name
	}
	return identity(i)
}

type pruneCmd struct {
	UnusedFor time.Duration `help:"Keep the images that were pulled or asked for more recently." placeholder:"TIME"`
	config.Flags
}

// Help says what goes and what does not.
func (pruneCmd) Help() string {
	return "Removed are container images that no pool and no running sandbox uses, and what an " +
		"image built again has replaced. " +
		"A server that was started before that goes on using the old one for new sandboxes: " +
		"restart it first."
}

// Run removes the images that no name leads to.
func (c *pruneCmd) Run(a *console.App) error {
	cfg, err := c.Load()
	if err != nil {
		return err
	}
	store, err := image.Open(cfg.Images())
	if err != nil {
		return err
	}
	if cfg.ImageDir != "" {
		if _, err := store.EndUses(time.Now().Add(-image.UseLife)); err != nil {
			return err
		}
	}
	removed, err := store.Prune(func(i image.Image) bool {
		return time.Since(i.Used) < c.UnusedFor
	})
	if err != nil {
		return err
	}
	freed := freedBytes(removed)
	for _, i := range removed {
		a.Say("image %s is removed", key(i))
	}
	a.Say("freed %s", console.Bytes(freed))
	if a.JSON() {
		return a.PrintJSON(struct {
			Freed int64 `json:"freedBytes"`
		}{freed})
	}
	return nil
}

// freedBytes is how much disk the removal of images has freed: several may have shared a file.
func freedBytes(removed []image.Image) (sum int64) {
	seen := map[string]bool{}
	for _, i := range removed {
		if _, err := os.Stat(i.Path); seen[i.Path] || err == nil {
			continue
		}
		seen[i.Path] = true
		sum += i.Size
	}
	return sum
}
