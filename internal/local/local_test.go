package local_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/local"
	"github.com/sandpool/sandpool/internal/logging"
)

// serve serves below a folder whose path fits into a socket's address, until the test ends.
func serve(t *testing.T, levels *logging.Handler) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "local-")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() {
		ended <- local.Serve(ctx, slog.New(slog.DiscardHandler), dir,
			local.Parts{Levels: levels})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 5000 {
		if info, err := os.Stat(local.Path(dir)); err == nil && info.Mode().Perm() == 0o600 {
			return dir
		}
		<-tick.C
	}
	t.Fatal("there is no socket for its owner alone")
	return ""
}

func ask(t *testing.T, dir, method, path, body string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := local.NewClient(dir).Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), nil
}

func TestLevels(t *testing.T) {
	var out bytes.Buffer
	h := logging.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}),
		slog.LevelInfo, nil)
	dir := serve(t, h)
	text, err := ask(t, dir, "PUT", "/log-levels", `{"":"warn","internal/pool":"debug"}`)
	var got map[string]string
	if err != nil || json.Unmarshal([]byte(text), &got) != nil || got[""] != "WARN" ||
		got["internal/pool"] != "DEBUG" {
		t.Errorf("levels %s: %v", text, err)
	}
	for _, body := range []string{`{"":"loud"}`, `no JSON`, `{"":"` + strings.Repeat("x", 70000) +
		`"}`} {
		if _, err := ask(t, dir, "PUT", "/log-levels", body); err == nil {
			t.Errorf("%.20s is taken", body)
		}
	}
	if h.Levels()[""] != slog.LevelWarn {
		t.Errorf("after refusals the levels are %v", h.Levels())
	}
}

func TestProfiles(t *testing.T) {
	dir := serve(t, nil)
	for path, want := range map[string]string{"/debug/pprof/goroutine?debug=1": "goroutine profile",
		"/debug/pprof/heap": "\x1f\x8b", "/debug/pprof/profile?seconds=1": "\x1f\x8b"} {
		if text, err := ask(t, dir, "GET", path, ""); err != nil || !strings.HasPrefix(text, want) {
			t.Errorf("%s: %.40q %v", path, text, err)
		}
	}
	if _, err := ask(t, dir, "GET", "/debug/pprof/other", ""); err == nil {
		t.Error("a profile that does not exist is there")
	}
	if _, err := ask(t, dir, "PUT", "/log-levels", `{"":"warn"}`); err == nil {
		t.Error("levels are changed that are not there")
	}
}
