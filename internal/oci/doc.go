// Package oci brings container images to this machine: from registries, from OCI layout folders
// and from what "docker save" writes. It makes one EROFS file of an image's layers, which
// package image keeps.
//
// # Two steps
//
// Resolve asks the registry what a reference means now, and returns it pinned: the same
// repository with the digest of the manifest for this machine's platform. It is asked once, when a
// pool is created or updated, and it always asks, also for a digest: that shows that the
// caller may read the image, which the store, shared by all, could not tell.
//
// Pull brings what is pinned. An image that is here already is only claimed. Otherwise the layers
// are downloaded side by side, resumed where they break, compared with their digests, and
// merged by package layer. Two pulls of one image at the same time do the work once.
//
// # What is trusted
//
// Nothing that comes from a registry. Every byte is either covered by the digest that was asked
// for or bounded before it is read; a reference, and a registry by its redirects and its
// challenges, can only choose addresses that the guard lets pass. Credentials go to the registry
// that they are for and to the token service that it names, over TLS unless the operator
// or the loopback interface says otherwise, and into no error and no log.
//
// # Which file answers what
//
//	reference.go    what a reference means, and which are allowed
//	credentials.go  which credentials go to which registry
//	guard.go        which hosts and addresses a pull may talk to
//	registry.go     requests to one registry
//	patient.go      what a registry says about when to ask again
//	manifest.go     what an image consists of, and whether it can run here
//	download.go     bringing one blob, whole or not at all
//	local.go        layouts and saved files
//	pull.go         the way from a pinned reference to an image in the store
//	flight.go       one pull for all who want the same
//	errors.go       what can go wrong, in words
package oci
