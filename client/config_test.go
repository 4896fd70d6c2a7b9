package client

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "client.yaml")
	if _, err := LoadConfig(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v, want fs.ErrNotExist", err)
	}
	want := Config{Endpoint: "http://127.0.0.1:8090", Token: "t: #1"}
	for range 2 { // the second write replaces the first
		if err := SaveConfig(path, want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := LoadConfig(path)
	if err != nil || got.Endpoint != want.Endpoint || got.Token != want.Token {
		t.Errorf("got %+v, %v", got, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, %v; want 0600", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left over beside the file: %v, %v", entries, err)
	}
}

func TestConfigIsStrict(t *testing.T) {
	path := filepath.Join(t.TempDir(), "client.yaml")
	if err := os.WriteFile(path, []byte("endpoint: http://x\ntokn: y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), "tokn") ||
		!strings.Contains(err.Error(), path) {
		t.Errorf("err = %v, want one that names the key and the file", err)
	}
}

func TestConfigPath(t *testing.T) {
	for _, tt := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"SANDPOOL_CONFIG": "/x/y.yaml", "HOME": "/h"}, "/x/y.yaml"},
		{map[string]string{"XDG_CONFIG_HOME": "/c", "HOME": "/h"}, "/c/sandpool/client.yaml"},
		{map[string]string{"HOME": "/h"}, "/h/.config/sandpool/client.yaml"},
		{nil, ""},
	} {
		got, err := ConfigPath(func(k string) string { return tt.env[k] })
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("ConfigPath(%v) = %q, %v; want %q", tt.env, got, err, tt.want)
		}
	}
}
