package local

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/sandpool/sandpool/cmd/sandpool/config"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
	"github.com/sandpool/sandpool/internal/keyring"
	"github.com/sandpool/sandpool/internal/server/vault"
)

// StoreCmd is "sandpool store".
type StoreCmd struct {
	Key   KeyCmd   `cmd:"" help:"Print a new key for the setting store_key."`
	Rekey RekeyCmd `cmd:"" help:"Seal the store's secrets with another key, while no server runs."`
	Copy  CopyCmd  `cmd:"" help:"Copy the store from its file into an empty PostgreSQL, while no server runs."`
}

// KeyCmd is "sandpool store key".
type KeyCmd struct{}

// Run prints a key.
func (c *KeyCmd) Run(a *console.App) error {
	text, id := keyring.NewKey()
	if a.JSON() {
		return a.PrintJSON(map[string]string{"key": text, "id": id})
	}
	_, err := fmt.Fprintln(a.Stdout, text)
	return err
}

// RekeyCmd is "sandpool store rekey".
type RekeyCmd struct {
	config.Flags
	Discard bool `help:"Give up secrets whose key is lost: they are empty then, and pools that use them need new ones."`
}

// Run seals the secrets anew.
func (c *RekeyCmd) Run(ctx context.Context, a *console.App) error {
	cfg, err := c.Load()
	if err != nil {
		return err
	}
	done, err := vault.Rekey(ctx, slog.New(slog.DiscardHandler), cfg.Vault(), c.Discard)
	if err != nil {
		return err
	}
	if done.Discarded > 0 {
		a.Say("%d secrets are empty now, since their key is lost", done.Discarded)
	}
	a.Say("%d secrets are sealed with the key %s", done.Secrets, done.To)
	if done.From != "" && done.File != "" {
		a.Say("%s has the new key before the old ones; remove those when no backup needs them",
			done.File)
	}
	return nil
}

// CopyCmd is "sandpool store copy".
type CopyCmd struct {
	config.Flags
	To string `arg:"" help:"Address of the database: postgres://user@host/name. A password is better in PGPASSWORD or the passfile."`
}

// Run copies the store.
func (c *CopyCmd) Run(ctx context.Context, a *console.App) error {
	cfg, err := c.Load()
	if err != nil {
		return err
	}
	done, err := vault.Copy(ctx, slog.New(slog.DiscardHandler), cfg.Vault(), c.To)
	if err != nil {
		return err
	}
	a.Say("%d pools, %d sandboxes and %d tokens are copied", done.Pools, done.Sandboxes,
		done.Tokens)
	a.Say("Set store to the database's address before the server is started again. The file in " +
		cfg.DataDir + " stays; a server that used it would know nothing of what comes after.")
	return nil
}
