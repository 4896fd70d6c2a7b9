package vault_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/keyring"
	"github.com/sandpool/sandpool/internal/server/vault"
	"github.com/sandpool/sandpool/internal/store"
)

func rekey(t *testing.T, o vault.Options, discard bool) vault.Rekeyed {
	t.Helper()
	done, err := vault.Rekey(t.Context(), quiet, o, discard)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// TestRekey: all is sealed with a new key, the old one opens nothing any more, and a change that
// was interrupted is finished.
func TestRekey(t *testing.T) {
	both(t, func(t *testing.T, o vault.Options) {
		s := open(t, o)
		fill(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		first := rekey(t, o, false)
		if first.From == first.To || first.Secrets != 7 {
			t.Errorf("rekey: %+v", first)
		}
		want(t, open(t, o))
		wantSealed(t, o)
		path := filepath.Join(o.DataDir, vault.KeyFile)
		id, err := keyring.Add(path) // and then it was killed
		if err != nil {
			t.Fatal(err)
		}
		want(t, open(t, o))
		if done := rekey(t, o, false); done.From != first.To || done.To != id {
			t.Errorf("the interrupted change goes on with %+v, want %s", done, id)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		newest := strings.Split(string(text), "\n")[1]
		if err := os.WriteFile(path, []byte(newest), 0o600); err != nil {
			t.Fatal(err)
		}
		want(t, open(t, o)) // without the old keys
	})
}

// TestRekeyMany: no secret is left out, however many there are.
func TestRekeyMany(t *testing.T) {
	both(t, func(t *testing.T, o vault.Options) {
		s := open(t, o)
		fill(t, s)
		const many = 250
		for i := range many {
			if err := s.PutDocument(t.Context(), store.Document{Kind: store.Deployment,
				Key: fmt.Sprint("/Sub/", i), Text: hush}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if done := rekey(t, o, false); done.Secrets != 7+many {
			t.Errorf("rekey: %+v", done)
		}
		list, err := open(t, o).Documents(t.Context(), store.Deployment, "/Sub/")
		if err != nil || len(list) != many {
			t.Errorf("%d documents open, %v", len(list), err)
		}
	})
}

// TestRekeyBySettings: keys that the program cannot write are changed by their operator.
func TestRekeyBySettings(t *testing.T) {
	old, _ := keyring.NewKey()
	next, id := keyring.NewKey()
	o := file(t)
	o.Key.Variable = "STORE_KEY_OF_TEST"
	t.Setenv(o.Key.Variable, old)
	s := open(t, o)
	fill(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := vault.Rekey(t.Context(), quiet, o, false); err == nil ||
		!strings.Contains(err.Error(), "sandpool store key") {
		t.Errorf("without a new key: %v", err)
	}
	t.Setenv(o.Key.Variable, next)
	if _, err := vault.Rekey(t.Context(), quiet, o, false); err == nil {
		t.Error("secrets are sealed anew without their old key")
	}
	t.Setenv(o.Key.Variable, next+"\n"+old)
	if done := rekey(t, o, false); done.To != id {
		t.Errorf("rekey: %+v", done)
	}
	t.Setenv(o.Key.Variable, next)
	want(t, open(t, o))
}

// TestLostKey: secrets without a key can be given up, and nothing else is.
func TestLostKey(t *testing.T) {
	both(t, func(t *testing.T, o vault.Options) {
		s := open(t, o)
		fill(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(o.DataDir, vault.KeyFile)); err != nil {
			t.Fatal(err)
		}
		if _, err := vault.Rekey(t.Context(), quiet, o, false); err == nil {
			t.Error("secrets without a key are sealed anew")
		}
		if done := rekey(t, o, true); done.Discarded != 7 {
			t.Errorf("rekey: %+v", done)
		}
		s = open(t, o)
		got, err := s.Secrets(t.Context(), one)
		if err != nil || len(got) != 2 || got["a"].Reveal() != "" {
			t.Errorf("the secrets are %v, %v", got.Names(), err)
		}
		if list, err := s.Documents(t.Context(), store.Deployment, ""); err != nil || len(list) > 0 {
			t.Errorf("deployments that were given up are %q, %v", list, err)
		}
		offer := store.Document{Kind: store.ServerSecret, Key: "k", Text: "new"}
		if d, err := s.Agree(t.Context(), offer); err != nil || d != offer {
			t.Errorf("servers agree on %+v, %v", d, err)
		}
	})
}

// TestRekeyRefuses: beside a server that runs, and where there is no store.
func TestRekeyRefuses(t *testing.T) {
	if _, err := vault.Rekey(t.Context(), quiet, vault.Options{DataDir: t.TempDir()},
		false); sandpool.ClassOf(err) != sandpool.NotFound {
		t.Errorf("without a store: %v", err)
	}
	o := shared(t)
	s := open(t, o)
	if err := s.Join(t.Context(), store.Server{Name: "ann", Instance: "1"}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var beats sync.WaitGroup
	beats.Go(func() {
		tick := time.NewTicker(time.Second / 2)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_ = s.Beat(ctx, "ann", "1") // it ends with the test
			case <-ctx.Done():
				return
			}
		}
	})
	_, err := vault.Rekey(t.Context(), quiet, o, false)
	stop()
	beats.Wait()
	if sandpool.ClassOf(err) != sandpool.Conflict || !strings.Contains(err.Error(), "ann") {
		t.Errorf("beside a server that runs: %v", err)
	}
}

// TestRekeyedMeanwhile: a server that was about to join while the key was changed does not, and one
// that has joined does not show that it lives: what they seal would open for nobody.
func TestRekeyedMeanwhile(t *testing.T) {
	o := shared(t)
	s, late := open(t, o), open(t, o)
	ann := store.Server{Name: "ann", Instance: "1"}
	if err := s.Join(t.Context(), ann); err != nil {
		t.Fatal(err)
	}
	if err := s.Beat(t.Context(), "ann", "1"); err != nil {
		t.Fatal(err)
	}
	rekey(t, o, false) // after a look at beats, of which there are none
	for what, err := range map[string]error{"beat": s.Beat(t.Context(), "ann", "1"),
		"join": late.Join(t.Context(), store.Server{Name: "bob", Instance: "2"})} {
		if sandpool.ClassOf(err) != sandpool.Conflict {
			t.Errorf("%s with a key that is not the store's: %v", what, err)
		}
	}
}

// rekeyer is the environment variable that makes this test binary a process that changes the key of
// the store in the directory that it names until it is killed.
const rekeyer = "SANDPOOL_TEST_REKEYER"

func rekeyForEver(dir string) {
	for {
		done, err := vault.Rekey(context.Background(), quiet, vault.Options{DataDir: dir}, false)
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println("to", done.To)
	}
}

// TestRekeyKilled: whenever the change of a key is killed, the store opens and has every secret.
func TestRekeyKilled(t *testing.T) {
	o := file(t)
	s := open(t, o)
	fill(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for round := range 12 {
		process := exec.CommandContext(t.Context(), os.Args[0])
		process.Env = append(os.Environ(), rekeyer+"="+o.DataDir)
		out, err := process.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "to ") {
			t.Fatalf("the process says %q, %v", line, err)
		}
		// It is in the middle of the next change, each time a little further.
		timer := time.NewTimer(time.Duration(round) * 3 * time.Millisecond)
		<-timer.C
		if err := process.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = process.Wait() // it was killed
		s := open(t, o)
		want(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		wantSealed(t, o)
	}
}
