package gvisor

import (
	"context"
	"encoding/json"
	"net/url"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
)

func TestConformance(t *testing.T) {
	for _, mode := range []sandbox.StartMode{sandbox.Restore, sandbox.Boot} {
		t.Run(string(mode), func(t *testing.T) {
			root := t.TempDir() // shared, so that the snapshot is made once
			sandboxtest.Run(t, func(t *testing.T) sandboxtest.Target {
				e := openAt(t, root)
				return sandboxtest.Target{
					Runtime:  e,
					Template: template(t, mode),
					Reopen: func(t *testing.T) sandbox.Runtime {
						if err := e.Close(); err != nil {
							t.Fatal(err)
						}
						e = openAt(t, root)
						return e
					},
					Crash: func(t *testing.T, id sandbox.ID) {
						pid, err := e.mainPID(id)
						if err != nil || pid == 0 {
							t.Fatalf("process of %s: %d, %v", id, pid, err)
						}
						if err := unix.Kill(pid, unix.SIGKILL); err != nil {
							t.Fatal(err)
						}
					},
					Leave: func(t *testing.T, id sandbox.ID) { leave(t, e, id) },
					Self: func(ctx context.Context, h sandbox.Handle) (self sandboxtest.Self,
						err error) {
						body, err := tryAsk(ctx, e, h, "/self", nil)
						if err != nil {
							return self, err
						}
						return self, json.Unmarshal([]byte(body), &self)
					},
					Quit: func(t *testing.T, h sandbox.Handle, code int) {
						// The answer never comes: it exits.
						_, _ = tryAsk(t.Context(), e, h, "/exit",
							url.Values{"code": {strconv.Itoa(code)}})
					},
					Say: func(t *testing.T, h sandbox.Handle, toErr bool, text string) {
						ask(t, e, h, "/say", url.Values{"err": {strconv.FormatBool(toErr)},
							"text": {text}})
					},
					Exit: func(code int) []string {
						return []string{"/guest", "exit", strconv.Itoa(code)}
					},
					Input: func(ctx context.Context, id sandbox.ID) (int64, error) {
						return inputOf(ctx, e, id)
					},
				}
			})
		})
	}
}

// inputOf waits until the guest has met the end of its input.
func inputOf(ctx context.Context, e *Engine, id sandbox.ID) (int64, error) {
	body, err := tryAsk(ctx, e, sandbox.Handle{ID: id}, "/input", nil)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(body, 10, 64)
}

// leave makes what a server leaves that is killed after it started a sandbox
// process and before it restored it.
func leave(t *testing.T, e *Engine, id sandbox.ID) {
	t.Helper()
	tmpl := template(t, sandbox.Boot)
	if err := os.Mkdir(e.dir(id), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := e.cgroups.Create(id, tmpl.Limits); err != nil {
		t.Fatal(err)
	}
	p, err := e.plan(t.Context(), tmpl)
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.spawn(id, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.ready.Close()
	s.pidfd.Close()
}
