// Package wire puts what the agent of a sandbox reports into the forms that callers of the data
// plane read: the three envelopes of an execution, executions that go on without a caller and their
// events, files, sessions, and what a pool's code finds. Its functions are pure. What a caller
// sends is package gateway's to read.
package wire
