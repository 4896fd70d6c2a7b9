// Package sandpooltest runs a sandpool server in the tests of a program that uses one.
//
// The server is sandpool's own: its routes, tokens, pools, sessions, limits and errors, on a free
// port of loopback. Only the sandboxes are not real: they live in the memory of the test, and what
// code does is a function of the test's. So a test needs no root, no image and no Python, a session
// begins in well under a millisecond, and what is hard to have on demand can be had: a full pool, a
// session that runs out of memory between two calls.
//
//	srv := sandpooltest.New(t, sandpooltest.Options{
//		Run: func(_ context.Context, c sandpooltest.Code) sandpooltest.Outcome {
//			return sandpooltest.Outcome{Stdout: "ran " + c.Text + "\n"}
//		},
//	})
//	e, err := srv.Client().Execute(ctx, sandpooltest.Pool, "chat-42", client.Run{Code: "1+1"})
//
// It runs code and answers when the code has ended, and it uploads, lists, downloads and deletes
// files. Not part of it are custom containers, the MCP endpoint, Azure's sign-in, the dashboard and
// metrics; streams and executions that go on without a caller; contexts and terminals; and moving,
// copying and archiving files.
package sandpooltest
