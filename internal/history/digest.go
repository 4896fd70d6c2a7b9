package history

import (
	"math"
	"time"
)

// The buckets of a digest: each bound is a quarter more than the one before, from a tenth of a
// millisecond to a day, so that a quantile is wrong by an eighth at most.
const (
	digestBuckets = 94
	lowest        = 100 * time.Microsecond
	growth        = 1.25
)

// digest is durations, counted in buckets. The zero value is empty.
type digest struct {
	counts [digestBuckets]uint32
	total  uint32
}

func (d *digest) add(took time.Duration) {
	i := 0
	if took > lowest {
		i = int(math.Log(float64(took)/float64(lowest))/math.Log(growth)) + 1
	}
	d.counts[min(i, digestBuckets-1)]++
	d.total++
}

// quantile is about the duration that a part q of all did not exceed, in seconds; nil if there is
// none. d may be nil.
func (d *digest) quantile(q float64) *float64 {
	if d == nil || d.total == 0 {
		return nil
	}
	left := uint32(math.Ceil(q * float64(d.total)))
	for i, n := range d.counts {
		if n >= left {
			middle := lowest.Seconds() * math.Pow(growth, float64(i)-.5)
			return &middle
		}
		left -= n
	}
	return nil // cannot happen: the counts add up to the total
}
