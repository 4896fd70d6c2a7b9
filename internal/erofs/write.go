// Package erofs writes read-only file systems in the format of Linux' EROFS, as gVisor mounts them.
//
// An image is written from a list of entries in one go, so what makes the list never touches the
// host's file system: names, owners, modes and links are bytes in a file. The same entries make the
// same bytes, in whatever order they come.
//
// gVisor maps an image into the memory of a sandbox, so the writer keeps to what it can map. A
// gVisor as it is released refuses files with extended attributes; third_party/gvisor teaches it to
// read those that follow their inode, as file capabilities do here.
package erofs

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
)

// The on-disk format is described in the Linux kernel's
// Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h. This writer
// makes the small part of it that gVisor maps into memory as it is: extended
// inodes, no compression, content of regular files in whole blocks. Only folders and
// symbolic links, which gVisor reads through the inode, sit in the metadata where they fit.
// Extended attributes follow their inode and are never shared.
const (
	blockSize   = 4096
	blockBits   = 12
	slotSize    = 32
	inodeSize   = 64
	direntSize  = 12
	superOffset = 1024
	superSize   = 128
	superMagic  = 0xE0F5E1E2
	maxNameLen  = 255

	compatChecksum = 1 << 0
	compatMtime    = 1 << 1

	layoutPlain  = 0
	layoutInline = 2
)

// Stamp is the time, in seconds since 1970, of every entry that brings none: 2026-01-01. What is
// built from a recipe has no other time, so that equal content makes an equal image.
const Stamp = 1767225600

// Write writes an image of entries to w. Equal entries, in whatever order,
// make equal bytes. note, if not nil, is told how many bytes are written so far.
func Write(ctx context.Context, w io.Writer, entries []Entry, note func(int64)) error {
	root, err := grow(entries)
	if err != nil {
		return err
	}
	nodes := root.flatten()
	meta, dirs, blocks, err := place(nodes)
	if err != nil {
		return err
	}
	out := &counter{w: w, note: note}
	if err := out.write(metadata(nodes, meta, blocks)); err != nil {
		return err
	}
	for _, n := range dirs {
		if err := out.write(padded(n.listing())); err != nil {
			return err
		}
	}
	for _, n := range nodes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := out.content(n); err != nil {
			return fmt.Errorf("pack %q: %w", n.entry.Path, err)
		}
	}
	return nil
}

// WriteFile writes an image of entries to file, which must not exist, through to the disk. It
// returns the digest of the file ("sha256:…") and its size.
func WriteFile(ctx context.Context, file string, entries []Entry, note func(int64)) (digest string,
	size int64, err error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	sum := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<20)
	if err := Write(ctx, out, entries, note); err != nil {
		return "", 0, err
	}
	if err := out.Flush(); err != nil {
		return "", 0, err
	}
	if err := f.Sync(); err != nil {
		return "", 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return "", 0, err
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), info.Size(), f.Close()
}

// place gives every node its number and every content its block. It returns the
// length of the superblock and metadata, the folders whose listing is in blocks of their own, and
// the number of blocks of the whole image.
func place(nodes []*node) (meta int64, dirs []*node, blocks int64, err error) {
	at := int64(blockSize) // the superblock has the first block for itself
	for _, n := range nodes {
		tail := int64(0)
		switch {
		case n.entry.Mode.IsDir():
			n.size = n.listingSize()
		case n.entry.Mode&fs.ModeSymlink != 0:
			n.size = int64(len(n.entry.Target))
			if n.size == 0 || n.size > blockSize-inodeSize {
				return 0, nil, 0, fmt.Errorf("pack %q: the link's target has %d bytes, of 1 to %d",
					n.entry.Path, n.size, blockSize-inodeSize)
			}
		default:
			n.size = n.entry.Size
		}
		tail = n.xattrSize()
		n.inline = !n.entry.Mode.IsRegular() && n.size > 0 && tail+n.size <= blockSize-inodeSize
		if n.inline {
			tail += n.size
		}
		if at%blockSize+inodeSize+tail > blockSize {
			at = roundUp(at, blockSize)
		}
		n.nid = uint64(at / slotSize)
		at = roundUp(at+inodeSize+tail, slotSize)
	}
	meta = roundUp(at, blockSize)
	next := meta / blockSize
	reserve := func(n *node) {
		n.block = next
		next += roundUp(n.size, blockSize) / blockSize
	}
	for _, n := range nodes {
		if n.entry.Mode.IsDir() && !n.inline {
			reserve(n)
			dirs = append(dirs, n)
		}
	}
	for _, n := range nodes {
		if n.entry.Mode.IsRegular() && n.size > 0 {
			reserve(n)
		}
	}
	if next > math.MaxUint32 {
		return 0, nil, 0, fmt.Errorf("pack: %d blocks are more than an image can have", next)
	}
	return meta, dirs, next, nil
}

// metadata renders the superblock and the inodes.
func metadata(nodes []*node, size, blocks int64) []byte {
	b := make([]byte, size)
	for _, n := range nodes {
		at := n.nid * slotSize
		n.inode(b[at : at+inodeSize])
		at += inodeSize
		at += uint64(copy(b[at:], n.xattrs()))
		if n.inline && n.entry.Mode.IsDir() {
			copy(b[at:], n.listing())
		} else if n.inline {
			copy(b[at:], n.entry.Target)
		}
	}
	super := b[superOffset:]
	le := binary.LittleEndian
	le.PutUint32(super[0:], superMagic)
	le.PutUint32(super[8:], compatChecksum|compatMtime)
	super[12] = blockBits
	le.PutUint16(super[14:], uint16(nodes[0].nid))
	le.PutUint64(super[16:], uint64(len(nodes)))
	le.PutUint64(super[24:], Stamp)
	le.PutUint32(super[36:], uint32(blocks))
	// The checksum covers the rest of the block, itself as zero, and is not inverted at the end.
	le.PutUint32(super[4:], ^crc32.Checksum(b[superOffset:blockSize],
		crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// inode renders n's inode into b.
func (n *node) inode(b []byte) {
	layout := uint16(layoutPlain)
	if n.inline {
		layout = layoutInline
	}
	address := uint32(n.block)
	if n.entry.Mode&fs.ModeDevice != 0 {
		address = n.entry.Device
	}
	le := binary.LittleEndian
	le.PutUint16(b[0:], 1|layout<<1) // extended
	le.PutUint16(b[2:], xattrCount(n.xattrSize()))
	le.PutUint16(b[4:], unixMode(n.entry.Mode))
	le.PutUint64(b[8:], uint64(n.size))
	le.PutUint32(b[16:], address)
	le.PutUint32(b[20:], uint32(n.nid))
	le.PutUint32(b[24:], n.entry.UID)
	le.PutUint32(b[28:], n.entry.GID)
	seconds, nanoseconds := n.mtime()
	le.PutUint64(b[32:], seconds)
	le.PutUint32(b[40:], nanoseconds)
	le.PutUint32(b[44:], n.links)
}

// mtime is when n was last changed; times before 1970 are 1970.
func (n *node) mtime() (seconds uint64, nanoseconds uint32) {
	t := n.entry.ModTime
	switch {
	case t.IsZero():
		return Stamp, 0
	case t.Unix() < 0:
		return 0, 0
	}
	return uint64(t.Unix()), uint32(t.Nanosecond())
}

// counter writes and counts.
type counter struct {
	w    io.Writer
	n    int64
	note func(int64)
}

func (c *counter) write(b []byte) error {
	_, err := c.Write(b)
	return err
}

// Write implements io.Writer.
func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	if c.note != nil {
		c.note(c.n)
	}
	return n, err
}

// content writes the blocks of a regular file.
func (c *counter) content(n *node) error {
	if !n.entry.Mode.IsRegular() || n.size == 0 {
		return nil
	}
	r, err := n.entry.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.CopyN(c, r, n.size); err != nil {
		return fmt.Errorf("the content is shorter than %d bytes: %w", n.size, err)
	}
	if extra, err := r.Read(make([]byte, 1)); extra > 0 || err != io.EOF {
		return fmt.Errorf("the content is longer than %d bytes, or cannot be read: %v", n.size, err)
	}
	return c.write(make([]byte, roundUp(n.size, blockSize)-n.size))
}

func padded(b []byte) []byte {
	return append(b, make([]byte, roundUp(int64(len(b)), blockSize)-int64(len(b)))...)
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
