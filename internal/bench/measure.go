package bench

import (
	"math"
	"slices"
	"time"
)

// Measure is a series of samples of one thing.
type Measure struct {
	// Name says what was measured; it is stable between versions.
	Name string `json:"name"`
	// Unit of all values: "ms", "MB", "sandboxes/s" or "% of a core".
	Unit string `json:"unit"`
	// How says under which conditions, for people.
	How string `json:"how"`
	// N samples are behind the values; Errors further ones failed and are in none.
	N      int     `json:"n"`
	Errors int     `json:"errors"`
	P50    float64 `json:"p50"`
	P90    float64 `json:"p90"`
	P99    float64 `json:"p99"`
	Max    float64 `json:"max"`
}

// The names of the measures that others compare with.
const (
	NewSession = "new session"
	RoundTrip  = "round trip"
	ColdClaim  = "cold claim"
)

// Summarise makes a Measure of values that somebody else took.
func Summarise(name, unit, how string, values []float64) Measure {
	s := series{values: append([]float64(nil), values...)}
	return s.measure(name, unit, how)
}

// series collects samples.
type series struct {
	values []float64
	errors int
}

func (s *series) duration(d time.Duration) {
	s.values = append(s.values, float64(d)/float64(time.Millisecond))
}

func (s *series) value(v float64) { s.values = append(s.values, v) }

func (s *series) measure(name, unit, how string) Measure {
	slices.Sort(s.values)
	return Measure{Name: name, Unit: unit, How: how, N: len(s.values), Errors: s.errors,
		P50: percentile(s.values, 50), P90: percentile(s.values, 90), P99: percentile(s.values, 99),
		Max: percentile(s.values, 100)}
}

// percentile returns the p-th percentile of sorted values by the nearest-rank
// method: always a value that was measured. It is 0 if there are none.
func percentile(sorted []float64, p int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(float64(p) / 100 * float64(len(sorted))))
	v := sorted[max(rank, 1)-1]
	return math.Round(v*1000) / 1000
}
