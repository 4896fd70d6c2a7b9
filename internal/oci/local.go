package oci

import (
	"archive/tar"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/oci/layer"
)

// LoadRequest says what to load from this machine's disk. Only whoever runs the server
// may ask for that: it reads the server's files.
type LoadRequest struct {
	// Path is an OCI layout folder, or a file: one that "docker save" wrote, or an archive of a
	// layout, either plain or compressed with gzip or zstd.
	Path string
	// Tag chooses one of several images.
	Tag string
	// Name is what the image is called: local:Name. Empty means the image's own name, or else
	// the file's.
	Name     string
	Progress func(Progress)
}

// Load brings an image from this machine's disk into the store. Pools name it by the reference
// local:NAME, which is in its References.
func (c *Client) Load(ctx context.Context, q LoadRequest) (i image.Image, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Limits.Time)
	defer cancel()
	work, err := c.store.Workspace()
	if err != nil {
		return i, err
	}
	defer func() { err = errors.Join(err, work.Close()) }()
	files, err := c.openFiles(ctx, q.Path, work.Dir())
	if err != nil {
		return i, describeLocal(err, q.Path)
	}
	defer files.close()
	s := &local{files: files, where: printable(q.Path, 100), tag: q.Tag}
	p, called, err := s.picture(ctx, c)
	if err != nil {
		return i, describeLocal(err, q.Path)
	}
	ref, err := localName(q.Name, called, q.Path)
	if err != nil {
		return i, err
	}
	report := q.Progress
	if report == nil {
		report = func(Progress) {}
	}
	i, err = c.bring(ctx, s, p, image.Claim{Reference: ref.String()}, report)
	return i, describeLocal(err, q.Path)
}

// describeLocal makes an error of a file one for people.
func describeLocal(err error, file string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return sandpool.Errorf(sandpool.NotFound, CodeMissing, "image",
			"There is no image at %q: %v.", file, err)
	}
	return describe(err, "on this disk", file, Credentials{})
}

// localName is the reference of a loaded image: the first of the names that is one.
func localName(given, own, file string) (Reference, error) {
	if given != "" {
		return ParseReference(localPrefix + given)
	}
	if own != "" {
		if r, err := ParseReference(localPrefix + strings.ToLower(own)); err == nil {
			return r, nil
		}
	}
	base, _, _ := strings.Cut(filepath.Base(file), ".")
	r, err := ParseReference(localPrefix + strings.ToLower(base))
	if err != nil {
		return r, sandpool.Errorf(sandpool.Invalid, CodeReference, "name",
			"The image has no usable name; give it one with --name.")
	}
	return r, nil
}

// files are the files of a layout or of a saved image, by slash-separated names.
type files interface {
	open(name string) (io.ReadCloser, int64, error)
	close()
}

// openFiles opens a folder or an archive; a compressed one is unpacked in work first.
func (c *Client) openFiles(ctx context.Context, file, work string) (files, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		// A root, so that no link in the folder leads out of it.
		root, err := os.OpenRoot(file)
		return folder{root}, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	plain, compressed, err := layer.Decompress(f)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	if !compressed {
		again, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		return newArchive(again)
	}
	out, err := os.Create(filepath.Join(work, "archive"))
	if err != nil {
		return nil, err
	}
	most := c.cfg.Limits.Layer.Bytes + c.cfg.Limits.Download
	n, err := io.Copy(out, io.LimitReader(&cancellable{ctx, plain}, most))
	if err == nil && n == most {
		err = tooLarge("%s unpacks to more than %d MiB.", file, most>>20)
	}
	if err != nil {
		out.Close()
		return nil, err
	}
	return newArchive(out)
}

// cancellable reads until its context ends.
type cancellable struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (c *cancellable) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

// folder is a layout in a folder.
type folder struct{ root *os.Root }

func (f folder) open(name string) (io.ReadCloser, int64, error) {
	file, err := f.root.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = damaged("%q is no file.", printable(name, 100))
	}
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, info.Size(), nil
}

func (f folder) close() { f.root.Close() }

// archive is a tar file with the files of a layout or of a saved image.
type archive struct {
	file  *os.File
	parts map[string]part
}

// part is where a file is in an archive, or what it is a link to.
type part struct {
	at, size int64
	link     string
}

// maxParts bounds how many files an archive may have: an image has a few for each layer.
const maxParts = 10_000

// newArchive lists what is in f, which belongs to the archive from now on.
func newArchive(f *os.File) (*archive, error) {
	a := &archive{file: f, parts: map[string]part{}}
	if err := a.list(); err != nil {
		f.Close()
		return nil, err
	}
	return a, nil
}

func (a *archive) list() error {
	if _, err := a.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r := tar.NewReader(a.file)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return damaged("It is no archive of an image: %s.", printable(err.Error(), 100))
		}
		if len(a.parts) >= maxParts {
			return tooLarge("It has more than %d files.", maxParts)
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			// The reader reads no further than the header.
			at, err := a.file.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			a.parts[name] = part{at: at, size: h.Size}
		case tar.TypeSymlink:
			a.parts[name] = part{link: path.Join(path.Dir(name), h.Linkname)}
		case tar.TypeLink:
			a.parts[name] = part{link: path.Clean(h.Linkname)}
		}
	}
}

func (a *archive) open(name string) (io.ReadCloser, int64, error) {
	name = path.Clean(name)
	for range 5 { // older dockers linked equal layers
		p, ok := a.parts[name]
		if !ok {
			break
		}
		if p.link == "" {
			return io.NopCloser(io.NewSectionReader(a.file, p.at, p.size)), p.size, nil
		}
		name = p.link
	}
	return nil, 0, fmt.Errorf("%q: %w", printable(name, 100), fs.ErrNotExist)
}

func (a *archive) close() { a.file.Close() }

// local is a source: a layout or a saved image.
type local struct {
	files files
	where string
	tag   string
	names []string // files of the layers of a saved image, by their place
}

// saved is an entry of manifest.json in what "docker save" writes.
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// picture finds the image, and what it calls itself.
func (s *local) picture(ctx context.Context, c *Client) (picture, string, error) {
	// Newer dockers write both; manifest.json has the names, the layout the digests.
	images, err := s.saved()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return picture{}, "", err
	}
	called := ""
	for _, i := range images {
		if slices.Contains(i.RepoTags, s.tag) {
			called = s.tag
		} else if len(images) == 1 && called == "" && len(i.RepoTags) > 0 {
			called = i.RepoTags[0]
		}
	}
	if r, _, err := s.files.open("index.json"); err == nil {
		r.Close()
		d, m, err := choose(ctx, s, s.where, "")
		if err != nil {
			return picture{}, "", err
		}
		p, err := c.examine(ctx, s, s.where, d, m)
		return p, called, err
	}
	if images == nil {
		return picture{},
			"", damaged(
				"%s is no OCI layout and not what docker save writes: it has neither index.json nor manifest.json.", s.where)
	}
	return s.docker(c, images)
}

// text reads a small file.
func (s *local) text(name string) ([]byte, error) {
	r, _, err := s.files.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err == nil && len(b) > maxManifest {
		err = tooLarge("%s in %s has more than %d MiB.", printable(name, 100), s.where,
			maxManifest>>20)
	}
	return b, err
}

func (s *local) saved() (list []saved, err error) {
	text, err := s.text("manifest.json")
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, damaged("manifest.json in %s is not what docker save writes.", s.where)
	}
	return list, nil
}

// docker describes an image that "docker save" wrote. It has no manifest with a digest; its
// configuration, which names what the layers unpack to, identifies it as well.
func (s *local) docker(c *Client, list []saved) (picture, string, error) {
	var tags []string
	var found []saved
	for _, i := range list {
		tags = append(tags, i.RepoTags...)
		if s.tag == "" || slices.Contains(i.RepoTags, s.tag) {
			found = append(found, i)
		}
	}
	if len(found) != 1 {
		return picture{}, "", s.ambiguous(len(found), tags)
	}
	config, err := s.text(found[0].Config)
	if err != nil {
		return picture{}, "", err
	}
	p := picture{digest: digestOf(config)}
	if len(found[0].Layers) > c.cfg.Limits.Layers {
		return p, "", tooLarge("%s has %d layers, of at most %d.", s.where, len(found[0].Layers),
			c.cfg.Limits.Layers)
	}
	for _, name := range found[0].Layers {
		r, size, err := s.files.open(name)
		if err != nil {
			return p, "", err
		}
		r.Close()
		s.names = append(s.names, name)
		p.layers = append(p.layers, descriptor{Size: size, place: len(s.names)})
	}
	called := s.tag
	if len(found[0].RepoTags) > 0 && called == "" {
		called = found[0].RepoTags[0]
	}
	return p, called, p.read(s.where, config)
}

// ambiguous says that a file holds no image of that tag, or several.
func (s *local) ambiguous(n int, tags []string) error {
	if n == 0 && s.tag == "" {
		return damaged("%s holds no image.", s.where)
	}
	return sandpool.Errorf(sandpool.Invalid, CodeMissing, "tag",
		"%s holds %d images of that name; choose one with --tag: %s.",
		s.where, n, printable(strings.Join(tags, ", "), 300))
}

// manifest implements source. The empty name is the layout's index.
func (s *local) manifest(_ context.Context, which string) ([]byte, string, error) {
	if which != "" {
		body, err := s.text("blobs/sha256/" + digest(which).hex())
		if err == nil && digestOf(body) != digest(which) {
			err = damaged("The manifest %s in %s is not what its digest says.", which, s.where)
		}
		return body, "", err
	}
	text, err := s.text("index.json")
	if err != nil {
		return nil, "", err
	}
	var index manifest
	if json.Unmarshal(text, &index) != nil {
		return nil, "", damaged("index.json in %s is not JSON that lists images.", s.where)
	}
	index.Manifests, err = s.tagged(index.Manifests)
	if err != nil {
		return nil, "", err
	}
	text, err = json.Marshal(map[string]any{"mediaType": typeIndex, "manifests": index.Manifests})
	return text, typeIndex, err
}

// tagged leaves the entries of one name. Several of one name are an image for several platforms;
// one image may have several names.
func (s *local) tagged(list []descriptor) (out []descriptor, err error) {
	all, chosen := map[string]bool{}, map[string]bool{}
	for _, d := range list {
		all[d.name()] = true
		known := slices.ContainsFunc(out, func(o descriptor) bool { return o.Digest == d.Digest })
		if !known && (s.tag == "" || d.called(s.tag)) {
			chosen[d.name()] = true
			out = append(out, d)
		}
	}
	if len(chosen) != 1 {
		return nil, s.ambiguous(len(chosen), slices.Sorted(maps.Keys(all)))
	}
	return out, nil
}

// How entries of a layout say their names. Docker's has the whole one beside the tag.
const (
	tagAnnotation  = "org.opencontainers.image.ref.name"
	nameAnnotation = "io.containerd.image.name"
)

// name is what an entry of a layout calls itself.
func (d descriptor) name() string {
	return cmp.Or(d.Annotations[nameAnnotation], d.Annotations[tagAnnotation])
}

// called reports whether tag means the entry: its tag, or its name, which people write shorter.
func (d descriptor) called(tag string) bool {
	if tag == d.Annotations[tagAnnotation] {
		return true
	}
	want, err := ParseReference(tag)
	have, err2 := ParseReference(d.Annotations[nameAnnotation])
	return err == nil && err2 == nil && want == have
}

// blob implements source.
func (s *local) blob(_ context.Context, d descriptor, _ int64) (io.ReadCloser, int64, error) {
	name := ""
	if d.place > 0 {
		name = s.names[d.place-1]
	} else {
		name = "blobs/sha256/" + d.Digest.hex()
	}
	r, _, err := s.files.open(name)
	return r, 0, err
}

var _ source = (*local)(nil)
