package image

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pattern"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// Image is one image of a Store.
type Image struct {
	// Name is what the image is called; empty if a later build took the name over.
	Name string `json:"name,omitempty"`
	// Variant and Recipe say what it was built from: a variant, and the digest of the recipe's
	// files.
	Variant string `json:"variant,omitempty"`
	Recipe  string `json:"recipe,omitempty"`

	Digest string `json:"digest"` // "sha256:…" of the file
	Path   string `json:"-"`      // the EROFS file
	Size   int64  `json:"size"`   // bytes on disk
	// Created is when the build ended.
	Created time.Time `json:"created"`
	// Packages are the Debian packages ("deb:python3=3.13.5-1"), Python distributions
	// ("py:numpy==2.5.5") and packages of npm ("npm:node==24.22.3") inside, if it was built from a
	// recipe. Those of npm are not in images of sandpools that did not list them: see Contents.
	Packages []string `json:"packages,omitempty"`
	// Drift says where the Debian packages differ from the recipe's lock, because
	// Debian released newer ones since.
	Drift []string `json:"drift,omitempty"`

	// Manifest is the digest of the container image that this was unpacked from, References are
	// what it was asked for by; both are empty if it was built here. A reference means the
	// image that it was last pulled as.
	Manifest   string   `json:"manifest,omitempty"`
	References []string `json:"references,omitempty"`
	// Config is what the container image says of its process; nil if it was built here.
	Config *Config `json:"config,omitempty"`
	// Notes say what of the container image was left out, and why.
	Notes []string `json:"notes,omitempty"`
	// Used is when the image was last asked for.
	Used time.Time `json:"-"`
}

// Root is the image as the root filesystem of an engine that takes the paths of files.
func (i Image) Root() sandbox.Image { return sandbox.Image{Reference: i.Path, Digest: i.Digest} }

// Of reports whether the image was built from r as it is now. Debian's packages may be newer by
// now.
func (i Image) Of(r Recipe) bool {
	digest, err := r.digest()
	return err == nil && i.Recipe == digest
}

// Layer is the image as an engine mounts it at target.
func (i Image) Layer(target string) sandbox.Layer {
	return sandbox.Layer{Digest: i.Digest, Path: i.Path, Target: target}
}

// Store is a folder of images. Its methods may be called at the same time,
// also by several processes with the same folder.
type Store struct {
	dir string
}

const digestPrefix = "sha256:"

var (
	namePattern   = pattern.Lazy(`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$`)
	digestPattern = pattern.Lazy(`^sha256:[0-9a-f]+$`)
)

// Open returns the store in dir, and removes what killed builds left there. A dir that
// does not exist is a store without images; the first Put or Build makes it.
func Open(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir}
	return s, s.sweep()
}

// makeDirs makes the folders. Those above them are private, too: one of them may become a
// server's data directory.
func (s *Store) makeDirs() error {
	for _, sub := range []string{s.blobs(), s.names(), s.pulled(), s.uses(), s.tmp()} {
		if err := os.MkdirAll(sub, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// Dir is the folder of the store.
func (s *Store) Dir() string { return s.dir }

func (s *Store) blobs() string  { return filepath.Join(s.dir, "sha256") }
func (s *Store) names() string  { return filepath.Join(s.dir, "names") }
func (s *Store) pulled() string { return filepath.Join(s.dir, "pulled") }
func (s *Store) uses() string   { return filepath.Join(s.dir, "uses") }
func (s *Store) tmp() string    { return filepath.Join(s.dir, "tmp") }

func (s *Store) blob(digest string) string {
	return filepath.Join(s.blobs(), strings.TrimPrefix(digest, digestPrefix)+".erofs")
}

// List returns all images: those with a name in the order of their names, then those
// that were pulled, then files that nothing leads to.
func (s *Store) List() ([]Image, error) {
	named, err := s.known()
	if err != nil {
		return nil, err
	}
	files, err := os.ReadDir(s.blobs())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	out := slices.Clone(named)
	for _, f := range files {
		hex, ok := strings.CutSuffix(f.Name(), ".erofs")
		digest := digestPrefix + hex
		if !ok || slices.ContainsFunc(named, func(i Image) bool { return i.Digest == digest }) {
			continue
		}
		info, err := f.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, Image{Digest: digest, Path: s.blob(digest), Size: info.Size(),
			Created: info.ModTime(), Used: info.ModTime()})
	}
	return out, nil
}

// known returns the images that have a name and those that were pulled.
func (s *Store) known() ([]Image, error) {
	var out []Image
	for _, dir := range []string{s.names(), s.pulled()} {
		files, err := filepath.Glob(filepath.Join(dir, "*.json"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			i, err := s.read(file)
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed meanwhile
			}
			if err != nil {
				return nil, err
			}
			out = append(out, i)
		}
	}
	return out, nil
}

// read returns the image that a record describes.
func (s *Store) read(file string) (Image, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Image{}, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return Image{}, err
	}
	name := strings.TrimSuffix(filepath.Base(file), ".json")
	var i Image
	if err := json.Unmarshal(text, &i); err != nil {
		return Image{}, fmt.Errorf("read image %q: %w", name, err)
	}
	if !isDigest(i.Digest) {
		return Image{}, fmt.Errorf("read image %q: %q is not a digest", name, i.Digest)
	}
	i.Name, i.Manifest = name, ""
	if filepath.Dir(file) == s.pulled() {
		i.Name, i.Manifest = "", digestPrefix+name
	}
	i.Path, i.Used = s.blob(i.Digest), info.ModTime()
	return i, nil
}

// isDigest says whether digest is the whole digest of something.
func isDigest(digest string) bool {
	return len(digest) == len(digestPrefix)+2*sha256.Size && digestPattern().MatchString(digest)
}

// Resolve returns the image with the given name, reference or digest, which is that of the file
// or of the container image; of a digest the first 12 of its 64 digits are enough. The error for
// an unknown image is of class NotFound and says how to get it.
func (s *Store) Resolve(ref string) (Image, error) {
	all, err := s.List()
	if err != nil {
		return Image{}, err
	}
	for _, i := range all {
		if !i.called(ref) {
			continue
		}
		if _, err := os.Stat(i.Path); err != nil {
			return Image{}, fmt.Errorf("resolve image %q: %w", ref, err)
		}
		return i, nil
	}
	advice := "sandpool image list shows what there is"
	if slices.Contains(Recipes(), ref) {
		advice = "build it with: sandpool image build " + ref
	}
	return Image{}, sandpool.Errorf(sandpool.NotFound, "ImageNotFound", "image",
		"There is no image %q here; %s.", ref, advice)
}

// called says whether ref means i.
func (i Image) called(ref string) bool {
	return ref != "" && i.Name == ref || slices.Contains(i.References, ref) ||
		isDigestOf(ref, i.Digest) || isDigestOf(ref, i.Manifest)
}

// isDigestOf says whether ref is digest or enough of it.
func isDigestOf(ref, digest string) bool {
	const enough = len(digestPrefix) + 12
	return len(ref) >= enough && strings.HasPrefix(digest, ref)
}

// checkName refuses names that could not be a file's or would be taken for a digest.
func checkName(name string) error {
	if len(name) <= 64 && namePattern().MatchString(name) {
		return nil
	}
	return sandpool.Errorf(sandpool.Invalid, "InvalidImageName", "name",
		"%q is no name for an image: use 1 to 64 lower-case letters, digits, dots, dashes and "+
			"underscores, "+
			"a letter or digit first and last.", name)
}
