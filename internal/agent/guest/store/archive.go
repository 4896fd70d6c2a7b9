package store

import (
	"archive/tar"
	"archive/zip"
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/guest/tree"
	"golang.org/x/sys/unix"
)

// walk calls emit with what name is and, if it is a directory, with all beneath it, as entries of
// an
// archive that begin with as. Files that cannot be opened are left out, as are pipes and devices.
func walk(ctx context.Context, t *tree.Tree, name, as string,
	emit func(*tar.Header, io.Reader) error) error {
	dir, err := t.Directory(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	w := &walker{ctx: ctx, tree: t, emit: emit}
	if name == "." {
		return w.inside(dir, as, 0)
	}
	info, err := dir.Lstat(path.Base(name))
	if err != nil {
		return err
	}
	return w.one(dir, path.Base(name), as, info, 0)
}

type walker struct {
	ctx   context.Context
	tree  *tree.Tree
	emit  func(*tar.Header, io.Reader) error
	files int
}

func (w *walker) one(dir *os.Root, base, as string, info fs.FileInfo, depth int) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if w.files++; w.files > maxFiles || depth > maxDepth {
		return sandpool.Errorf(sandpool.TooLarge, "TooManyFiles", "path",
			"The directory has more than %d files or %d levels. Take parts of it.", maxFiles, maxDepth)
	}
	h := &tar.Header{Name: as, Mode: int64(info.Mode().Perm()), ModTime: info.ModTime(),
		Format: tar.FormatPAX}
	switch {
	case info.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, as+"/"
		if err := w.emit(h, nil); err != nil {
			return err
		}
		sub, err := w.tree.Within(dir, base)
		if err != nil {
			return nil // unreadable, or gone meanwhile
		}
		defer sub.Close()
		return w.inside(sub, as, depth+1)
	case info.Mode()&fs.ModeSymlink != 0:
		to, err := dir.Readlink(base)
		if err != nil {
			return nil
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, to
		return w.emit(h, nil)
	case info.Mode().IsRegular():
		file, err := dir.OpenFile(base, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			return nil
		}
		defer file.Close()
		now, err := file.Stat()
		if err != nil || !now.Mode().IsRegular() {
			return nil
		}
		h.Typeflag, h.Size = tar.TypeReg, now.Size()
		// One that grows meanwhile is cut; one that shrinks is filled up.
		return w.emit(h, io.LimitReader(io.MultiReader(file, zeros{}), h.Size))
	}
	return nil
}

// inside walks what is in a directory.
func (w *walker) inside(dir *os.Root, as string, depth int) error {
	opened, err := dir.Open(".")
	if err != nil {
		return err
	}
	entries, err := opened.Readdir(maxFiles)
	if err := errors.Join(ignoreEOF(err), opened.Close()); err != nil {
		return err
	}
	for _, info := range entries {
		if strings.HasPrefix(info.Name(), agent.UploadPrefix) {
			continue
		}
		if err := w.one(dir, info.Name(), path.Join(as, info.Name()), info, depth); err != nil {
			return err
		}
	}
	return nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// pack sends a directory as an archive. What goes wrong after its beginning breaks it off.
func (s *Store) pack(w http.ResponseWriter, r *http.Request) error {
	name, err := directory(r)
	if err != nil {
		return err
	}
	format := r.URL.Query().Get("format")
	if err := known(format); err != nil {
		return err
	}
	begun := false
	err = s.With(func(t *tree.Tree) error {
		dir, err := t.Directory(name)
		if err != nil {
			return err
		}
		defer dir.Close()
		begun = true
		emit, end := writerOf(w, format)
		walker := &walker{ctx: r.Context(), tree: t, emit: emit}
		return errors.Join(walker.inside(dir, "", 0), end())
	})
	switch {
	case err == nil:
		return nil
	case begun:
		panic(http.ErrAbortHandler) // the caller must not take a part for the whole
	}
	return s.Classify(err, name)
}

func known(format string) error {
	if format == "tar" || format == "zip" {
		return nil
	}
	return sandpool.Errorf(sandpool.Invalid, "InvalidFormat", "format",
		"The format of an archive is %.20q; use tar or zip.", format)
}

// writerOf returns what writes entries of an archive, and what ends it.
func writerOf(w io.Writer, format string) (emit func(*tar.Header, io.Reader) error,
	end func() error) {
	if format == "tar" {
		tw := tar.NewWriter(w)
		return func(h *tar.Header, body io.Reader) error {
			err := tw.WriteHeader(h)
			if err == nil && body != nil {
				_, err = io.Copy(tw, body)
			}
			return err
		}, tw.Close
	}
	zw := zip.NewWriter(w)
	return func(h *tar.Header, body io.Reader) error {
		z := &zip.FileHeader{Name: h.Name, Modified: h.ModTime, Method: zip.Deflate}
		z.SetMode(h.FileInfo().Mode())
		out, err := zw.CreateHeader(z)
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeSymlink {
			body = strings.NewReader(h.Linkname)
		}
		if body != nil {
			_, err = io.Copy(out, body)
		}
		return err
	}, zw.Close
}

// unpack makes files of an archive. What was made before an error stays.
func (s *Store) unpack(w http.ResponseWriter, r *http.Request) error {
	name, err := directory(r)
	if err != nil {
		return err
	}
	format := r.URL.Query().Get("format")
	limit, err := strconv.ParseInt(r.URL.Query().Get("limit"), 10, 64)
	if err != nil {
		return sandpool.Errorf(sandpool.Invalid, "", "limit", "The limit is not a number of bytes.")
	}
	if err := known(format); err != nil {
		return err
	}
	body := http.MaxBytesReader(w, r.Body, limit)
	u := &unpacker{top: name, at: name, context: r.Context()}
	err = s.With(func(t *tree.Tree) error {
		dir, err := t.MkdirAll(name)
		if err != nil {
			return err
		}
		if err := dir.Close(); err != nil {
			return err
		}
		u.tree = t
		if format == "zip" {
			return s.unzip(u, body)
		}
		return untar(u, body)
	})
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return agent.TooLarge(limit)
	case errors.Is(err, tar.ErrHeader), errors.Is(err, zip.ErrFormat),
		errors.Is(err, zip.ErrChecksum), errors.Is(err, zip.ErrAlgorithm),
		errors.Is(err, io.ErrUnexpectedEOF):
		return sandpool.Errorf(sandpool.Invalid, "InvalidArchive", "body",
			"The body is no %s archive, or a broken one.", format)
	case err != nil:
		_, _ = io.Copy(io.Discard, body)
		return s.Classify(err, u.at)
	}
	return agent.WriteJSON(w, agent.Unpacked{Files: u.made})
}

func untar(u *unpacker, body io.Reader) error {
	tr := tar.NewReader(body)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			_, _ = io.Copy(io.Discard, body) // tar pads its end
			return nil
		}
		if err != nil {
			return err
		}
		if err := u.entry(h, tr); err != nil {
			return err
		}
	}
}

// unzip keeps the archive in a file without a name meanwhile: its list is at its end.
func (s *Store) unzip(u *unpacker, body io.Reader) error {
	file, err := os.OpenFile(s.Dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		if file, err = os.CreateTemp(s.Dir, agent.UploadPrefix); err == nil {
			err = os.Remove(file.Name())
		}
	}
	if err != nil {
		return err
	}
	defer file.Close()
	size, err := io.Copy(file, body)
	if err != nil {
		return err
	}
	listed := &bounded{file: file, left: maxZipList}
	zr, err := zip.NewReader(listed, size)
	if err != nil {
		return err
	}
	listed.left = math.MaxInt64 // what entries hold is bounded by the disk
	for _, f := range zr.File {
		if err := unzipOne(u, f); err != nil {
			return err
		}
	}
	return nil
}

// maxZipList bounds the list of a zip, which is held in memory: it has room for maxFiles of common
// names.
const maxZipList = 32 << 20

// bounded is a file of which no more than left bytes are read.
type bounded struct {
	file *os.File
	left int64
}

// ReadAt implements io.ReaderAt.
func (b *bounded) ReadAt(p []byte, at int64) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, tooManyFiles()
	}
	return b.file.ReadAt(p, at)
}

func tooManyFiles() error {
	return sandpool.Errorf(sandpool.TooLarge, "TooManyFiles", "body",
		"The archive has more than %d files, or very long names. Split it.", maxFiles)
}

func unzipOne(u *unpacker, f *zip.File) error {
	in, err := f.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	h := &tar.Header{Name: f.Name, Mode: int64(f.Mode().Perm()), ModTime: f.Modified,
		Typeflag: tar.TypeReg}
	switch {
	case f.Mode().IsDir() || strings.HasSuffix(f.Name, "/"):
		h.Typeflag = tar.TypeDir
	case f.Mode()&fs.ModeSymlink != 0:
		to, err := io.ReadAll(io.LimitReader(in, 4096))
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, string(to)
	}
	return u.entry(h, in)
}

// unpacker makes what an archive holds beneath a directory.
type unpacker struct {
	tree    *tree.Tree
	top     string
	at      string // what is made at the moment
	context context.Context
	made    int
}

// entry makes one entry. Names that lead out are refused; devices, pipes and hard links are left
// out.
func (u *unpacker) entry(h *tar.Header, body io.Reader) error {
	name, err := agent.CleanPath(strings.TrimPrefix(h.Name, "/"))
	if err != nil {
		return sandpool.Errorf(sandpool.Invalid, "InvalidArchive", "body",
			"The archive has an entry %.200q, which leads out or is no name. Leave it out.", h.Name)
	}
	if name == "" {
		return nil
	}
	if u.made++; u.made > maxFiles {
		return tooManyFiles()
	}
	name = path.Join(u.top, name)
	u.at = name
	if h.Typeflag == tar.TypeDir {
		dir, err := u.tree.MkdirAll(name)
		if err != nil {
			return err
		}
		return dir.Close()
	}
	if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeSymlink {
		return nil
	}
	dir, err := u.tree.MkdirAll(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	base := path.Base(name)
	// Never through what is there, which may be a link.
	if err := dir.Remove(base); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if h.Typeflag == tar.TypeSymlink {
		return dir.Symlink(h.Linkname, base)
	}
	file, err := dir.OpenFile(base, os.O_WRONLY|os.O_CREATE|os.O_EXCL,
		fs.FileMode(h.Mode).Perm()&0o755|0o600)
	if err != nil {
		return err
	}
	_, err = copyUntil(u.context, file, body)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	_ = dir.Chtimes(base, h.ModTime, h.ModTime) // as good as it goes
	return nil
}
