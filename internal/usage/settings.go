package usage

import (
	"fmt"
	"time"

	"github.com/sandpool/sandpool/internal/store"
)

// Settings say what is kept of sessions that have ended.
type Settings struct {
	// Days is for how long; zero means that usage is not recorded at all.
	Days int `yaml:"days"`
	// Records is how many at most; the oldest go.
	Records int64 `yaml:"records"`
}

// DefaultSettings keep a year, of a million sessions.
func DefaultSettings() Settings { return Settings{Days: 366, Records: 1_000_000} }

// The bounds of settings: ten years, and what fits into memory when it is added up.
const (
	maxDays    = 3660
	minRecords = 1000
	maxRecords = 10_000_000
)

// Validate reports what is out of range.
func (s Settings) Validate() (problems []error) {
	if s.Days < 0 || s.Days > maxDays {
		problems = append(problems, fmt.Errorf(
			"configuration: usage.days is %d; use 0 to %d, 0 for no records at all", s.Days, maxDays))
	}
	if s.Records < minRecords || s.Records > maxRecords {
		problems = append(problems, fmt.Errorf("configuration: usage.records is %d; use %d to %d",
			s.Records, minRecords, maxRecords))
	}
	return problems
}

// bounds are the settings at a time.
func (s Settings) bounds(now time.Time) store.UsageBounds {
	return store.UsageBounds{Before: now.AddDate(0, 0, -s.Days), Most: s.Records}
}
