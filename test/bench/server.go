package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sandpool/sandpool/client"
)

// program is a running server, a process of its own as in real use.
type program struct {
	cmd    *exec.Cmd
	log    string
	client *client.Client
}

// build builds the program below dir, and returns the directory that it is in.
func build(ctx context.Context, dir string) (string, error) {
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", bin, "./cmd/sandpool",
		"./cmd/sandpool-agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build (run this in the repository's root): %w", err)
	}
	return bin, nil
}

// startServer starts the program in bin on a free port, with env beside what it needs.
func startServer(ctx context.Context, bin, dir, images string, env ...string) (*program, error) {
	config := filepath.Join(dir, "client.yaml")
	p := &program{log: filepath.Join(dir, "server.log")}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	// Not bound to ctx, which would kill it: it is to end its sandboxes and stop in order.
	p.cmd = exec.Command(filepath.Join(bin, "sandpool"), "serve", "--data-dir",
		filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--log-level", "warn")
	p.cmd.Env = append(append(os.Environ(), "SANDPOOL_CONFIG="+config,
		"SANDPOOL_IMAGE_DIR="+images, "SANDPOOL_ON_EXIT=stop"), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// Ctrl-C goes to the foreground group; the server hears of it from stop alone.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if p.client, err = connect(ctx, config); err != nil {
		text, _ := os.ReadFile(p.log)
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, text), p.stop())
	}
	return p, nil
}

// connect waits for the client configuration that the server writes.
func connect(ctx context.Context, config string) (*client.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		cfg, err := client.LoadConfig(config)
		if err == nil {
			c, err := client.New(cfg)
			if err != nil {
				return nil, err
			}
			return c, c.WaitHealthy(ctx)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the server did not start: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends the server in order.
func (p *program) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil &&
		!errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if err := p.cmd.Wait(); err != nil {
		text, _ := os.ReadFile(p.log)
		return fmt.Errorf("server: %w\n%s", err, text)
	}
	return nil
}
