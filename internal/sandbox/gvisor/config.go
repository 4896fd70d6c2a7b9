package gvisor

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Config says where an engine keeps its state and how long it waits.
type Config struct {
	// Root is the directory of the engine's state: snapshots, and a directory
	// for each sandbox. One process owns it at a time.
	Root string
	// CgroupParent is the cgroup under which the engine makes one of its own;
	// empty means "sandpool".
	CgroupParent string
	// StartTimeout bounds a restore up to its readiness check; zero means 30 s.
	StartTimeout time.Duration
	// BootTimeout bounds a boot whose template's check names no time; zero
	// means 60 s.
	BootTimeout time.Duration
	// StopTimeout bounds how long Stop waits for killed processes to be gone;
	// zero means 20 s.
	StopTimeout time.Duration
}

// withDefaults checks c and returns it with every field set.
func (c Config) withDefaults() (Config, error) {
	if c.Root == "" {
		return c, errors.New("engine: Config.Root is empty; set it to a directory for the engine's state")
	}
	root, err := filepath.Abs(c.Root)
	if err != nil {
		return c, fmt.Errorf("engine root %q: %w", c.Root, err)
	}
	c.Root = root
	if c.CgroupParent == "" {
		c.CgroupParent = "sandpool"
	}
	if c.CgroupParent != filepath.Clean(c.CgroupParent) || filepath.IsAbs(c.CgroupParent) || c.CgroupParent[0] == '.' {
		return c, fmt.Errorf("engine: Config.CgroupParent is %q; use a relative path without dots", c.CgroupParent)
	}
	for _, d := range []struct {
		field    *time.Duration
		standard time.Duration
	}{
		{&c.StartTimeout, 30 * time.Second},
		{&c.BootTimeout, 60 * time.Second},
		{&c.StopTimeout, 20 * time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.standard
		}
	}
	return c, nil
}
