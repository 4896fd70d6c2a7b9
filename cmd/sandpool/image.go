package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/image"
)

type imageCmd struct {
	Build  imageBuildCmd  `cmd:"" help:"Build an image from a recipe of this program."`
	List   imageListCmd   `cmd:"" help:"List images and the disk they use."`
	Remove imageRemoveCmd `cmd:"" help:"Remove an image."`
	Prune  imagePruneCmd  `cmd:"" help:"Remove the images without a name, which later builds have replaced."`
}

// store opens the images of the server on this machine.
func (f *serverFlags) store() (*image.Store, error) {
	cfg, err := f.config()
	if err != nil {
		return nil, err
	}
	return image.Open(cfg.Images())
}

type imageBuildCmd struct {
	Recipe    string `arg:"" help:"Name of the recipe, such as python."`
	IfMissing bool   `help:"Do nothing if there is an image of that name."`
	serverFlags
}

// Run builds an image.
func (c *imageBuildCmd) Run(ctx context.Context, a *app) error {
	store, err := c.store()
	if err != nil {
		return err
	}
	img, built, err := buildImage(ctx, a, store, c.Recipe, c.IfMissing)
	if err != nil {
		return err
	}
	if !built {
		a.say("image %s is there already", img.Name)
	}
	return printImages(a, img, []image.Image{img})
}

// buildImage builds the named recipe with progress on stderr, unless ifMissing
// and there is such an image. It reports whether it built.
func buildImage(ctx context.Context, a *app, store *image.Store, name string, ifMissing bool) (image.Image, bool, error) {
	if ifMissing {
		img, err := store.Resolve(name)
		if err == nil || sandpool.ClassOf(err) != sandpool.NotFound {
			return img, false, err
		}
	}
	recipe, err := image.BuiltIn(name)
	if err != nil {
		return image.Image{}, false, err
	}
	p, begun := newProgress(a.stderr), false
	img, err := store.Build(ctx, recipe, func(g image.Progress) {
		if !begun {
			begun = true // what a build lacks shows before its first step
			a.say("building image %s: downloads a few hundred MB and takes some minutes", name)
		}
		p.update(fmt.Sprintf("step %d/%d %s", g.Step, g.Steps, g.Name), bytesText(g.Bytes))
	})
	p.clear()
	if err != nil {
		return img, false, err
	}
	for _, d := range img.Drift {
		a.say("differs from the lock: %s", d)
	}
	p.done(fmt.Sprintf("built image %s, %s", name, bytesText(img.Size)))
	return img, true, nil
}

type imageListCmd struct{ serverFlags }

// Run lists images.
func (c *imageListCmd) Run(a *app) error {
	store, err := c.store()
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
		a.say("no images in %s; 'sandpool image build python' makes one", store.Dir())
	}
	return printImages(a, list, list)
}

func printImages(a *app, v any, list []image.Image) error {
	if a.json() {
		return a.printJSON(v)
	}
	t := table{heading: []string{"NAME", "DIGEST", "SIZE", "CREATED"}}
	for _, i := range list {
		digest := i.Digest
		if len(digest) > len("sha256:")+12 {
			digest = digest[:len("sha256:")+12]
		}
		t.add(i.Name, digest, bytesText(i.Size), i.Created.UTC().Format(time.RFC3339))
	}
	return t.write(a.stdout)
}

type imageRemoveCmd struct {
	Images []string `arg:"" name:"image" help:"Name or digest."`
	serverFlags
}

// Run removes images; all of them are tried.
func (c *imageRemoveCmd) Run(a *app) error {
	store, err := c.store()
	if err != nil {
		return err
	}
	removed, errs := []string{}, []error{}
	for _, ref := range c.Images {
		if err := store.Remove(ref); err != nil {
			errs = append(errs, err)
			continue
		}
		a.say("image %s is removed", ref)
		removed = append(removed, ref)
	}
	if a.json() {
		errs = append(errs, a.printJSON(struct {
			Removed []string `json:"removed"`
		}{removed}))
	}
	return errors.Join(errs...)
}

type imagePruneCmd struct{ serverFlags }

// Help says when not to.
func (imagePruneCmd) Help() string {
	return "A server that was started before the image was replaced goes on using the old one: restart it first."
}

// Run removes the images that no name leads to.
func (c *imagePruneCmd) Run(a *app) error {
	store, err := c.store()
	if err != nil {
		return err
	}
	removed, err := store.Prune(nil)
	if err != nil {
		return err
	}
	freed := freedBytes(removed)
	a.say("freed %s", bytesText(freed))
	if a.json() {
		return a.printJSON(struct {
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
