package layer

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"math"
	"strings"

	"github.com/sandpool/sandpool/internal/erofs"
)

// The names of whiteouts.
//
// https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts
const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
	aufsPrefix     = ".wh..wh." // bookkeeping of AUFS in old images
)

// Apply adds a layer to the tree. r yields it as it was downloaded; diffID is the digest
// ("sha256:…") of what it decompresses to. After an error the tree is of no use.
func (t *Tree) Apply(ctx context.Context, r io.Reader, diffID string) error {
	t.layer++
	plain, _, err := Decompress(&meter{r: r, ctx: ctx, count: &t.spent.in})
	if err != nil {
		return explain(err)
	}
	defer plain.Close()
	s := &stream{r: plain, spent: &t.spent, sum: sha256.New()}
	content := bufio.NewWriterSize(t.content, 1<<20)
	if err := t.entries(tar.NewReader(s), content); err != nil {
		return explain(err)
	}
	if err := content.Flush(); err != nil {
		return err
	}
	// What follows the end of the archive counts for the digest.
	if _, err := io.Copy(io.Discard, s); err != nil {
		return explain(err)
	}
	if got := "sha256:" + hex.EncodeToString(s.sum.Sum(nil)); got != diffID {
		return invalid("A layer unpacks to %s, but the image's configuration says %s.", got,
			short(diffID))
	}
	return nil
}

// explain makes an error of a damaged layer one that says so; others pass.
func explain(err error) error {
	for _, damaged := range []error{tar.ErrHeader, tar.ErrFieldTooLong, io.ErrUnexpectedEOF,
		errCompression} {
		if errors.Is(err, damaged) {
			return invalid("A layer is damaged: %s.", short(err.Error()))
		}
	}
	return err
}

// entries reads the entries of one layer.
func (t *Tree) entries(r *tar.Reader, content *bufio.Writer) error {
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := t.entry(h, r, content); err != nil {
			return in(h.Name, err)
		}
	}
}

// entry adds, replaces or removes one name.
func (t *Tree) entry(h *tar.Header, r io.Reader, content *bufio.Writer) error {
	names, err := split(h.Name)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return t.setRoot(h)
	}
	above, base := names[:len(names)-1], names[len(names)-1]
	if hidden, ok := strings.CutPrefix(base, whiteoutPrefix); ok {
		return t.whiteout(above, base, hidden)
	}
	dir, err := t.walk(above, true)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		return t.link(dir, base, h.Linkname)
	}
	if isDevice(h) {
		t.dropDevice(h.Name)
		delete(dir.children, base)
		return nil
	}
	n, err := t.node(h, r, content)
	if err != nil {
		return err
	}
	if have, ok := dir.children[base]; ok && have.dir() && n.dir() {
		have.entry = n.entry
		dir.children[base] = name{have.node, t.layer}
		return t.spent.addEntry(have.path, xattrBytes(n.entry))
	}
	return t.hang(dir, base, n)
}

func isDevice(h *tar.Header) bool {
	return h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock
}

// dropDevice notes that a device is left out.
func (t *Tree) dropDevice(name string) {
	const told = 3
	if t.dropped++; len(t.devices) < told {
		t.devices = append(t.devices, short(name))
	}
}

// setRoot takes owner and mode of the root folder from the layer.
func (t *Tree) setRoot(h *tar.Header) error {
	if h.Typeflag != tar.TypeDir {
		return invalid("The root of a layer is not a folder.")
	}
	e, err := attributes(h)
	if err != nil {
		return err
	}
	t.root.entry = e
	return t.spent.addEntry(1, xattrBytes(e))
}

// whiteout removes what earlier layers have.
func (t *Tree) whiteout(above []string, base, hidden string) error {
	opaque := base == opaqueName
	switch {
	case !opaque && strings.HasPrefix(base, aufsPrefix):
		return nil
	case hidden == "" || hidden == "." || hidden == "..":
		return invalid("A whiteout removes nothing that has a name.")
	}
	if err := t.spent.addEntry(0, 0); err != nil {
		return err
	}
	dir, err := t.walk(above, false)
	if err != nil || dir == nil {
		return err
	}
	if opaque {
		return t.removeAllEarlier(dir)
	}
	return t.removeEarlier(dir, hidden)
}

// link gives the file at target a second name.
func (t *Tree) link(dir *node, base, target string) error {
	names, err := split(target)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return invalid("A hard link leads to the root.")
	}
	above, err := t.walk(names[:len(names)-1], false)
	if err != nil {
		return err
	}
	if above == nil {
		return invalid("A hard link leads to %q, which does not exist.", short(target))
	}
	to, ok := above.children[names[len(names)-1]]
	switch {
	case !ok:
		return invalid("A hard link leads to %q, which does not exist.", short(target))
	case to.dir():
		return invalid("A hard link leads to %q, which is a folder.", short(target))
	}
	return t.hang(dir, base, to.node)
}

// node makes what h describes, and keeps its content.
func (t *Tree) node(h *tar.Header, r io.Reader, content *bufio.Writer) (*node, error) {
	e, err := attributes(h)
	if err != nil {
		return nil, err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		n := &node{entry: e}
		n.entry.Size = h.Size
		return n, t.keep(&n.entry, r, content)
	case tar.TypeDir:
		return folder(e), nil
	case tar.TypeSymlink:
		if n := len(h.Linkname); n == 0 || n > maxTarget {
			return nil, invalid("A symbolic link's target has %d bytes, of 1 to %d.", n, maxTarget)
		}
		e.Target, e.Xattrs = h.Linkname, nil
		return &node{entry: e}, nil
	case tar.TypeFifo:
		e.Xattrs = nil
		return &node{entry: e}, nil
	}
	return nil, invalid("An entry has the type %q, which no image needs.", h.Typeflag)
}

// attributes are owner, mode, time and extended attributes.
func attributes(h *tar.Header) (erofs.Entry, error) {
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > math.MaxUint32 || int64(h.Gid) > math.MaxUint32 {
		return erofs.Entry{},
			invalid("An entry belongs to user %d and group %d, which do not exist.", h.Uid, h.Gid)
	}
	e := erofs.Entry{Mode: mode(h), UID: uint32(h.Uid), GID: uint32(h.Gid), ModTime: h.ModTime}
	for key, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		// What else there is belongs to the machine that made the layer: labels of SELinux,
		// marks of its own overlay.
		if !ok || attr != "security.capability" && !strings.HasPrefix(attr, "user.") ||
			attr == "user." {
			continue
		}
		if len(attr) > maxName {
			return e, invalid("An extended attribute's name has %d bytes, of at most %d.",
				len(attr), maxName)
		}
		if e.Xattrs == nil {
			e.Xattrs = map[string]string{}
		}
		e.Xattrs[attr] = value
	}
	if size := erofs.XattrSize(e.Xattrs); size > erofs.MaxXattrs {
		return e, invalid("Its extended attributes take %d bytes, of at most %d.",
			size, erofs.MaxXattrs)
	}
	return e, nil
}

// mode is an entry's type and permissions. The bits of h.Mode that name a type may
// say something else than the type.
func mode(h *tar.Header) fs.FileMode {
	m := fs.FileMode(h.Mode) & fs.ModePerm
	for bit, set := range map[int64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid,
		0o1000: fs.ModeSticky} {
		if h.Mode&bit != 0 {
			m |= set
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		m |= fs.ModeDir
	case tar.TypeSymlink:
		m |= fs.ModeSymlink
	case tar.TypeFifo:
		m |= fs.ModeNamedPipe
	}
	return m
}

func xattrBytes(e erofs.Entry) (n int) {
	for key, value := range e.Xattrs {
		n += len(key) + len(value)
	}
	return n
}

// keep appends the content of e, of e.Size bytes.
func (t *Tree) keep(e *erofs.Entry, r io.Reader, content io.Writer) error {
	if e.Size == 0 {
		return nil
	}
	// Before anything is written: a sparse file may claim any size.
	if err := t.spent.addBytes(e.Size); err != nil {
		return err
	}
	e.Open = t.opener(t.size, e.Size)
	buffer := make([]byte, min(e.Size, 128<<10))
	for left := e.Size; left > 0; {
		n, err := io.ReadFull(r, buffer[:min(left, int64(len(buffer)))])
		if err != nil {
			return err
		}
		if _, err := content.Write(buffer[:n]); err != nil {
			return err
		}
		left -= int64(n)
		t.size += int64(n)
		if err := t.spent.checkRatio(t.size); err != nil {
			return err
		}
	}
	return nil
}
