package image

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sandpool/sandpool"
)

// A build that needs npm's registry gets the one that the machine is configured for, and says so
// where there is none.
func TestNPMEnv(t *testing.T) {
	bin, inputs := t.TempDir(), t.TempDir()
	t.Setenv("PATH", bin)
	t.Setenv("NPM_CONFIG_REGISTRY", "")
	t.Setenv("npm_config_registry", "")
	npm := func(says string) {
		t.Helper()
		text := "#!/bin/sh\n[ \"$*\" = 'config get registry' ] && echo '" + says + "'\n"
		if err := os.WriteFile(filepath.Join(bin, "npm"), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if env, err := npmEnv(t.Context(), inputs, nil); err != nil || len(env) > 0 {
		t.Errorf("without packages of npm: %q, %v", env, err)
	}
	if err := os.WriteFile(filepath.Join(inputs, "npm.lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := npmEnv(t.Context(), inputs, nil); sandpool.ClassOf(err) != sandpool.Unsupported {
		t.Errorf("without npm: %v", err)
	}
	npm("undefined")
	if _, err := npmEnv(t.Context(), inputs, nil); sandpool.ClassOf(err) != sandpool.Unsupported {
		t.Errorf("npm without a registry: %v", err)
	}
	npm("https://registry.example/npm/")
	env, err := npmEnv(t.Context(), inputs, []string{"A=b"})
	if err != nil || !slices.Equal(env, []string{"A=b",
		"NPM_CONFIG_REGISTRY=https://registry.example/npm/"}) {
		t.Errorf("%q, %v", env, err)
	}
	t.Setenv("npm_config_registry", "https://other.example/")
	if env, err := npmEnv(t.Context(), inputs, nil); err != nil || len(env) > 0 {
		t.Errorf("of an environment that names one: %q, %v", env, err)
	}
}
