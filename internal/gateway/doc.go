// Package gateway is the data plane of code pools: it turns a session
// identifier into a session and an HTTP request into one operation of the
// interpreter inside that session's sandbox.
//
// A request goes one way. It is authorised, before anything shows whether the
// pool exists; its identifier and body are checked, before anything is started
// on its behalf; a lease is acquired, which keeps the session alive until the
// answer is written; the agent in the sandbox does the work; the answer is
// encoded in the envelope that the path belongs to.
//
// The forms of answers are those of package wire. What it knows of pools is Pools and Lease,
// and what it knows of sandboxes is package interpreter.
package gateway
