package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/sandpool/sandpool/internal/agent"
)

// copyProgram writes the program that runs to a folder, under the name that sandboxes run it by.
func copyProgram(dir string) error {
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer from.Close()
	// Whoever runs it is another user, and may be any.
	to, err := os.OpenFile(filepath.Join(dir, filepath.Base(agent.Path)),
		os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}
