// Package real starts a whole server for a test: engine, store and agent are those that users run.
// The program of the test must call server.HandOver first, because the engine starts it again.
package real

import (
	"context"
	"log/slog"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/server"
)

// Server is one that runs until its test ends, with an administrator's client of it.
type Server struct {
	*server.Server
	Client *client.Client
	stop   func()
}

// Stop ends the server before its test does. Calling it again does nothing.
func (s *Server) Stop() { s.stop() }

// Start returns a server with the images of need.Data, whose sandboxes end with it. Each change is
// made to its configuration.
func Start(t testing.TB, changes ...func(*server.Config)) *Server {
	t.Helper()
	data, dir := need.Data(t), t.TempDir()
	cfg := server.DefaultConfig()
	cfg.DataDir, cfg.Listen = filepath.Join(dir, "data"), "127.0.0.1:0"
	cfg.ImageDir, cfg.OnExit = filepath.Join(data, "images"), server.StopSandboxes
	cfg.Agent = filepath.Join(dir, "sandpool-agent")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", cfg.Agent,
		"github.com/sandpool/sandpool/cmd/sandpool-agent").CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, out)
	}
	for _, change := range changes {
		change(&cfg)
	}
	srv, err := server.New(t.Context(), slog.New(slog.DiscardHandler), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- srv.Run(ctx) }()
	s := &Server{Server: srv}
	s.stop = sync.OnceFunc(func() {
		if s.Client != nil {
			s.Client.CloseIdle()
		}
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("the server ended: %v", err)
		}
		if err := srv.Close(); err != nil {
			t.Errorf("close the server: %v", err)
		}
	})
	t.Cleanup(s.stop)
	s.Client, err = client.New(client.Config{Endpoint: srv.URL(), Token: srv.AdminToken()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
