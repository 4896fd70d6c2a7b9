// Package local is the commands for whoever is on the server's machine: backup and restore, the
// levels of its log, and what to send to somebody who can help.
package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sandpool/sandpool/cmd/sandpool/config"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
	"github.com/sandpool/sandpool/internal/backup"
	"github.com/sandpool/sandpool/internal/local"
	"github.com/sandpool/sandpool/internal/server"
)

// BackupCmd is "sandpool backup".
type BackupCmd struct {
	config.Flags
	File string `arg:"" help:"File to write, or - for stdout." type:"path"`
}

// Run writes a backup, also while the server serves.
func (c *BackupCmd) Run(ctx context.Context, a *console.App) error {
	cfg, err := c.Load()
	if err != nil {
		return err
	}
	if cfg.Store != "" {
		return console.UsageError("the store is a PostgreSQL; back that up with pg_dump")
	}
	if filepath.Base(c.File) == "-" {
		key, err := backup.Write(ctx, cfg.DataDir, a.Stdout)
		if err == nil {
			sayKey(a, key, cfg)
		}
		return err
	}
	bar := console.NewProgress(a.Stderr)
	bar.Update("copies the store", "")
	var key string
	err = writeWhole(c.File, func(w io.Writer) (err error) {
		key, err = backup.Write(ctx, cfg.DataDir, w)
		return err
	})
	bar.Clear()
	if err != nil {
		return err
	}
	a.Say("%s has the store, the administrator's token and the keys of %s: keep it as secret",
		c.File, cfg.DataDir)
	sayKey(a, key, cfg)
	return nil
}

// sayKey says which key a backup needs.
func sayKey(a *console.App, key string, cfg server.Config) {
	if key != "" {
		a.Say("the secrets of pools in it are sealed with the key %s, which it does not have: "+
			"keep that, too, in another place; it is in %s", key, cfg.Vault().KeyIs())
	}
}

// writeWhole writes a file for its owner alone, which is whole if it is there.
func writeWhole(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-") // has mode 0600
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// RestoreCmd is "sandpool restore".
type RestoreCmd struct {
	config.Flags
	Force bool   `help:"Replace a store that is there; it is kept beside the new one."`
	File  string `arg:"" help:"File of 'sandpool backup'." type:"existingfile"`
}

// Run makes the data directory what a backup says, while no server uses it.
func (c *RestoreCmd) Run(ctx context.Context, a *console.App) error {
	cfg, err := c.Load()
	if err != nil {
		return err
	}
	if cfg.Store != "" {
		return console.UsageError("the store is a PostgreSQL; restore that with pg_restore")
	}
	f, err := os.Open(c.File)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	kept, err := backup.Restore(ctx, cfg.DataDir, f, c.Force, cfg.Vault().Need)
	if kept != "" {
		a.Say("what was there is in %s", kept)
	}
	if err != nil {
		return err
	}
	a.Say("%s is as the backup says; start the server", cfg.DataDir)
	return nil
}

// LogLevelCmd is "sandpool log-level".
type LogLevelCmd struct {
	config.Flags
	Set []string `arg:"" optional:"" help:"LEVEL for all packages, or PACKAGE=LEVEL for one and those below it, such as internal/pool=debug."`
}

// Run shows the levels of a running server's log, or changes them.
func (c *LogLevelCmd) Run(ctx context.Context, a *console.App) error {
	cfg, err := c.Load()
	if err != nil {
		return err
	}
	method, wanted := http.MethodGet, map[string]string{}
	for _, text := range c.Set {
		method = http.MethodPut
		pkg, level, ok := strings.Cut(text, "=")
		if !ok {
			pkg, level = "", text
		}
		wanted[pkg] = level
	}
	body, err := json.Marshal(wanted)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "/log-levels", bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := local.NewClient(cfg.DataDir).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // it was read
	levels := map[string]string{}
	if err := json.NewDecoder(res.Body).Decode(&levels); err != nil {
		return err
	}
	if a.JSON() {
		return a.PrintJSON(levels)
	}
	names := make([]string, 0, len(levels))
	for name := range levels {
		names = append(names, name)
	}
	slices.Sort(names)
	t := console.Table{Heading: []string{"PACKAGE", "LEVEL"}}
	for _, name := range names {
		shown := name
		if name == "" {
			shown = "(all others)"
		}
		t.Add(shown, fmt.Sprint(levels[name]))
	}
	return t.Write(a.Stdout)
}
