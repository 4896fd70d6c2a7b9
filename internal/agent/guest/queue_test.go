package guest_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// TestQueue: executions wait for one that runs, as many as may, and one more is refused at once.
func TestQueue(t *testing.T) {
	s := start(t)
	s.run(t, "import os, time; ran = 0")
	var callers sync.WaitGroup
	callers.Go(func() {
		s.run(t, "open('running', 'w').close()\nwhile not os.path.exists('go'): time.sleep(.01)")
	})
	awaitFile(t, filepath.Join(s.data, "running"))
	refused := make(chan struct{})
	var once sync.Once
	var mu sync.Mutex
	served := 0
	for range agent.MaxQueue + 1 {
		callers.Go(func() {
			_, err := s.Execute(t.Context(), agent.ExecuteRequest{Code: "ran += 1"})
			var known *sandpool.Error
			switch {
			case err == nil:
				mu.Lock()
				served++
				mu.Unlock()
			case errors.As(err, &known) && known.Code == "TooManyExecutions" &&
				known.RetryAfter > 0:
				once.Do(func() { close(refused) })
			default:
				t.Error(err)
			}
		})
	}
	select {
	case <-refused:
	case <-time.After(time.Minute):
		t.Error("nothing was refused")
	}
	if err := os.WriteFile(filepath.Join(s.data, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	callers.Wait()
	if res := s.run(t, "ran"); served != agent.MaxQueue || res.Text != "128" {
		t.Errorf("%d served, %s ran; want %d", served, res.Text, agent.MaxQueue)
	}
}

func awaitFile(t *testing.T, name string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		if _, err := os.Stat(name); err == nil {
			return
		}
	}
	t.Fatalf("%q did not appear", name)
}
