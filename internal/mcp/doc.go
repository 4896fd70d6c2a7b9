// Package mcp serves the Model Context Protocol (https://modelcontextprotocol.io) at /mcp below a
// pool's endpoint. In code pools agents run code, move files and see figures by tools of a model;
// in custom pools that want it, they send requests to containers, read their logs and stop them.
//
// The transport is streamable HTTP: a POST carries a message, and its answer is JSON, or a stream
// of events if the caller has asked for progress. Four versions are served side by side, chosen by
// each request: 2025-03-26, 2025-06-18 and 2025-11-25, which begin with "initialize", and
// 2026-07-28, whose every request says all that there is to know.
//
//	endpoint ─▶ Server.Serve ─▶ guard: Host, Origin
//	                         ─▶ permission, pool
//	                         ─▶ body, decode: bounded bytes, depth and number of messages
//	                         ─▶ version, session
//	                         ─▶ method ─▶ tool ─▶ interpreter, or the proxy to a container
//
// # What is kept
//
// Nothing, for nearly all. The id of an MCP session is a random number that the server has signed,
// so a session costs no memory, holds across restarts, and cannot be guessed. What it stands for is
// an environment of its own, which tools use whose caller names none. Memory holds the calls that
// are running, so that they can be cancelled, and for an hour the sessions that were ended.
//
// # Environments
//
// An environment is a session of the pool: its id is the session's identifier. Models invent ids,
// so an id that is not known makes a session, as everywhere else in the data plane.
//
// # Errors
//
// What a model can mend, or should know, is the result of its call, with isError: a wrong argument,
// a full pool, an exception. An environment that was lost, and what the client did wrong, are
// errors of JSON-RPC. Whoever may not be here at all is told by HTTP, as on every other path.
package mcp
