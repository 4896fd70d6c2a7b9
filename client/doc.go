// Package client talks to a sandpool server: the control plane (pools), the
// data plane (executions, files, sessions) and the operator API (tokens, status).
// The command line, the tests and other Go programs use it.
//
// A [Client] is bound to one server, one token and one place in the resource
// tree (subscription and resource group). It is safe for concurrent use and
// keeps connections alive between calls, so one Client per program is enough.
//
// Every failure that the server reports, and every failure to reach it, is a
// *sandpool.Error: Class says what to do, Code and Target are for programs, Message is for
// people, TraceID finds the request in the server's log, where it is logged.
package client
