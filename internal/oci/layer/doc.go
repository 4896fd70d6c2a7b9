// Package layer reads the layers of a container image and merges them into one tree.
//
// Whoever may name an image decides every byte of its layers, and the reader runs as root. So
// it writes nothing to the host's file system but the contents of files, one after the other in
// a single file that it was given: names, links, owners, modes, devices and attributes exist in
// memory alone, as a Tree, until package erofs makes an image of them. A path is resolved in the
// tree. "..", absolute links and links through links can lead nowhere else.
//
// # What a layer says
//
// A layer is a tar stream, plain or compressed with gzip or zstd, told apart by its first bytes.
// An entry adds a name or replaces what an earlier layer had there; a folder over a folder keeps
// its content. A folder above an entry is resolved through the symbolic links of the tree, as
// container engines do: many images have lib as a link to usr/lib, and later layers write to
// lib/x. An entry ".wh.NAME" removes what earlier layers have at NAME, ".wh..wh..opq" all that
// they have in its folder; neither touches what its own layer adds, in whatever order.
//
// Regular files, folders, symbolic and hard links and pipes are kept, with owner, mode, time and
// the extended attributes security.capability and user.*. Device nodes are left out, and the
// tree notes it: a sandbox has a /dev of its own.
//
// # Bounds
//
// Limits bound what a layer can cost before it is known to be what its digest says: bytes on
// disk, entries, bytes of names and links in memory, how many times larger than the download
// the content is, and steps of resolving, since links and whiteouts can make a small layer ask for
// much work. Each is an error of class TooLarge or Invalid that names the layer's entry.
package layer
