// Package test holds what a user of the whole product meets: scripts that drive the
// real command line against a real server with real sandboxes.
package test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/need"
)

// TestScript runs testdata/script/*.txtar. The first line of each is the promise
// that it keeps. All of them share one server with a pool "python" that has 3 ready
// sessions; SANDPOOL_CONFIG leads to it. A script names its sessions and pools after itself.
func TestScript(t *testing.T) {
	images := filepath.Join(need.Data(t), "images")
	bin := buildProgram(t)
	config := startServer(t, bin, images)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			e.Setenv("SANDPOOL_CONFIG", config)
			e.Setenv("IMAGES", images)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await": await, "hold": hold, "registry": registry, "request": request},
	})
}

// await waits until a file matches a regular expression: await FILE REGEXP.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || neg {
		ts.Fatalf("usage: await FILE REGEXP")
	}
	re, err := regexp.Compile(`(?m)` + args[1])
	ts.Check(err)
	deadline := time.After(2 * time.Minute)
	for {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && re.Match(data) {
			return
		}
		select {
		case <-deadline:
			ts.Fatalf("%s does not match %q: %v\n%s", args[0], args[1], err, data)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// hold opens connections to the server of a client configuration, which say nothing until the
// script ends: hold FILE NUMBER.
func hold(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || neg {
		ts.Fatalf("usage: hold FILE NUMBER")
	}
	conn, err := client.LoadConfig(ts.MkAbs(args[0]))
	ts.Check(err)
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	for range n {
		c, err := net.Dial("tcp", strings.TrimPrefix(conn.Endpoint, "http://"))
		ts.Check(err)
		ts.Defer(func() { c.Close() })
	}
}

// buildProgram builds the programs and returns the directory that they are in.
func buildProgram(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../cmd/sandpool",
		"../cmd/sandpool-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// startServer starts a server with a pool "python" and returns the client configuration that
// it wrote. The server stops, with all its sandboxes, when the test ends.
func startServer(t *testing.T, bin, images string) string {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "client.yaml")
	var log bytes.Buffer
	// Not bound to the test's context, whose end would kill it: it is to stop in order.
	cmd := exec.Command(filepath.Join(bin, "sandpool"), "serve", "--data-dir",
		filepath.Join(dir, "data"), "--listen", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "SANDPOOL_CONFIG="+config, "SANDPOOL_IMAGE_DIR="+images,
		"SANDPOOL_ON_EXIT=stop",
		"SANDPOOL_LIMITS_MIN_COOLDOWN=1s")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("server: %v", err)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", log.Bytes())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	makePool(ctx, t, config)
	return config
}

// makePool waits for the server and makes its pool.
func makePool(ctx context.Context, t *testing.T, config string) {
	t.Helper()
	cfg, err := client.LoadConfig(config)
	for err != nil {
		select {
		case <-ctx.Done():
			t.Fatalf("the server wrote no client configuration: %v", err)
		case <-time.After(20 * time.Millisecond):
			cfg, err = client.LoadConfig(config)
		}
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdle()
	if err := c.WaitHealthy(ctx); err != nil {
		t.Fatal(err)
	}
	ready, most := 3, 40
	if _, err := c.PutPool(ctx, "python", api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{
			ContainerType: string(sandpool.PythonLTS),
			ScaleConfiguration: &api.ScaleConfiguration{MaxConcurrentSessions: &most,
				ReadySessionInstances: &ready},
		}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WaitReady(ctx, "python", nil); err != nil {
		t.Fatal(err)
	}
}
