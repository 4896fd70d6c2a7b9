package server

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/issuer"
	"github.com/sandpool/sandpool/internal/server/vault"
)

// TestIssuerKeys: the key of an earlier version goes into the store, sealed, and its file away; the
// server goes on with it then.
func TestIssuerKeys(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, issuerKeyFile)
	if err := os.WriteFile(path, []byte(issuer.NewKey()), 0o600); err != nil {
		t.Fatal(err)
	}
	var text string
	for round := range 3 {
		state, err := vault.Open(t.Context(), slog.New(slog.DiscardHandler),
			vault.Options{DataDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		s := &Server{cfg: Config{DataDir: dir,
			PublicURL: "https://pools.example.com", IssuerKeyDays: 90}, store: state}
		if err := s.openKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.tokens, err = auth.NewTokens(state, nil); err != nil {
			t.Fatal(err)
		}
		i, err := s.issuer()
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			p := sandpool.Pool{ID: sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "py"}}
			p.Spec.Identity = sandpool.ManagedIdentity{InSessions: true,
				Principal: "5a9d9001-0000-8000-8000-000000000001"}
			if text, _, err = i.IssueManaged(p, p.Identities()[0],
				"https://dynamicsessions.io"); err != nil {
				t.Fatal(err)
			}
		}
		if !i.Recognizes(auth.Credential{Kind: auth.Bearer, Text: text}) {
			t.Errorf("round %d: a token of the first key is not known", round)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("round %d: the key is still in its file", round)
		}
		if err := state.Close(); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(filepath.Join(dir, "sandpool.db"))
	if err != nil || strings.Contains(string(kept), "PRIVATE KEY") {
		t.Errorf("the key is in the store in plain text (%v)", err)
	}
}
