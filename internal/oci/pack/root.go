package pack

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/erofs/go-erofs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Root is a root filesystem that becomes an image.
type Root struct {
	// File is the EROFS file with the filesystem.
	File string
	// Config is what the image says of its process.
	Config v1.Config
	// Architecture is that of its programs, as Go calls it.
	Architecture string
	// Limit is how many bytes the layer may have; zero means any number.
	Limit int64
}

// ErrLimit is the error of a layer that would be larger than Root.Limit.
var ErrLimit = errors.New("the layer is larger than it may be")

// Image packs the root into a layer, which it writes to work, and returns the image: the same bytes
// for the same File and Config, wherever and whenever. The image reads work until it is pushed.
// note is told how many bytes of files have been packed; it may be nil.
//
// The layer is compressed by zstd, which containerd has read since 1.5 and Docker since 23: images
// have gigabytes, for which gzip needs longer.
func (r Root) Image(ctx context.Context, work *os.File, note func(int64)) (v1.Image, error) {
	layer, err := r.layer(ctx, work, note)
	if err != nil {
		return nil, fmt.Errorf("pack %q: %w", r.File, err)
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1),
		types.OCIConfigJSON)
	if img, err = mutate.Append(img, mutate.Addendum{Layer: layer, MediaType: layer.mediaType(),
		History: v1.History{CreatedBy: "sandpool image push"}}); err != nil {
		return nil, fmt.Errorf("append the layer: %w", err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture, cfg.Config = "linux", r.Architecture, r.Config
	return mutate.ConfigFile(img, cfg)
}

// packed is a layer in a file. It implements v1.Layer.
type packed struct {
	file         string
	digest, diff v1.Hash
	size         int64
}

var _ v1.Layer = (*packed)(nil)

func (*packed) mediaType() types.MediaType { return types.OCILayerZStd }

// Digest implements v1.Layer.
func (p *packed) Digest() (v1.Hash, error) { return p.digest, nil }

// DiffID implements v1.Layer.
func (p *packed) DiffID() (v1.Hash, error) { return p.diff, nil }

// Size implements v1.Layer.
func (p *packed) Size() (int64, error) { return p.size, nil }

// MediaType implements v1.Layer.
func (p *packed) MediaType() (types.MediaType, error) { return p.mediaType(), nil }

// Compressed implements v1.Layer.
func (p *packed) Compressed() (io.ReadCloser, error) { return os.Open(p.file) }

// Uncompressed implements v1.Layer.
func (p *packed) Uncompressed() (io.ReadCloser, error) {
	f, err := os.Open(p.file)
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{z, closers{z.IOReadCloser(), f}}, nil
}

type closers []io.Closer

// Close implements io.Closer.
func (c closers) Close() error {
	var errs []error
	for _, one := range c {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

// layer writes the layer to work.
func (r Root) layer(ctx context.Context, work *os.File, note func(int64)) (*packed, error) {
	f, err := os.Open(r.File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	root, err := erofs.Open(f)
	if err != nil {
		return nil, err
	}
	buffered := bufio.NewWriterSize(work, 1<<20)
	sum, size := sha256.New(), int64(0)
	// One coder: what it writes does not depend on how many processors there are.
	z, err := zstd.NewWriter(io.MultiWriter(counter{&size, r.Limit}, buffered, sum),
		zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	diff := sha256.New()
	if err := pour(ctx, root, io.MultiWriter(z, diff), note); err != nil {
		return nil, errors.Join(err, z.Close())
	}
	if err := errors.Join(z.Close(), buffered.Flush()); err != nil {
		return nil, err
	}
	return &packed{file: work.Name(), digest: hashOf(sum), diff: hashOf(diff), size: size}, nil
}

func hashOf(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", h.Sum(nil))}
}

// counter counts what is written, up to a limit.
type counter struct {
	n     *int64
	limit int64
}

// Write implements io.Writer.
func (c counter) Write(p []byte) (int, error) {
	if *c.n += int64(len(p)); c.limit > 0 && *c.n > c.limit {
		return 0, ErrLimit
	}
	return len(p), nil
}

// pour writes a filesystem as tar: names in order, no name of an owner, the times that it has.
func pour(ctx context.Context, root fs.FS, w io.Writer, note func(int64)) error {
	tw, first, done := tar.NewWriter(w), map[int64]string{}, int64(0)
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || name == "." {
			return err
		}
		h, inode, err := header(root, name)
		if err != nil {
			return err
		}
		if earlier, ok := first[inode]; ok && inode != 0 {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, earlier, 0
		} else if inode != 0 {
			first[inode] = name
		}
		if err := tw.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
			return err
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		n, err := io.Copy(tw, f)
		if done += n; note != nil {
			note(done)
		}
		return err
	})
	return errors.Join(err, tw.Close())
}

// header describes one name. The inode is 0 for what has one name alone.
func header(root fs.FS, name string) (h *tar.Header, inode int64, err error) {
	info, err := fs.Lstat(root, name)
	if err != nil {
		return nil, 0, err
	}
	st, ok := info.Sys().(*erofs.Stat)
	if !ok {
		return nil, 0, fmt.Errorf("%q: it has no owner but %T", name, info.Sys())
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = fs.ReadLink(root, name); err != nil {
			return nil, 0, err
		}
	}
	if h, err = tar.FileInfoHeader(info, target); err != nil {
		return nil, 0, err
	}
	h.Name, h.Uid, h.Gid, h.Uname, h.Gname = name, int(st.UID), int(st.GID), "", ""
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
	for bit, mode := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000,
		fs.ModeSticky: 0o1000} {
		if st.Mode&bit != 0 { // which info.Mode does not tell
			h.Mode |= mode
		}
	}
	if info.IsDir() {
		h.Name = path.Clean(name) + "/"
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		h.Devmajor = int64(unix.Major(uint64(st.Rdev)))
		h.Devminor = int64(unix.Minor(uint64(st.Rdev)))
	}
	for key, value := range st.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+key] = value
	}
	if st.Nlink > 1 && !info.IsDir() {
		inode = st.Ino
	}
	return h, inode, nil
}
