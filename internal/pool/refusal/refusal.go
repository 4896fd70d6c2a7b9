// Package refusal adds up what the sandboxes of a pool were refused on the network: of those that
// run and of those that are over, so that counts never go back while the server runs. It says from
// time to time what is new, and never more often than that, whatever sandboxes try.
package refusal

import (
	"fmt"
	"time"

	"github.com/sandpool/sandpool"
)

// Kept bounds the single refusals that a Tally gives out.
const Kept = 100

// Pace is the least time between two pieces of news of a pool.
const Pace = 10 * time.Second

// Tally is the sum for one pool. The zero value is empty. Its caller guards it.
type Tally struct {
	running map[sandpool.SandboxID]sandpool.Refusals
	over    sandpool.Refusals // of sandboxes that are gone

	told int64 // the count in the last news
	next time.Time
}

// Read notes what a running sandbox has been refused since it started. An engine that was restarted
// may have forgotten some of it.
func (t *Tally) Read(id sandpool.SandboxID, r sandpool.Refusals) {
	if r.Packets == 0 && r.Names == 0 {
		return
	}
	old := t.running[id]
	if r.Packets < old.Packets || r.Names < old.Names {
		t.over.Add(old, Kept)
	}
	if t.running == nil {
		t.running = map[sandpool.SandboxID]sandpool.Refusals{}
	}
	t.running[id] = r
}

// End notes that a sandbox is gone.
func (t *Tally) End(id sandpool.SandboxID) {
	if old, ok := t.running[id]; ok {
		t.over.Add(old, Kept)
		delete(t.running, id)
	}
}

// Sum is what there is of all sandboxes.
func (t *Tally) Sum() (sum sandpool.Refusals) {
	sum.Add(t.over, Kept)
	for _, r := range t.running {
		sum.Add(r, Kept)
	}
	return sum
}

// News is what has been refused since the last news.
type News struct {
	Count   int64
	Sandbox sandpool.SandboxID // that of the latest refusal, if it runs
	Latest  sandpool.Refusal
}

// Message is a sentence for the pool's users. Names are quoted: they are what code has asked for.
func (n News) Message() string {
	text := "Sandboxes tried to reach what the pool's policy does not allow"
	switch r := n.Latest; {
	case r.Host == "":
		return text + "."
	case r.Port == 0:
		return fmt.Sprintf("%s; the latest is %.120q (%s).", text, r.Host, r.Protocol)
	default:
		return fmt.Sprintf("%s; the latest is %.120q, port %d (%s).", text, r.Host,
			r.Port, r.Protocol)
	}
}

// News returns what is new, if it is time to tell.
func (t *Tally) News(now time.Time) (n News, ok bool) {
	count := t.over.Packets + t.over.Names
	for id, r := range t.running {
		count += r.Packets + r.Names
		if len(r.Recent) > 0 && r.Recent[0].Time.After(n.Latest.Time) {
			n.Sandbox, n.Latest = id, r.Recent[0]
		}
	}
	if len(t.over.Recent) > 0 && t.over.Recent[0].Time.After(n.Latest.Time) {
		n.Sandbox, n.Latest = "", t.over.Recent[0]
	}
	if count <= t.told || now.Before(t.next) {
		return News{}, false
	}
	n.Count, t.told, t.next = count-t.told, count, now.Add(Pace)
	return n, true
}
