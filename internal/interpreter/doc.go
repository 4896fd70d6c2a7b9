// Package interpreter is everything the server knows of the agents inside sandboxes: how to make a
// fresh one an individual, how to call it, how long to wait for it, how much of what it says may be
// in memory, and what the end of a call means. Whoever serves code pools over some wire (package
// gateway does) owns its own forms and nothing else.
//
// # One client for each sandbox
//
// A Set has one Interpreter for each sandbox whose agent has been called. It begins when the pool
// initialises the sandbox, with a connection already open, because another one would cost the first
// request of the session more than everything else on its way (4 ms of 6, measured). Of binds it to
// the session that has claimed the sandbox, and it is forgotten with that session. A sandbox that
// ends unclaimed breaks its connections, and is forgotten by that.
//
// # A call
//
// The code in a sandbox is hostile. So a call ends, at the latest, with the caller, with the
// session, or when the sandbox's time is over:
//
//	within    a context that ends with the caller's and with the session's
//	patience  ends it when the sandbox has done nothing for too long
//	explain   turns what the call failed with into an error that a caller can read
//
// A session that ended under a call is an error of class Ended that says why it ended. The broken
// connection often comes first; explain then waits a moment for the news. A sandbox that lives and
// does not answer is an error of class Unavailable.
//
// # Executions
//
// The agent queues executions; nothing waits here. An execution is a stream of events of which the
// last is its result, and Execute asks for the whole of it at once: the agent collects, within the
// bounds of the request, so that output which nobody watches live costs neither the host's memory
// nor a message for each line.
//
// A large answer takes room before it is read (see Result.Release), since code decides how large an
// answer is.
package interpreter
