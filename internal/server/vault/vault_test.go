package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/keyring"
	"github.com/sandpool/sandpool/internal/postgres"
	"github.com/sandpool/sandpool/internal/postgres/pgtest"
	"github.com/sandpool/sandpool/internal/server/vault"
	"github.com/sandpool/sandpool/internal/sqlite"
	"github.com/sandpool/sandpool/internal/store"
	"github.com/sandpool/sandpool/internal/store/storetest"
)

var (
	quiet  = slog.New(slog.DiscardHandler)
	server = sync.OnceValues(func() (*pgtest.Server, error) {
		return pgtest.Start(context.Background())
	})
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(rekeyer); dir != "" {
		rekeyForEver(dir)
	}
	if dir := os.Getenv(rekeyerOnline); dir != "" {
		rekeyInUse(dir)
	}
	code := m.Run()
	s, err := server()
	if err == nil {
		err = s.Stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// file are options of a store in a file, and shared of one in a PostgreSQL.
func file(t testing.TB) vault.Options { return vault.Options{DataDir: t.TempDir()} }

func shared(t testing.TB) vault.Options {
	t.Helper()
	s, err := server()
	if err != nil {
		t.Fatal(err)
	}
	address, err := s.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return vault.Options{DataDir: t.TempDir(), Store: address}
}

// both runs a test with either kind of store.
func both(t *testing.T, test func(t *testing.T, o vault.Options)) {
	t.Run("file", func(t *testing.T) { test(t, file(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, shared(t)) })
}

func open(t testing.TB, o vault.Options) *vault.State {
	t.Helper()
	s, err := vault.Open(t.Context(), quiet, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // some tests close it
	return s
}

// raw is the store as it is kept.
type raw interface {
	store.Store
	store.Documents
	store.Sealing
	Close() error
}

func openRaw(t *testing.T, o vault.Options) (s raw) {
	t.Helper()
	var err error
	if o.Store != "" {
		s, err = postgres.Open(t.Context(), quiet, o.Store)
	} else {
		s, err = sqlite.Open(t.Context(), quiet, filepath.Join(o.DataDir, "sandpool.db"))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestStore(t *testing.T) {
	both(t, func(t *testing.T, o vault.Options) {
		storetest.Run(t, func(t *testing.T) storetest.Target {
			o := o
			if o.Store == "" {
				o = file(t)
			} else {
				o = shared(t)
			}
			return storetest.Target{Store: open(t, o),
				Reopen: func(t *testing.T) store.Store { return open(t, o) }}
		})
	})
}

const hush = "hush-0123456789-hush"

var (
	one = sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "one"}
	two = sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "two"}
)

// fill puts a secret into every place that a store has for one.
func fill(t *testing.T, s interface {
	store.Store
	store.Documents
}) {
	t.Helper()
	for _, id := range []sandpool.PoolID{one, two} {
		if _, err := s.CreatePool(t.Context(), sandpool.Pool{ID: id, State: sandpool.InProgress},
			sandpool.Secrets{"a": sandpool.NewSecret(hush + id.Name), "b": sandpool.NewSecret("")},
			"me"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Insert(t.Context(), sandpool.Sandbox{ID: "box", Pool: one,
		State: sandpool.Starting, Secret: hush + "box"}, 1); err != nil {
		t.Fatal(err)
	}
	for kind, text := range map[string]string{store.ServerSecret: hush + "doc",
		store.Deployment: hush + "parameter", "other": "plain"} {
		if err := s.PutDocument(t.Context(), store.Document{Kind: kind, Key: "k",
			Text: text}); err != nil {
			t.Fatal(err)
		}
	}
}

// want checks what fill has put in.
func want(t *testing.T, s *vault.State) {
	t.Helper()
	for _, id := range []sandpool.PoolID{one, two} {
		got, err := s.Secrets(t.Context(), id)
		if err != nil || got["a"].Reveal() != hush+id.Name || len(got) != 2 || got["b"].Reveal() != "" {
			t.Errorf("the secrets of %s are others: %v", id.Name, err)
		}
	}
	boxes, err := s.Sandboxes(t.Context())
	if err != nil || len(boxes) != 1 || boxes[0].Secret != hush+"box" {
		t.Errorf("the sandbox has another secret: %v", err)
	}
	d, err := s.Document(t.Context(), store.ServerSecret, "k")
	if err != nil || d.Text != hush+"doc" {
		t.Errorf("the document is %q, %v", d.Text, err)
	}
	list, err := s.Documents(t.Context(), store.Deployment, "")
	if err != nil || len(list) != 1 || list[0].Text != hush+"parameter" {
		t.Errorf("the deployments are %q, %v", list, err)
	}
	if d, err := s.Document(t.Context(), "other", "k"); err != nil || d.Text != "plain" {
		t.Errorf("the other document is %q, %v", d.Text, err)
	}
}

// wantSealed checks that a store holds no secret in plain text, and its files neither.
func wantSealed(t *testing.T, o vault.Options) {
	t.Helper()
	s := openRaw(t, o)
	secrets, err := s.Secrets(t.Context(), one)
	if err != nil || !strings.HasPrefix(secrets["a"].Reveal(), "v1.") ||
		!strings.HasPrefix(secrets["b"].Reveal(), "v1.") {
		t.Errorf("a secret is plain: %v", err)
	}
	boxes, err := s.Sandboxes(t.Context())
	if err != nil || len(boxes) != 1 || !strings.HasPrefix(boxes[0].Secret, "v1.") {
		t.Errorf("a sandbox's secret is plain: %v", err)
	}
	for _, kind := range []string{store.ServerSecret, store.Deployment} {
		d, err := s.Document(t.Context(), kind, "k")
		if err != nil || !strings.HasPrefix(d.Text, "v1.") {
			t.Errorf("a document of kind %s is plain: %v", kind, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(o.DataDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil || bytes.Contains(text, []byte(hush)) {
			t.Errorf("%s has a secret in plain text, %v", filepath.Base(name), err)
		}
	}
}

// TestSealed: what is written is nowhere in plain text.
func TestSealed(t *testing.T) {
	both(t, func(t *testing.T, o vault.Options) {
		s := open(t, o)
		fill(t, s)
		want(t, s)
		wantSealed(t, o)
		info, err := os.Stat(filepath.Join(o.DataDir, vault.KeyFile))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the key's file: %v, %v", info, err)
		}
		want(t, open(t, o))
	})
}

// TestMigration: a store of an earlier version has plain secrets, which are sealed at the first
// start, and what was deleted earlier does not stay in the file.
func TestMigration(t *testing.T) {
	both(t, func(t *testing.T, o vault.Options) {
		s := openRaw(t, o)
		fill(t, s)
		gone := sandpool.Secrets{"gone": sandpool.NewSecret(strings.Repeat(hush, 1000))}
		for _, secrets := range []sandpool.Secrets{gone, {
			"a": sandpool.NewSecret(hush + "one"), "b": sandpool.NewSecret("")}} {
			if err := s.PutPool(t.Context(), sandpool.Pool{ID: one, State: sandpool.InProgress},
				secrets, 1); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		after := open(t, o)
		want(t, after)
		wantSealed(t, o)
	})
}

// TestMoved: a ciphertext opens in its own row alone.
func TestMoved(t *testing.T) {
	both(t, func(t *testing.T, o vault.Options) {
		s := open(t, o)
		fill(t, s)
		kept := openRaw(t, o)
		stolen, err := kept.Secrets(t.Context(), one)
		if err != nil {
			t.Fatal(err)
		}
		for id, secrets := range map[sandpool.PoolID]sandpool.Secrets{
			two: {"a": stolen["a"]}, one: {"b": stolen["a"]}} {
			if err := kept.PutPool(t.Context(), sandpool.Pool{ID: id, State: sandpool.InProgress},
				secrets, 1); err != nil {
				t.Fatal(err)
			}
			got, err := s.Secrets(t.Context(), id)
			if !errors.Is(err, keyring.ErrSealed) || got != nil {
				t.Errorf("a moved secret opens in %s: %v", id.Name, err)
			}
		}
		if err := kept.PutDocument(t.Context(), store.Document{Kind: store.ServerSecret, Key: "k",
			Text: stolen["a"].Reveal()}); err != nil {
			t.Fatal(err)
		}
		if d, err := s.Document(t.Context(), store.ServerSecret, "k"); err == nil {
			t.Errorf("a moved secret opens as the document %q", d.Text)
		}
		if err := kept.PutDocument(t.Context(), store.Document{Kind: store.Deployment, Key: "k",
			Text: `{"Subject": "token:admin"}`}); err != nil {
			t.Fatal(err)
		}
		if list, err := s.Documents(t.Context(), store.Deployment, ""); err != nil || len(list) > 0 {
			t.Errorf("a deployment that nobody has sealed is run: %q, %v", list, err)
		}
	})
}

// TestWrongKey: a server without the store's key says which it needs, where it looked, and what to
// do, and changes nothing.
func TestWrongKey(t *testing.T) {
	both(t, func(t *testing.T, o vault.Options) {
		s := open(t, o)
		fill(t, s)
		path := filepath.Join(o.DataDir, vault.KeyFile)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		by, err := s.SealedBy(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		other, otherID := keyring.NewKey()
		t.Setenv("OTHER_STORE_KEY", other)
		away := o
		away.DataDir = t.TempDir() // another server, for a store that is shared
		if o.Store == "" {
			away.DataDir = o.DataDir
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct {
			key  keyring.Settings
			want []string
		}{
			{keyring.Settings{}, []string{away.DataDir, vault.KeyFile, "store_key", "Put the file back"}},
			{keyring.Settings{File: "/none"}, []string{"/none", "store_key.file"}},
			{keyring.Settings{Variable: "OTHER_STORE_KEY"},
				[]string{"OTHER_STORE_KEY", "store_key.variable", otherID, "Add that key"}},
			{keyring.Settings{Command: []string{"false"}}, []string{"store_key.command"}},
		} {
			away.Key = c.key
			s, err := vault.Open(t.Context(), quiet, away)
			if err == nil || s != nil {
				t.Fatalf("%+v opens the store", c.key)
			}
			for _, text := range append(c.want, by) {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%+v: %v\nwant %q in it", c.key, err, text)
				}
			}
		}
		if _, err := os.Stat(filepath.Join(away.DataDir, vault.KeyFile)); err == nil {
			t.Error("a key was made for a store that is sealed with another")
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		want(t, open(t, o))
	})
}

// TestNoStateWithAnError: there is nothing to close when a store cannot be opened, of either kind.
func TestNoStateWithAnError(t *testing.T) {
	o := file(t)
	text := make([]byte, 8192)
	copy(text, "this is no database")
	if err := os.WriteFile(filepath.Join(o.DataDir, "sandpool.db"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"", "postgres:///x?host=/nonexistent"} {
		o.Store = address
		if s, err := vault.Open(t.Context(), quiet, o); err == nil || s != nil {
			t.Errorf("store %q: %v, %v", address, s, err)
		}
	}
}
