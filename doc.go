// Package sandpool is the vocabulary of session pools: what a pool, a session,
// an identifier and a sandbox are, which states they pass through, and which
// classes of error a caller can meet.
//
// A pool keeps sandboxes ready. An application sends work together with an
// identifier of its own choice; the pool gives the identifier a sandbox (a
// claim), keeps sending the identifier's work to it, and destroys it after a
// cooldown without work. While an identifier holds a sandbox, that hold is a
// session.
//
// The package imports nothing but the standard library and does nothing but
// parse, validate and name. Everything else in the module imports it.
package sandpool
