package image

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sandpool/sandpool/cmd/sandpool/config"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/oci"
)

// login is the flags of commands that ask a registry.
type login struct {
	Username      string `help:"Name to show to the registry; without it docker's configuration of this user is asked." placeholder:"USER"`
	PasswordStdin bool   `help:"Read the password from stdin."`
	config.Flags
}

// credentials are those that the flags name.
func (l *login) credentials(ctx context.Context, a *console.App) (oci.Credentials, error) {
	cred := oci.Credentials{Username: l.Username}
	if (l.Username != "") != l.PasswordStdin {
		return cred, console.UsageError("--username and --password-stdin go together")
	}
	if !l.PasswordStdin {
		return cred, nil
	}
	text, err := io.ReadAll(io.LimitReader(console.Interruptible(ctx, a.Stdin), 64<<10))
	cred.Password = strings.TrimRight(string(text), "\r\n")
	return cred, err
}

// open opens the images of the server on this machine, and what asks registries.
func (l *login) open() (*image.Store, *oci.Client, error) {
	cfg, err := l.Load()
	if err != nil {
		return nil, nil, err
	}
	if cfg.Registries.DockerConfig == "" {
		cfg.Registries.DockerConfig = dockerConfig(os.Getenv)
	}
	store, err := image.Open(cfg.Images())
	if err != nil {
		return nil, nil, err
	}
	client, err := oci.New(store, cfg.OCI())
	return store, client, err
}

// dockerConfig is where this user's docker or podman keeps logins, or "".
func dockerConfig(getenv func(string) string) string {
	home, _ := os.UserHomeDir()
	for _, dir := range [][2]string{
		{getenv("DOCKER_CONFIG"), "config.json"}, {home, ".docker/config.json"},
		{getenv("REGISTRY_AUTH_FILE"), ""}, {getenv("XDG_RUNTIME_DIR"), "containers/auth.json"},
	} {
		if file := filepath.Join(dir[0], dir[1]); dir[0] != "" {
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
				return file
			}
		}
	}
	return ""
}
