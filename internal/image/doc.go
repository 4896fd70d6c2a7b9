// Package image builds and keeps the root filesystems of sandboxes.
//
// An image is one EROFS file, named by the SHA-256 of its bytes, that all sandboxes made from it
// share read-only. It is written to a temporary name, synced and renamed, so an image that can be
// seen is whole. A name ("python") is a small file that says which digest it means now.
//
// The folder of a Store:
//
//	sha256/<hex>.erofs   images
//	names/<name>.json    what each name means
//	pulled/<hex>.json    which image a container image became, by the digest of its manifest, with
//	                     its configuration and the references that mean it
//	uses/<hash>.json     which container images a user, such as a pool, needs
//	tmp/                 work of builds and pulls; each in a folder that it holds a lock on
//	build.lock           held while an image is built
//	store.lock           held for the moment in which names, references or uses change
//
// An image goes when nothing needs it: no name means it, no user has claimed it, and no sandbox has
// its file open, which the kernel knows by a lock that belongs to the open file.
//
// Build follows a recipe of package images: Debian packages by mmdebstrap, Python wheels locked by
// hash, then the recipe's own setup. Put makes a small image of given files, such as the layer with
// the agent. A Workspace makes one of a container image, whose layers package oci has read.
package image
