package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLoadConfigLayers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte("listen: 127.0.0.1:1\nlimits:\n  min_cooldown: 2s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := LoadConfig(path, []string{"SANDPOOL_LISTEN=127.0.0.1:2", "SANDPOOL_SANDBOX_CPU=0.5", "SANDPOOL_TOKEN=x", "HOME=/"})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Listen != "127.0.0.1:2" || cfg.Limits.MinCooldown != 2*time.Second || cfg.Sandbox.CPU != 0.5 {
		t.Errorf("got %+v", cfg)
	}
	if cfg.Limits.MaxCooldown != time.Hour {
		t.Errorf("max_cooldown = %v, want the default", cfg.Limits.MaxCooldown)
	}
}

func TestLoadConfigReportsEverythingAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte("lissten: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := LoadConfig(path, []string{"SANDPOOL_LISTN=1", "SANDPOOL_STARTS=many", "SANDPOOL_FULL_STATUS=500", "SANDPOOL_DATA_DIR=rel"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"lissten", "SANDPOOL_LISTN", "SANDPOOL_STARTS", "full_status", "data_dir"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %s:\n%v", want, err)
		}
	}
}

func TestDefaultConfigIsValid(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
}
