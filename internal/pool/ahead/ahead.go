// Package ahead says how many sandboxes a pool keeps ready now: its usual number, what its plan
// asks for at this time of the week, or what is needed if claims go on as they do. It decides from
// what it is given alone, so that every decision can be tested without a clock.
//
// # The forecast
//
// A claim that finds nothing ready waits for a start, so as many are kept ready as may be claimed
// until a start that begins now has ended: Lead, which the pool's owner sets. The claims of each
// minute are counted. What counts is the busiest minute of the last Recent, and the busiest of
// those that come, as they were a day ago; to what is expected come two standard deviations of it,
// as claims come by chance. The number grows at once and falls when the busiest minute is Recent
// ago, so sandboxes are not started and ended in turn.
//
// It is never less than the usual number or the window's, and never more than the owner's bound.
// The counts of a day are a text of some kilobytes, which whoever owns the pool next goes on with.
package ahead

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"
	_ "time/tzdata" // images of this program have no zones of their own

	"github.com/sandpool/sandpool"
)

// Recent is how far the forecast looks back, and, a day ago, forward.
const Recent = 10 * time.Minute

const (
	day     = 24 * 60 // minutes
	minutes = day + 2*int(Recent/time.Minute)
)

// Claims counts the claims of a pool, by minutes, and has the zones of its windows at hand. The
// zero value has counted none.
type Claims struct {
	counts []uint32 // of the minutes up to last, each at its number modulo the length
	last   int64
	zones  map[string]*time.Location // see zone
}

// Note counts a claim.
func (c *Claims) Note(now time.Time) { c.note(now.Unix()/60, 1) }

// note counts n claims of a minute.
func (c *Claims) note(at int64, n uint32) {
	if c.counts == nil {
		c.counts, c.last = make([]uint32, minutes), at
	}
	for ; c.last < at; c.last++ {
		if at-c.last > int64(minutes) {
			clear(c.counts)
			c.last = at - 1
		}
		c.counts[(c.last+1)%int64(minutes)] = 0
	}
	if at > c.last-int64(minutes) { // a clock that was set back further is not believed
		c.counts[at%int64(minutes)] += n
	}
}

// kept are Claims as text.
type kept struct {
	Last   int64    `json:"last"`   // the last minute, counted since 1970
	Counts []uint32 `json:"counts"` // up to it, from the first that has any
}

// Text is what Add takes.
func (c *Claims) Text() string {
	k := kept{Last: c.last, Counts: []uint32{}}
	for at := c.last - int64(minutes) + 1; at <= c.last && c.counts != nil; at++ {
		if n := c.counts[at%int64(minutes)]; n > 0 || len(k.Counts) > 0 {
			k.Counts = append(k.Counts, n)
		}
	}
	text, err := json.Marshal(k)
	if err != nil {
		panic(err) // numbers can be marshalled
	}
	return string(text)
}

// Add counts the claims of a text besides. One that is none has none.
func (c *Claims) Add(text string) {
	var k kept
	if json.Unmarshal([]byte(text), &k) != nil || k.Last < int64(len(k.Counts)) {
		return
	}
	for i, n := range k.Counts {
		c.note(k.Last-int64(len(k.Counts)-1-i), n)
	}
}

// busiest is the largest count of the minutes from..to, both included.
func (c *Claims) busiest(from, to int64) (most int) {
	for at := max(from, c.last-int64(minutes)+1); at <= min(to, c.last) && c.counts != nil; at++ {
		most = max(most, int(c.counts[at%int64(minutes)]))
	}
	return most
}

// Want is how many are to be ready, and, if that is not the usual number, why.
func Want(now time.Time, usual int, plan sandpool.ReadyPlan, c *Claims) (ready int, why string) {
	ready = usual
	if w, ends, ok := c.window(now, plan.Windows); ok {
		ready = w.Ready
		why = fmt.Sprintf("By its schedule the pool wants %d ready until %s.", ready,
			ends.Format("Mon 15:04 MST"))
	}
	if plan.ForecastMost <= ready {
		return ready, why
	}
	need, rate, when := expected(now, plan.Lead, c)
	if need <= ready {
		return ready, why
	}
	bounded := ""
	if need > plan.ForecastMost {
		need, bounded = plan.ForecastMost, fmt.Sprintf(", at most %d", plan.ForecastMost)
	}
	return need, fmt.Sprintf("By its forecast the pool wants %d ready%s: up to %d claims a minute "+
		"%s, for %v ahead.", need, bounded, rate, when, plan.Lead)
}

// expected is how many claims may come within lead, and what says so.
func expected(now time.Time, lead time.Duration, c *Claims) (n, rate int, when string) {
	at := now.Unix() / 60
	recent := int64(Recent / time.Minute)
	rate, when = c.busiest(at-recent+1, at), fmt.Sprintf("in the last %v", Recent)
	// A minute that has just begun tells less than it will.
	if before := c.busiest(at-day, at-day+recent+int64(lead/time.Minute)); before > rate {
		rate, when = before, "at this time a day ago"
	}
	mean := float64(rate) * lead.Minutes()
	return int(math.Ceil(mean + 2*math.Sqrt(mean))), rate, when
}

// window is the one that holds now and asks for most, and when it ends.
func (c *Claims) window(now time.Time, all []sandpool.ReadyWindow) (best sandpool.ReadyWindow,
	ends time.Time, ok bool) {
	for _, w := range all {
		zone := c.zone(w.Zone)
		if zone == nil {
			continue // was refused when it was set, unless the database has lost it
		}
		here := now.In(zone)
		for back := range 2 { // it may have begun yesterday
			y, m, d := here.AddDate(0, 0, -back).Date()
			from := time.Date(y, m, d, 0, w.From, 0, 0, zone)
			to := time.Date(y, m, d, 0, w.To, 0, 0, zone)
			if w.To <= w.From {
				to = time.Date(y, m, d+1, 0, w.To, 0, 0, zone)
			}
			if slices.Contains(w.Days, from.Weekday()) && !now.Before(from) && now.Before(to) &&
				(!ok || w.Ready > best.Ready) {
				best, ends, ok = w, to, true
			}
		}
	}
	return best, ends, ok
}

// zone returns a time zone, nil if there is none of the name. LoadLocation reads a file each time,
// and pools are looked at with every claim.
func (c *Claims) zone(name string) *time.Location {
	if z := c.zones[name]; z != nil {
		return z
	}
	z, err := time.LoadLocation(name)
	if err != nil {
		return nil
	}
	if c.zones == nil {
		c.zones = map[string]*time.Location{}
	}
	c.zones[name] = z
	return z
}
