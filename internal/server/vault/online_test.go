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
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/keyring"
	"github.com/sandpool/sandpool/internal/server/vault"
	"github.com/sandpool/sandpool/internal/store"
)

// keepOne leaves of the keys in a file the one of an id, which is to open all.
func keepOne(t *testing.T, path, id string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		ring, err := keyring.Parse(line)
		if err == nil && ring.Current() == id {
			if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("there is no key %s in %s", id, path)
}

// write writes secrets one after the other until ctx ends, and tells which it has written.
func write(ctx context.Context, s *vault.State, by int, written func(key string)) error {
	for n := 0; ctx.Err() == nil; n++ {
		key := fmt.Sprintf("/sub/%d-%06d", by, n)
		if err := s.PutDocument(ctx, store.Document{Kind: store.ServerSecret, Key: key,
			Text: hush + key}); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		written(key)
	}
	return nil
}

// TestRekeyOnline: the key of a store in use is changed again and again. What is written and read
// meanwhile is never lost, and the last key alone opens all.
func TestRekeyOnline(t *testing.T) {
	both(t, func(t *testing.T, o vault.Options) {
		s := open(t, o)
		fill(t, s)
		ann := store.Server{Name: "ann", Instance: "1"}
		if o.Store != "" {
			if err := s.Join(t.Context(), ann); err != nil {
				t.Fatal(err)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		var load sync.WaitGroup
		var mu sync.Mutex
		var keys []string
		var reads atomic.Int64
		for by := range 3 {
			load.Go(func() {
				if err := write(ctx, s, by, func(key string) {
					mu.Lock()
					defer mu.Unlock()
					keys = append(keys, key)
				}); err != nil {
					t.Error(err)
				}
			})
		}
		load.Go(func() {
			for ctx.Err() == nil {
				got, err := s.Secrets(t.Context(), one)
				if err != nil || got["a"].Reveal() != hush+"one" {
					t.Errorf("the secrets are %v, %v", got.Names(), err)
					return
				}
				reads.Add(1)
				if o.Store != "" {
					if err := s.Beat(t.Context(), ann.Name, ann.Instance); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
		rounds := 8
		if o.Store != "" {
			rounds = 1 // each looks for other servers first
		}
		var last vault.Rekeyed
		for range rounds {
			had := reads.Load()
			done, err := s.Rekey(t.Context(), ann.Name)
			if err != nil || done.From == done.To || done.Secrets < 7 {
				t.Fatalf("%+v, %v", done, err)
			}
			for last = done; reads.Load() < had+5 && !t.Failed(); {
				<-time.After(time.Millisecond)
			}
		}
		stop()
		load.Wait()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		keepOne(t, filepath.Join(o.DataDir, vault.KeyFile), last.To)
		again := open(t, o)
		want(t, again)
		wantSealed(t, o)
		for _, key := range keys {
			d, err := again.Document(t.Context(), store.ServerSecret, key)
			if err != nil || d.Text != hush+key {
				t.Fatalf("%s of %d: %v", key, len(keys), err)
			}
		}
	})
}

// TestRekeyOnlineRefuses: with a key that cannot change while the server runs, and beside another
// server.
func TestRekeyOnlineRefuses(t *testing.T) {
	o := file(t)
	o.Key.Variable = "STORE_KEY_ONLINE"
	text, _ := keyring.NewKey()
	t.Setenv(o.Key.Variable, text)
	s := open(t, o)
	fill(t, s)
	if _, err := s.Rekey(t.Context(), ""); sandpool.ClassOf(err) != sandpool.Invalid ||
		!strings.Contains(err.Error(), o.Key.Variable) {
		t.Errorf("with a key in a variable: %v", err)
	}
	want(t, s)
	o = shared(t)
	s = open(t, o)
	ctx, stop := context.WithCancel(t.Context())
	var beats sync.WaitGroup
	for _, name := range []string{"ann", "bob"} {
		if err := s.Join(t.Context(), store.Server{Name: name, Instance: "1"}); err != nil {
			t.Fatal(err)
		}
		beats.Go(func() {
			tick := time.NewTicker(time.Second / 2)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					_ = s.Beat(ctx, name, "1") // it ends with the test
				case <-ctx.Done():
					return
				}
			}
		})
	}
	_, err := s.Rekey(t.Context(), "ann")
	stop()
	beats.Wait()
	if sandpool.ClassOf(err) != sandpool.Conflict || !strings.Contains(err.Error(), "bob") ||
		strings.Contains(err.Error(), "ann") {
		t.Errorf("beside another server: %v", err)
	}
}

// rekeyerOnline is as rekeyer, of a process that uses the store meanwhile.
const rekeyerOnline = "SANDPOOL_TEST_REKEYER_ONLINE"

func rekeyInUse(dir string) {
	ctx := context.Background()
	s, err := vault.Open(ctx, quiet, vault.Options{DataDir: dir})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var out sync.Mutex
	say := func(what, text string) {
		out.Lock()
		defer out.Unlock()
		fmt.Println(what, text)
	}
	go func() {
		if err := write(ctx, s, os.Getpid(), func(key string) { say("wrote", key) }); err != nil {
			say("error", err.Error())
			os.Exit(1)
		}
	}()
	for {
		done, err := s.Rekey(ctx, "")
		if err != nil {
			say("error", err.Error())
			os.Exit(1)
		}
		say("to", done.To)
	}
}

// TestRekeyOnlineKilled: whenever a server is killed that changes the key of its store and writes
// to it, every secret that it has written is there, and the store's key alone opens all.
func TestRekeyOnlineKilled(t *testing.T) {
	o := file(t)
	s := open(t, o)
	fill(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	written := map[string]bool{}
	for round := range 8 {
		process := exec.CommandContext(t.Context(), os.Args[0])
		process.Env = append(os.Environ(), rekeyerOnline+"="+o.DataDir)
		out, err := process.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		changes, killed := 0, false
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			what, text, _ := strings.Cut(lines.Text(), " ")
			switch what {
			case "wrote":
				written[text] = true
			case "to":
				changes++
			default:
				t.Fatalf("the process says %q", lines.Text())
			}
			if changes > 0 && !killed { // in the middle of the next change, each time further
				killed = true
				time.AfterFunc(time.Duration(round)*4*time.Millisecond, func() {
					_ = process.Process.Kill()
				})
			}
		}
		_ = process.Wait() // it was killed
		s := open(t, o)
		by, err := s.SealedBy(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		keepOne(t, filepath.Join(o.DataDir, vault.KeyFile), by)
		s = open(t, o)
		want(t, s)
		for key := range written {
			d, err := s.Document(t.Context(), store.ServerSecret, key)
			if err != nil || d.Text != hush+key {
				t.Fatalf("round %d, %s of %d: %v", round, key, len(written), err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		wantSealed(t, o)
	}
	if len(written) == 0 {
		t.Error("nothing was written meanwhile")
	}
}
