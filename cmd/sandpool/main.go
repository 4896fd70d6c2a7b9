// Command sandpool is the whole product in one program: the server (serve),
// the command line client of a running server (such as pool, exec, files,
// session, token), and the tools of the machine it runs on (such as image,
// doctor, backup).
//
// stdout carries the result of a command and nothing else; stderr carries the
// story: progress, hints, errors. With --output json the result is one JSON
// document whose fields only ever grow.
//
// Exit codes: 0 done; 1 the code that exec ran failed, doctor found something
// missing, or "pool egress test" says no; 2 the command line is wrong; 3
// anything else failed. Code that exec ran sets its own with sys.exit.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/sandpool/sandpool/internal/server"
)

func main() {
	// The engine starts this program again for its sandboxes; nothing may
	// happen before that is ruled out.
	server.HandOver()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
