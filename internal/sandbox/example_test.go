package sandbox_test

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
)

// A sandbox from its template to its end, on the engine that lives in memory.
func ExampleRuntime() {
	ctx := context.Background()
	fake := sandboxtest.New(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "hello from inside")
	}))
	defer fake.Close()
	var engine sandbox.Runtime = fake

	prepared, err := engine.Prepare(ctx, sandbox.Template{
		Args:   []string{"/server"},
		Ready:  sandpool.Probe{HTTP: sandpool.HTTPProbe{Port: 8080, Path: "/"}},
		Start:  sandbox.Restore,
		Limits: sandpool.Resources{CPU: 1, Memory: 256 << 20, PIDs: 64, Disk: 64 << 20},
	}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	handle, err := engine.Start(ctx, "sandbox-1", prepared)
	if err != nil {
		fmt.Println(err)
		return
	}
	conn, err := engine.Dial(ctx, handle, 8080)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		fmt.Println(err)
		return
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(answer[len(answer)-len("hello from inside"):]))
	if err := engine.Stop(ctx, handle); err != nil {
		fmt.Println(err)
		return
	}
	exit, err := engine.Wait(ctx, handle)
	fmt.Println(exit.Reason, err)
	// Output:
	// hello from inside
	// stopped <nil>
}
