// Package logging is the server's log: each package has a level of its own, which can be changed
// while the server runs, and a line that repeats itself without end is told a few times, and then
// how often.
package logging

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The bounds of repeats: a line of one text is written this often in this time.
const (
	maxRepeats = 20
	window     = 10 * time.Second
	maxPlaces  = 512
)

// module is what names of packages begin with.
const module = "github.com/sandpool/sandpool/"

// events is the package of records that come from nowhere in the code: those of events.
const events = "internal/event"

// Handler is a slog.Handler over another, which decides nothing. Use New.
type Handler struct {
	next   slog.Handler
	shared *shared
}

// shared is what a Handler has in common with those that WithAttrs and WithGroup make of it.
type shared struct {
	now  func() time.Time
	low  atomic.Int64 // the lowest of all levels
	mu   sync.Mutex   // guards the fields below
	base slog.Level
	own  map[string]slog.Level // by package, without the module
	seen map[place]*repeats
}

// place is what tells lines apart.
type place struct {
	level   slog.Level
	message string
}

type repeats struct {
	since time.Time
	count int
}

// New returns a Handler that writes to next, which must take every level, what has level base or
// more. now is the clock; nil means time.Now.
func New(next slog.Handler, base slog.Level, now func() time.Time) *Handler {
	if now == nil {
		now = time.Now
	}
	s := &shared{now: now, base: base, own: map[string]slog.Level{}, seen: map[place]*repeats{}}
	s.low.Store(int64(base))
	return &Handler{next, s}
}

// Set gives a package, such as "internal/pool", a level of its own; "" is that of all others.
// A package has that of the nearest one above it.
func (h *Handler) Set(pkg string, level slog.Level) {
	s := h.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	if pkg == "" {
		s.base = level
		s.own = map[string]slog.Level{}
	} else {
		s.own[strings.TrimPrefix(pkg, module)] = level
	}
	low := s.base
	for _, l := range s.own {
		low = min(low, l)
	}
	s.low.Store(int64(low))
}

// Levels returns the level of each package that has one of its own, and under "" that of all
// others.
func (h *Handler) Levels() map[string]slog.Level {
	h.shared.mu.Lock()
	defer h.shared.mu.Unlock()
	all := maps.Clone(h.shared.own)
	all[""] = h.shared.base
	return all
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(_ context.Context, level slog.Level) bool {
	return int64(level) >= h.shared.low.Load()
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Handler{h.next.WithAttrs(attrs), h.shared}
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.next.WithGroup(name), h.shared}
}

// Handle implements slog.Handler.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	write, held := h.shared.judge(r)
	if !write {
		return nil
	}
	if held > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("held_back", held))
	}
	return h.next.Handle(ctx, r)
}

// judge says whether a line is written, and how many like it were not since the last one.
func (s *shared) judge(r slog.Record) (write bool, held int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	level := s.base
	if len(s.own) > 0 {
		level = s.of(packageOf(r.PC))
	}
	if r.Level < level {
		return false, 0
	}
	now, at := s.now(), place{r.Level, r.Message}
	known := s.seen[at]
	switch {
	case known == nil:
		if len(s.seen) >= maxPlaces {
			clear(s.seen)
		}
		s.seen[at] = &repeats{now, 1}
		return true, 0
	case now.Sub(known.since) > window:
		held = max(0, known.count-maxRepeats)
		known.since, known.count = now, 1
		return true, held
	}
	known.count++
	return known.count <= maxRepeats, 0
}

// of is the level of a package. The caller holds mu.
func (s *shared) of(pkg string) slog.Level {
	for name := pkg; ; {
		if level, ok := s.own[name]; ok {
			return level
		}
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return s.base
		}
		name = name[:i]
	}
}

// packageOf is the package of a place in the code, without the module.
func packageOf(pc uintptr) string {
	if pc == 0 {
		return events
	}
	frame, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	name := strings.TrimPrefix(frame.Function, module)
	slash := strings.LastIndexByte(name, '/')
	if dot := strings.IndexByte(name[slash+1:], '.'); dot >= 0 {
		name = name[:slash+1+dot]
	}
	return name
}

// Parse reads a level as people write it.
func Parse(text string) (level slog.Level, err error) {
	if err := level.UnmarshalText([]byte(text)); err != nil {
		return 0, fmt.Errorf("the level is %q; use debug, info, warn or error", text)
	}
	return level, nil
}
