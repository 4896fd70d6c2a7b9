package oci

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/oci/pack"
)

// Push writes an image that was built here to a registry under reference, which has a tag, and
// returns it pinned: the same image has the same digest, whenever and wherever it is pushed.
//
// The rules are those of pulls: which registries may be asked, at which addresses, with which
// credentials; mirrors are not written to. What the registry has already is not sent again. note is
// told how many bytes of how many have been packed or sent; it may be nil.
func (c *Client) Push(ctx context.Context, i image.Image, reference string, cred Credentials,
	note func(step Step, done, all int64)) (pinned string, err error) {
	r, err := ParseReference(reference)
	if err != nil {
		return "", err
	}
	if r.Local() || r.Digest != "" {
		return "", sandpool.Errorf(sandpool.Invalid, CodeReference, "image",
			"%s names no place in a registry; use a name with a tag, such as "+
				"registry.example/python:1.", r)
	}
	if i.Recipe == "" {
		return "", sandpool.Errorf(sandpool.Invalid, CodeNotImage, "image",
			"The image was not built here; only built images are pushed.")
	}
	if err := c.allowed(r); err != nil {
		return "", err
	}
	if cred.IsZero() {
		if cred, err = c.credentialsFor(ctx, r.Host, r.Repository); err != nil {
			return "", err
		}
	}
	if note == nil {
		note = func(Step, int64, int64) {}
	}
	s := c.registry(r, r.Host, r.Repository, cred)
	s.scope = transport.PushScope
	defer s.close()
	if err := s.connect(ctx); err != nil { // before the long work
		return "", s.describe(err)
	}
	// The layer has gigabytes: it belongs on the disk of the images, and what a killed process
	// leaves goes with the next one that opens the store.
	work, err := c.store.Workspace()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, work.Close()) }()
	img, err := c.packed(ctx, i, work.Dir(), func(done int64) { note(Packing, done, i.Size) })
	if err != nil {
		return "", err
	}
	if err := s.write(ctx, img, func(sent, all int64) { note(Upload, sent, all) }); err != nil {
		return "", s.describe(err)
	}
	digest, err := img.Digest()
	if err != nil {
		return "", err
	}
	r.Tag, r.Digest = "", digest.String()
	return r.String(), nil
}

// packed is an image whose layer is in dir, as long as there is room for it.
func (c *Client) packed(ctx context.Context, i image.Image, dir string,
	note func(int64)) (v1.Image, error) {
	room, err := roomIn(dir)
	if err != nil {
		return nil, err
	}
	if room <= spare {
		return nil, diskFull()
	}
	root, most := built(i), c.cfg.Limits.Download
	root.Limit = min(most, room-spare)
	f, err := os.OpenFile(filepath.Join(dir, "layer"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	img, err := root.Image(ctx, f, note)
	switch {
	case errors.Is(err, pack.ErrLimit) && root.Limit == most:
		return nil, tooLarge("The image has more than %d MiB, packed; build it without what it "+
			"does not need.", most>>20)
	case errors.Is(err, pack.ErrLimit), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return nil, diskFull()
	}
	return img, err
}

// Upload is the step of a push that sends.
const Upload Step = "upload"

// built is an image that was built here, as one that container runtimes take.
func built(i image.Image) pack.Root {
	return pack.Root{File: i.Path, Architecture: runtime.GOARCH, Config: v1.Config{
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"LANG=C.UTF-8"},
		User: "1000:1000", WorkingDir: "/mnt/data", Cmd: []string{"/bin/sh"},
		Labels: map[string]string{"org.opencontainers.image.title": "sandpool code image",
			"sandpool.image": i.Digest, "sandpool.recipe": i.Recipe}}}
}

// write sends an image.
func (r *registry) write(ctx context.Context, img v1.Image, note func(sent, all int64)) error {
	updates, told := make(chan v1.Update, 16), make(chan struct{})
	go func() {
		defer close(told)
		for u := range updates { // Write closes it
			note(u.Complete, u.Total)
		}
	}()
	defer func() { <-told }()
	return remote.Write(r.as.Repo(r.path).Tag(r.ref.Tag), img, remote.WithContext(ctx),
		remote.WithTransport(r.client.Transport), remote.WithProgress(updates))
}
