// Package image builds and keeps the root filesystems of sandboxes.
//
// An image is one EROFS file, named by the SHA-256 of its bytes, that all
// sandboxes made from it share read-only. It is written to a temporary name,
// synced and renamed, so an image that can be seen is whole. A name ("python")
// is a small file that says which digest it means now.
//
// The folder of a Store:
//
//	sha256/<hex>.erofs   images
//	names/<name>.json    what each name means
//	tmp/                 work of builds; each in a folder that its builder holds a lock on
//	build.lock           held while an image is built
//
// Build follows a recipe of package images: Debian packages by mmdebstrap,
// Python wheels locked by hash, then the recipe's own setup. Put makes a small image of
// given files, such as the layer with the agent.
package image
