package oci

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/oci/layer"
)

// Step is what a pull is doing.
type Step string

// The steps of a pull. Layers are unpacked as they come.
const (
	Waiting   Step = "wait" // for other pulls
	Download  Step = "download"
	Unpacking Step = "unpack"
	Packing   Step = "pack"
)

// Progress is where a pull is.
type Progress struct {
	Step   Step
	Layers int // of the image
	Done   int // layers that are unpacked
	// Bytes of Total are downloaded, or, while packing, Bytes are written of as many as there
	// will be.
	Bytes, Total int64
}

// Request says what to pull.
type Request struct {
	// Pinned is what Resolve returned.
	Pinned string
	// Reference is what it was resolved from; the image is called that from now on.
	Reference string
	// User uses the image until it tells the store otherwise; see image.Store.Use. Empty for
	// nobody.
	User        string
	Credentials Credentials
	// Progress is told how it goes, some ten times a second at most, from one goroutine at a
	// time. It may be nil.
	Progress func(Progress)
}

// layersAtOnce is how many layers of one image are downloaded at the same time.
const layersAtOnce = 3

// Resolve asks the registry for what reference means now and returns it pinned: a reference by
// the digest of the manifest for this platform, which Pull takes. Local images are looked up in
// the store. The registry is asked for a digest, too, since that shows that c may read the image.
//
// The errors' codes are those of this package.
func (c *Client) Resolve(ctx context.Context, reference string, cred Credentials) (string, error) {
	r, err := ParseReference(reference)
	if err != nil {
		return "", err
	}
	if r.Local() {
		return c.resolveLocal(r)
	}
	if err := c.allowed(r); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Limits.Stall)
	defer cancel()
	err = c.each(ctx, r, cred, func(s *registry) error {
		which := r.Tag
		if r.Digest != "" {
			which = r.Digest
		}
		d, _, err := choose(ctx, s, r.String(), which)
		if err == nil {
			r.Tag, r.Digest = "", string(d)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return r.String(), nil
}

// resolveLocal pins a local image.
func (c *Client) resolveLocal(r Reference) (string, error) {
	ref := r.String()
	if r.Digest != "" {
		ref = r.Digest
	}
	i, err := c.store.Resolve(ref)
	if err != nil {
		return "", err
	}
	if i.Manifest == "" {
		return "", sandpool.Errorf(sandpool.Invalid, CodeNotImage, "image",
			"%s was built here and is no container image.", r)
	}
	return Reference{Digest: i.Manifest}.String(), nil
}

// each calls do with the sources of r, one after the other, until one answers well. The error
// is that of the registry itself, which comes last.
func (c *Client) each(ctx context.Context, r Reference, cred Credentials,
	do func(*registry) error) error {
	all, err := c.sources(ctx, r, cred)
	if err != nil {
		e := sandpool.Errorf(sandpool.Internal, CodeHelperFailed, "image",
			"The server's own logins for %s cannot be read.", r.Host)
		e.Err = err
		return e
	}
	for _, s := range all {
		if err = s.connect(ctx); err == nil {
			err = do(s)
		}
		s.close()
		if err = s.describe(err); err == nil || ctx.Err() != nil || everywhere(err) {
			break
		}
	}
	return err
}

// everywhere says whether an image would fail in the same way from any other source.
func everywhere(err error) bool {
	var known *sandpool.Error
	return errors.As(err, &known) &&
		slices.Contains([]string{CodeTooLarge, CodeLayer, CodePlatform, CodeNotImage, CodeDiskFull},
			known.Code)
}

// Pull brings what is pinned into the store and returns it, with its configuration. If
// it is there already, no registry is asked. The errors' codes are those of this package.
func (c *Client) Pull(ctx context.Context, q Request) (image.Image, error) {
	r, err := ParseReference(q.Pinned)
	if err != nil {
		return image.Image{}, err
	}
	if r.Digest == "" {
		return image.Image{}, sandpool.Errorf(sandpool.Invalid, CodeReference, "image",
			"%s is not pinned to a digest.", r)
	}
	claim := image.Claim{User: q.User}
	if q.Reference != "" && !r.Local() {
		called, err := ParseReference(q.Reference)
		if err != nil {
			return image.Image{}, err
		}
		claim.Reference = called.String()
	}
	i, err := c.store.Claim(r.Digest, claim)
	if r.Local() || sandpool.ClassOf(err) != sandpool.NotFound {
		return i, err
	}
	if err := c.allowed(r); err != nil {
		return image.Image{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Limits.Time)
	defer cancel()
	err = c.flights.do(ctx, digest(r.Digest), q.Progress, func(report func(Progress)) error {
		return c.each(ctx, r, q.Credentials, func(s *registry) error {
			d, m, err := choose(ctx, s, r.String(), r.Digest)
			if err != nil {
				return err
			}
			p, err := c.examine(ctx, s, r.String(), d, m)
			if err != nil {
				return err
			}
			i, err = c.bring(ctx, s, p, claim, report)
			return err
		})
	})
	if err != nil || i.Path != "" {
		return i, err
	}
	return c.store.Claim(r.Digest, claim) // somebody else's pull brought it
}

// Inspector is a Client for those whose images are brought elsewhere, as the nodes of a cluster do.
type Inspector struct{ *Client }

// Pull returns what the image says of itself and leaves its layers where they are.
func (c Inspector) Pull(ctx context.Context, q Request) (i image.Image, err error) {
	r, err := ParseReference(q.Pinned)
	if err != nil {
		return i, err
	}
	if r.Local() || r.Digest == "" {
		return i, sandpool.Errorf(sandpool.Invalid, CodeReference, "image",
			"%s is in no registry from which the cluster's nodes could pull it.", r)
	}
	if err := c.allowed(r); err != nil {
		return i, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Limits.Stall)
	defer cancel()
	err = c.each(ctx, r, q.Credentials, func(s *registry) error {
		d, m, err := choose(ctx, s, r.String(), r.Digest)
		if err != nil {
			return err
		}
		p, err := c.examine(ctx, s, r.String(), d, m)
		i = image.Image{Manifest: string(p.digest), Config: &p.config}
		return err
	})
	return i, err
}

// bring makes an image of p.
func (c *Client) bring(ctx context.Context, s source, p picture, claim image.Claim,
	report func(Progress)) (i image.Image, err error) {
	t := &tracker{report: report}
	t.step(Waiting)
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return i, ctx.Err()
	}
	defer func() { <-c.slots }()
	work, err := c.store.Workspace()
	if err != nil {
		return i, err
	}
	defer func() { err = errors.Join(err, work.Close()) }()
	if err := roomFor(work.Dir(), p.layers); err != nil {
		return i, err
	}
	content, err := os.OpenFile(filepath.Join(work.Dir(), "content"),
		os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return i, err
	}
	defer content.Close()
	tree := layer.NewTree(c.cfg.Limits.Layer, content)
	if err := c.unpack(ctx, s, p, tree, work.Dir(), t); err != nil {
		return i, err
	}
	t.pack(tree.Size())
	about := image.Image{Manifest: string(p.digest), Config: &p.config, Notes: tree.Notes()}
	if i, err = work.Put(ctx, about, tree.Entries(), claim, t.written); err != nil &&
		ctx.Err() == nil {
		err = ownFault{err}
	}
	return i, err
}

// roomFor refuses a download for which the disk has no room, before it fills it: what other
// sandboxes write is on it, too.
func roomFor(dir string, layers []descriptor) error {
	room, err := roomIn(dir)
	if err != nil {
		return err
	}
	need := int64(0)
	for _, d := range layers {
		need += d.Size
	}
	// Unpacked, a layer is at least about as large as its download.
	if room < 2*need+spare {
		return diskFull()
	}
	return nil
}

// roomIn is how many bytes the disk of dir has left.
func roomIn(dir string) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("room in %q: %w", dir, err)
	}
	return int64(min(fs.Bavail*uint64(fs.Bsize), math.MaxInt64)), nil
}

// spare is what pulls and pushes leave of the disk.
const spare = 256 << 20

// unpack downloads the layers, several at a time, and applies them in their order, each as soon
// as it is there.
func (c *Client) unpack(ctx context.Context, s source, p picture, tree *layer.Tree, dir string,
	t *tracker) error {
	group, ctx := errgroup.WithContext(ctx)
	blobs := map[string]*blobFile{}
	var order []*blobFile
	for n, d := range p.layers {
		name := d.Digest.hex()
		if d.Digest == "" {
			name = fmt.Sprint("layer-", n)
		}
		b, ok := blobs[name]
		if !ok {
			b = &blobFile{descriptor: d, path: filepath.Join(dir, name), there: make(chan struct{})}
			blobs[name] = b
			t.expect(d.Size)
		}
		b.uses++
		order = append(order, b)
	}
	t.begin(len(order))
	turns := make(chan struct{}, layersAtOnce)
	group.Go(func() error {
		for _, b := range order {
			if b.begun {
				continue
			}
			b.begun = true
			select {
			case turns <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			group.Go(func() error {
				defer func() { <-turns }()
				return b.download(ctx, s, c.cfg.Limits.Stall, t.add)
			})
		}
		return nil
	})
	group.Go(func() error {
		for n, b := range order {
			select {
			case <-b.there:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := b.apply(ctx, tree, p.diffs[n]); err != nil {
				return err
			}
			t.unpacked()
		}
		return nil
	})
	return group.Wait()
}

// blobFile is a layer on disk.
type blobFile struct {
	descriptor
	path  string
	uses  int // how many layers of the image it is
	begun bool
	there chan struct{} // closed when it is whole
}

func (b *blobFile) download(ctx context.Context, s source, stall time.Duration,
	note func(int64)) error {
	f, err := os.OpenFile(b.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	d := &download{from: s, blob: b.descriptor, stall: stall, note: note, file: f}
	if err := d.run(ctx); err != nil {
		return err
	}
	close(b.there)
	return nil
}

// apply applies the layer, and gives its room back if no other layer is the same.
func (b *blobFile) apply(ctx context.Context, tree *layer.Tree, diff digest) error {
	f, err := os.Open(b.path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := tree.Apply(ctx, f, string(diff)); err != nil {
		return err
	}
	if b.uses--; b.uses > 0 {
		return nil
	}
	return os.Remove(b.path)
}

// tracker turns what happens in a pull into Progress.
type tracker struct {
	report func(Progress)

	mu   sync.Mutex // guards the rest, and keeps reports in order
	now  Progress
	told time.Time
}

// reportEvery is how often bytes are reported.
const reportEvery = 100 * time.Millisecond

func (t *tracker) update(always bool, change func(*Progress)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.now)
	if always || time.Since(t.told) >= reportEvery {
		t.told = time.Now()
		t.report(t.now)
	}
}

func (t *tracker) step(s Step)    { t.update(true, func(p *Progress) { p.Step = s }) }
func (t *tracker) expect(n int64) { t.update(false, func(p *Progress) { p.Total += n }) }
func (t *tracker) begin(layers int) {
	t.update(true, func(p *Progress) { p.Step, p.Layers = Download, layers })
}

// add counts bytes; when all are there what is left is to unpack.
func (t *tracker) add(n int64) {
	t.update(false, func(p *Progress) {
		if p.Bytes += n; p.Bytes == p.Total {
			p.Step = Unpacking
		}
	})
}

func (t *tracker) unpacked() { t.update(true, func(p *Progress) { p.Done++ }) }

func (t *tracker) pack(total int64) {
	t.update(true, func(p *Progress) { p.Step, p.Bytes, p.Total = Packing, 0, total })
}

func (t *tracker) written(n int64) { t.update(false, func(p *Progress) { p.Bytes = n }) }
