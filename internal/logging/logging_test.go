package logging_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/logging"
)

func newLog(now *time.Time) (*slog.Logger, *logging.Handler, *bytes.Buffer) {
	var out bytes.Buffer
	h := logging.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}),
		slog.LevelInfo, func() time.Time { return *now })
	return slog.New(h), h, &out
}

// TestLevels: a package's own level holds for it and what is below it, until all get another.
func TestLevels(t *testing.T) {
	now := time.Unix(1e9, 0)
	log, h, out := newLog(&now)
	said := func() bool {
		out.Reset()
		log.With("a", 1).WithGroup("g").Debug("fine", "t", now.UnixNano())
		now = now.Add(time.Minute)
		return out.Len() > 0
	}
	for _, step := range []struct {
		pkg   string
		level slog.Level
		want  bool
	}{
		{"", slog.LevelInfo, false},
		{"internal/pool", slog.LevelDebug, false},
		{"internal/logging_test", slog.LevelDebug, true},
		{"internal/logging_test", slog.LevelError, false},
		{"", slog.LevelDebug, true},
		{"internal", slog.LevelWarn, false},
		{"github.com/sandpool/sandpool/internal/logging_test", slog.LevelDebug, true},
	} {
		h.Set(step.pkg, step.level)
		if got := said(); got != step.want {
			t.Errorf("with %q at %s a line of level debug is written: %t", step.pkg, step.level,
				got)
		}
	}
	if got := h.Levels(); got[""] != slog.LevelDebug || got["internal"] != slog.LevelWarn {
		t.Errorf("levels %v", got)
	}
}

// TestRepeats: a line without end is told twenty times in ten seconds, and then how often it was
// not.
func TestRepeats(t *testing.T) {
	now := time.Unix(1e9, 0)
	log, _, out := newLog(&now)
	again := func() { log.Warn("again") }
	for range 1000 {
		again()
	}
	log.Warn("something else")
	if n := strings.Count(out.String(), "again"); n != 20 {
		t.Errorf("%d lines, want 20", n)
	}
	if !strings.Contains(out.String(), "something else") {
		t.Error("what is said once is lost")
	}
	out.Reset()
	now = now.Add(11 * time.Second)
	again()
	if !strings.Contains(out.String(), "held_back=980") {
		t.Errorf("later: %s", out)
	}
}

func TestParse(t *testing.T) {
	if _, err := logging.Parse("loud"); err == nil {
		t.Error("no error for a level that does not exist")
	}
	if l, err := logging.Parse("warn"); err != nil || l != slog.LevelWarn {
		t.Errorf("%v %v", l, err)
	}
}
