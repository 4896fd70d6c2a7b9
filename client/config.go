package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// file is the client configuration as it is on disk.
type file struct {
	Endpoint string `yaml:"endpoint"`
	Token    string `yaml:"token"`
	CA       string `yaml:"ca,omitempty"`
}

// ConfigPath returns where the client configuration is: $SANDPOOL_CONFIG, or
// sandpool/client.yaml in the user's configuration directory. getenv is os.Getenv
// outside tests.
func ConfigPath(getenv func(string) string) (string, error) {
	if p := getenv("SANDPOOL_CONFIG"); p != "" {
		return p, nil
	}
	dir := getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home := getenv("HOME")
		if home == "" {
			return "", errors.New(
				"no client configuration: neither SANDPOOL_CONFIG nor HOME is set")
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "sandpool", "client.yaml"), nil
}

// LoadConfig reads endpoint and token from the YAML file at path. Decoding is
// strict: an unknown key is an error. A missing file is an error that matches fs.ErrNotExist.
func LoadConfig(path string) (Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read client configuration: %w", err)
	}
	var f file
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, fmt.Errorf("read client configuration %q: %w", path, err)
	}
	return Config{Endpoint: f.Endpoint, Token: f.Token, CA: f.CA}, nil
}

// SaveConfig writes cfg's endpoint and token to path, readable by the owner
// alone. The file appears whole or not at all.
func SaveConfig(path string, cfg Config) (err error) {
	data, err := yaml.Marshal(file{Endpoint: cfg.Endpoint, Token: cfg.Token, CA: cfg.CA})
	if err != nil {
		return fmt.Errorf("encode client configuration: %w", err)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write client configuration: %w", err)
	}
	// CreateTemp makes the file with mode 0600, so the token is never readable by others.
	tmp, err := os.CreateTemp(dir, ".client-*.yaml")
	if err != nil {
		return fmt.Errorf("write client configuration: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
			err = fmt.Errorf("write client configuration %q: %w", path, err)
		}
	}()
	_, err = tmp.Write(data)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
