// Package config is how commands of the server's own machine find the server's configuration.
package config

import (
	"os"

	"github.com/sandpool/sandpool/cmd/sandpool/console"
	"github.com/sandpool/sandpool/internal/server"
)

// Flags name the configuration of a server on this machine. Flags win over
// SANDPOOL_ variables, these over the file, this over the defaults.
type Flags struct {
	Config  string `help:"Configuration file (YAML)." type:"path" placeholder:"FILE"`
	DataDir string `help:"Directory of everything the server keeps." type:"path" placeholder:"DIR"`
}

// Load reads the configuration. Its error names all problems at once and is a
// console.UsageError.
func (f *Flags) Load() (server.Config, error) {
	cfg, err := server.LoadConfig(f.Config, os.Environ())
	if err != nil {
		return cfg, console.UsageError(err.Error())
	}
	if f.DataDir != "" {
		cfg.DataDir = f.DataDir
	}
	return cfg, nil
}
