// Package container makes custom containers the guests of pools: it says what a pool of the kind
// CustomContainer starts its sandboxes from, and how the pool asks them whether they work.
//
// # From a pool to a template
//
//	reference   resolved when the pool is created or its image changes, and pinned from then on
//	            by Pool.ImageDigest: a tag that moves changes nothing until somebody says so
//	image       pulled into the server's store by that digest, and marked as the pool's
//	template    the image's own configuration, with what the pool's owner says in its place
//
// # What tells a container apart from an agent
//
// A container has no agent of ours. It is ready when its Startup probe passes, which the engine
// asks; it lives as long as its Liveness probe passes, which the pool asks. It knows nothing of
// clones, so it boots unless its owner says that it bears to be restored from a snapshot; then the
// hook that the owner names is called after each restore, and a pool whose containers cannot
// be restored falls back to boots and says why.
//
// Secrets of the environment get into the sandbox and nowhere else. A snapshot of a process holds
// its environment, so a pool whose environment has secrets boots, whatever it asks for.
package container
