package image

import (
	"slices"

	"github.com/sandpool/sandpool"
)

// Config is what a container image says of the process in it: the part of an OCI image
// configuration that a sandbox needs. Health checks and volumes are not kept.
type Config struct {
	// Entrypoint and Cmd make the command line; see CommandLine.
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	// Env is the environment as KEY=value.
	Env []string `json:"env,omitempty"`
	// User is "user", "user:group", or numbers in their place; empty means root. Names are those of
	// /etc/passwd and /etc/group in the image.
	User string `json:"user,omitempty"`
	// WorkingDir is an absolute path; empty means "/".
	WorkingDir string `json:"workingDir,omitempty"`
	// Ports are what the image says that it listens on, as "8080/tcp", sorted.
	Ports []string `json:"ports,omitempty"`
	// StopSignal is a signal's name or number; empty means SIGTERM.
	StopSignal string `json:"stopSignal,omitempty"`
}

// CommandLine is what the first process of a pool's sandboxes is started with, by the rules of
// Kubernetes: command replaces the entrypoint, and with it the image's own arguments; args
// replace only those. The error, if nothing is left to run, is of class Invalid.
//
// https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/
func (c Config) CommandLine(command, args []string) ([]string, error) {
	entrypoint, cmd := c.Entrypoint, c.Cmd
	if len(command) > 0 {
		entrypoint, cmd = command, nil
	}
	if len(args) > 0 {
		cmd = args
	}
	line := slices.Concat(entrypoint, cmd)
	if len(line) == 0 || line[0] == "" {
		return nil, sandpool.Errorf(sandpool.Invalid, "NoCommand", "command",
			"The image says nothing that could be run; give the pool a command.")
	}
	return line, nil
}
