package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/sandpool/sandpool/cmd/sandpool/config"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
	"github.com/sandpool/sandpool/internal/backup"
	"github.com/sandpool/sandpool/internal/keyring"
	"github.com/sandpool/sandpool/internal/local"
	"github.com/sandpool/sandpool/internal/server/vault"
)

// StoreCmd is "sandpool store".
type StoreCmd struct {
	Key   KeyCmd   `cmd:"" help:"Print a new key for the setting store_key."`
	Rekey RekeyCmd `cmd:"" help:"Seal the store's secrets with another key; a server may be running."`
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
	// A server that runs has its key, so there is nothing to discard.
	if errors.Is(err, backup.ErrInUse) && !c.Discard {
		done, err = askRekey(ctx, cfg.DataDir)
	}
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

// askRekey has the server that runs do it.
func askRekey(ctx context.Context, dataDir string) (done vault.Rekeyed, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "/store/rekey", nil)
	if err != nil {
		return done, err
	}
	res, err := local.NewClient(dataDir).Do(req)
	if err != nil {
		return done, err
	}
	err = json.NewDecoder(res.Body).Decode(&done)
	return done, errors.Join(err, res.Body.Close())
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
