package erofs

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// Extended attributes sit between an inode and what else is in line with it: a header of 12
// bytes, of which this writer uses none, then the attributes, each a length of the name, the
// number of its prefix, a length of the value, the name without the prefix, and the value,
// rounded up to 4 bytes.
const (
	xattrHeader = 12
	xattrEntry  = 4
	xattrUnit   = 4
	// MaxXattrs is the most bytes that the attributes of one entry may take, names, values and
	// padding together: an inode and they share one block. ext4 has the same limit.
	MaxXattrs = blockSize - inodeSize
)

// xattrPrefix splits the name of an attribute into the number of its prefix and the rest.
func xattrPrefix(name string) (index byte, rest string, ok bool) {
	if rest, ok := strings.CutPrefix(name, "user."); ok {
		return 1, rest, rest != ""
	}
	if rest, ok := strings.CutPrefix(name, "security."); ok {
		return 6, rest, rest != ""
	}
	return 0, "", false
}

// checkXattrs refuses attributes that an image cannot hold.
func checkXattrs(e Entry) error {
	if len(e.Xattrs) == 0 {
		return nil
	}
	if !e.Mode.IsRegular() && e.Mode&fs.ModeType != fs.ModeDir {
		return fmt.Errorf("pack %q: only files and folders have extended attributes", e.Path)
	}
	for name := range e.Xattrs {
		if _, rest, ok := xattrPrefix(name); !ok || len(rest) > maxNameLen {
			return fmt.Errorf("pack %q: an image cannot hold the extended attribute %q", e.Path,
				name)
		}
	}
	if size := XattrSize(e.Xattrs); size > MaxXattrs {
		return fmt.Errorf("pack %q: its extended attributes take %d bytes, of at most %d", e.Path,
			size, MaxXattrs)
	}
	return nil
}

// XattrSize is how many bytes attributes take in an image; it is compared with MaxXattrs.
func XattrSize(attrs map[string]string) int64 {
	if len(attrs) == 0 {
		return 0
	}
	size := int64(xattrHeader)
	for name, value := range attrs {
		_, rest, _ := xattrPrefix(name)
		size += roundUp(int64(xattrEntry+len(rest)+len(value)), xattrUnit)
	}
	return size
}

func (n *node) xattrSize() int64 { return XattrSize(n.entry.Xattrs) }

// xattrCount is how an inode says that its attributes take size bytes.
func xattrCount(size int64) uint16 {
	if size == 0 {
		return 0
	}
	return uint16((size-xattrHeader)/xattrUnit + 1)
}

// xattrs renders the attributes in the order of their names.
func (n *node) xattrs() []byte {
	attrs := n.entry.Xattrs
	if len(attrs) == 0 {
		return nil
	}
	out := make([]byte, xattrHeader, n.xattrSize())
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		index, rest, _ := xattrPrefix(name)
		value := attrs[name]
		out = append(out, byte(len(rest)), index)
		out = binary.LittleEndian.AppendUint16(out, uint16(len(value)))
		out = append(out, rest...)
		out = append(out, value...)
		out = append(out, make([]byte, roundUp(int64(len(out)), xattrUnit)-int64(len(out)))...)
	}
	return out
}
