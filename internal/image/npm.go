package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
)

// npmTime is how long npm may take to say what its configuration is.
const npmTime = time.Minute

// npmEnv adds to the environment of a build which registry has the packages of npm, if the inputs
// ask for any: the one that the environment names, or the one that this machine's npm is
// configured for. There is no other: which registry to trust is not for a recipe to say.
func npmEnv(ctx context.Context, inputs string, env []string) ([]string, error) {
	_, err := os.Stat(filepath.Join(inputs, "npm.lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return env, nil
	}
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"NPM_CONFIG_REGISTRY", "npm_config_registry"} {
		if os.Getenv(name) != "" {
			return env, nil // buildEnv has passed it on
		}
	}
	if _, err := exec.LookPath("npm"); err != nil {
		return nil, sandpool.Errorf(sandpool.Unsupported, "MissingRegistry", "host",
			"The image holds packages of npm, and nothing says from which registry: set "+
				"NPM_CONFIG_REGISTRY to its URL, or run: apt-get install npm")
	}
	ctx, cancel := context.WithTimeout(ctx, npmTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "config", "get", "registry")
	cmd.Dir = "/" // the configuration of no project
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ask npm for its registry: %w", err)
	}
	registry := strings.TrimSpace(string(out))
	if u, err := url.Parse(registry); err != nil || u.Host == "" || u.Scheme != "https" &&
		u.Scheme != "http" {
		return nil, sandpool.Errorf(sandpool.Unsupported, "MissingRegistry", "host",
			"npm's registry, as \"npm config get registry\" says it, is no URL: set "+
				"NPM_CONFIG_REGISTRY to one.")
	}
	return append(env, "NPM_CONFIG_REGISTRY="+registry), nil
}
