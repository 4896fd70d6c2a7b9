package sqlite_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sqlite"
)

// claimer is the environment variable that makes this test binary a process
// which claims in the database that it names until it is killed.
const claimer = "SANDPOOL_TEST_CLAIMER"

// TestKill kills a claiming process and asks whether every claim that it was told of is there.
func TestKill(t *testing.T) {
	if path := os.Getenv(claimer); path != "" {
		if err := claimForEver(path); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "state.db")
	told := map[sandpool.SandboxID]sandpool.Identifier{}
	for round := range 5 {
		for id, identifier := range claimAndKill(t, path, 20+7*round) {
			told[id] = identifier
		}
		rows, err := open(t, path).Sandboxes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		kept := map[sandpool.SandboxID]sandpool.Identifier{}
		for _, row := range rows {
			kept[row.ID] = row.Identifier
		}
		for id, identifier := range told {
			if kept[id] != identifier {
				t.Errorf("round %d: sandbox %s was claimed for %s and is kept for %q", round, id,
					identifier, kept[id])
			}
		}
	}
	if len(told) < 5*20 {
		t.Errorf("only %d claims were made", len(told))
	}
}

// claimAndKill runs a claiming process, kills it after n claims and returns those it told of.
func claimAndKill(t *testing.T, path string, n int) map[sandpool.SandboxID]sandpool.Identifier {
	t.Helper()
	process := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKill$")
	process.Env = append(os.Environ(), claimer+"="+path)
	out, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	told := map[sandpool.SandboxID]sandpool.Identifier{}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		id, identifier, ok := strings.Cut(lines.Text(), " ")
		if !ok {
			t.Fatalf("the process says %q", lines.Text())
		}
		told[sandpool.SandboxID(id)] = sandpool.Identifier(identifier)
		if len(told) == n {
			if err := process.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := process.Wait(); err == nil {
		t.Error("the process ended before it was killed")
	}
	return told
}

// claimForEver prints "sandbox identifier" once the store has returned a claim.
func claimForEver(path string) error {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, slog.New(slog.DiscardHandler), path)
	if err != nil {
		return err
	}
	p := sandpool.Pool{ID: sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "n"},
		State: sandpool.Succeeded}
	if _, err := s.CreatePool(ctx, p, nil, "test"); err != nil &&
		sandpool.ClassOf(err) != sandpool.Conflict {
		return err
	}
	for n := 0; ; n++ {
		name := fmt.Sprintf("%d-%d", os.Getpid(), n)
		b, _, err := s.Claim(ctx, sandpool.ClaimRequest{Pool: p.ID, Epoch: 1,
			Identifier: sandpool.Identifier("user-" + name), Max: 1 << 30,
			NewID: sandpool.SandboxID("box-" + name)})
		if err != nil {
			return err
		}
		fmt.Println(b.ID, b.Identifier)
	}
}
