package custom_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
)

// errEnough ends a reader of logs.
var errEnough = errors.New("enough")

// wantLines reads a session's log until each of the texts was in a line, in order, and returns the
// last of these lines.
func (k *kit) wantLines(t *testing.T, pool, identifier string, l client.Logs,
	texts ...string) (last api.LogLine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all []string
	err := k.SessionLogs(ctx, pool, identifier, l, func(line api.LogLine) error {
		all = append(all, line.Stream+": "+line.Text)
		if len(texts) > 0 && strings.Contains(all[len(all)-1], texts[0]) {
			last, texts = line, texts[1:]
		}
		if len(texts) == 0 {
			return errEnough
		}
		return nil
	})
	if len(texts) > 0 {
		t.Errorf("the log of %s ends with %v without %q:\n%s", identifier, err, texts,
			strings.Join(all, "\n"))
	}
	return last
}

// TestLogs reads what a container writes: while it runs, after its end, and from a crash on.
func TestLogs(t *testing.T) {
	k := newKit(t)
	for _, mode := range []string{"boot", "snapshot"} {
		p := container(k.push(t, "counter:1", app(t)))
		p.Properties.Sandpool = &api.SandpoolSettings{WarmStart: mode}
		k.makePool(t, mode, p)
		k.get(t, mode, "alice", "/print?out=to+the+output&err="+
			url.QueryEscape("\x1b[31mred\r\xff"))
		last := k.wantLines(t, mode, "alice", client.Logs{Follow: true}, "stdout: to the output")
		k.wantLines(t, mode, "alice", client.Logs{Follow: true}, "stderr: \x1b[31mred\r\ufffd")
		k.get(t, mode, "alice", "/print?out=more")
		k.wantLines(t, mode, "alice", client.Logs{Follow: true, After: last.Next}, "stdout: more")
		if mode == "boot" {
			k.wantLines(t, mode, "alice", client.Logs{}, "stdout: the app listens",
				"stdout: to the output", "stdout: more")
		}
		ended := make(chan error, 1)
		go func() {
			ended <- k.SessionLogs(t.Context(), mode, "alice", client.Logs{Follow: true,
				After: last.Next}, func(api.LogLine) error { return nil })
		}()
		k.do(t, http.MethodGet, mode, "alice", "/exit?code=3", nil)
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("a reader of the session's log: %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("a reader still waits although the session has ended")
		}
		k.wantLines(t, mode, "alice", client.Logs{}, "stdout: more", "asked to exit with 3")
		err := k.SessionLogs(t.Context(), mode, "bobby", client.Logs{}, func(api.LogLine) error {
			return nil
		})
		if sandpool.ClassOf(err) != sandpool.NotFound {
			t.Errorf("the log of a session that never was: %v", err)
		}
	}
}
