package executions

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// Bounds are how much a Keeper keeps, in bytes. Zero means the default.
type Bounds struct {
	All     int64 // of all pools; 64 MiB
	Pool    int64 // of one; a quarter of All
	Session int64 // of one identifier, for all its callers; 1 MiB, or Pool if that is less
}

func (b Bounds) withDefaults() Bounds {
	if b.All <= 0 {
		b.All = 64 << 20
	}
	if b.Pool <= 0 {
		b.Pool = max(b.All/4, 1)
	}
	if b.Session <= 0 {
		b.Session = 1 << 20
	}
	b.Pool = min(b.Pool, b.All)
	b.Session = min(b.Session, b.Pool)
	return b
}

// maxEntries bounds the executions that are kept of one identifier's sessions.
const maxEntries = 500

// Keeper keeps executions. Use New. Its methods may be called at the same time.
type Keeper struct {
	bounds Bounds
	now    func() time.Time

	mu     sync.Mutex // guards the fields below, and all holders, entries and pools
	all    holder
	pools  map[string]*pool // by PoolID.Key, those that keep history
	number int64
}

// pool is one that keeps history.
type pool struct {
	holder
	retention time.Duration
	gone      bool // it keeps nothing any more, and what it has is forgotten
	callers   map[string]*caller
	logs      map[sandpool.Identifier][]*log // one for each caller
}

// caller is a principal that runs code in a pool.
type caller struct {
	holder
	name string
	logs map[sandpool.Identifier]*log
}

// log is what a caller ran in the sessions of an identifier.
type log struct {
	holder
	caller     *caller
	pool       *pool
	identifier sandpool.Identifier
	entries    []*Entry // the oldest first
}

// New returns a Keeper that knows no pool. now may be nil.
func New(b Bounds, now func() time.Time) *Keeper {
	if now == nil {
		now = time.Now
	}
	return &Keeper{bounds: b.withDefaults(), now: now, pools: map[string]*pool{}}
}

// Keep says how executions of a pool are kept; with nil what is kept of them is forgotten, and
// nothing is until it is called again. It does not block.
func (k *Keeper) Keep(id sandpool.PoolID, how *sandpool.History) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.pools[id.Key()]
	switch {
	case how == nil && p == nil:
	case how == nil:
		delete(k.pools, id.Key())
		p.add(-p.bytes, -p.entries)
		p.gone, p.below, p.callers, p.logs = true, nil, nil, nil
	case p == nil:
		p = &pool{retention: how.Retention, callers: map[string]*caller{},
			logs: map[sandpool.Identifier][]*log{}}
		p.above = &k.all
		k.pools[id.Key()] = p
	default:
		p.retention = how.Retention
	}
}

// logOf returns the log of a caller and an identifier, and makes it.
func (p *pool) logOf(name string, identifier sandpool.Identifier) *log {
	c := p.callers[name]
	if c == nil {
		c = &caller{name: name, logs: map[sandpool.Identifier]*log{}}
		c.above = &p.holder
		p.callers[name] = c
	}
	l := c.logs[identifier]
	if l == nil {
		// It may be a part of a long query.
		identifier = sandpool.Identifier(strings.Clone(string(identifier)))
		l = &log{caller: c, pool: p, identifier: identifier}
		l.above, l.holder.log = &c.holder, l
		c.logs[identifier] = l
		p.logs[identifier] = append(p.logs[identifier], l)
	}
	return l
}

// tidy forgets a log that has nothing.
func (l *log) tidy() {
	if len(l.entries) > 0 {
		return
	}
	p, c := l.pool, l.caller
	delete(c.logs, l.identifier)
	if len(c.logs) == 0 {
		delete(p.callers, c.name)
	}
	rest := slices.DeleteFunc(p.logs[l.identifier], func(o *log) bool { return o == l })
	if p.logs[l.identifier] = rest; len(rest) == 0 {
		delete(p.logs, l.identifier)
	}
}

// fit drops what is beyond the bounds: of the identifier, then of its pool, then of all.
func (k *Keeper) fit(l *log) {
	p := l.pool
	for p.fitOne(l.identifier, k.bounds.Session) {
	}
	for p.bytes > k.bounds.Pool {
		p.oldest().drop()
	}
	for k.all.bytes > k.bounds.All {
		k.all.oldest().drop()
	}
}

// fitOne drops an execution of an identifier that has more than it may have, of the caller who has
// most of what is too much, and reports whether it did.
func (p *pool) fitOne(identifier sandpool.Identifier, most int64) bool {
	var bytes int64
	var entries int
	var largest, longest *log
	for _, l := range p.logs[identifier] {
		bytes += l.bytes
		entries += len(l.entries)
		if largest == nil || l.bytes > largest.bytes {
			largest = l
		}
		if longest == nil || len(l.entries) > len(longest.entries) {
			longest = l
		}
	}
	switch {
	case bytes > most:
		largest.entries[0].drop()
	case entries > maxEntries:
		longest.entries[0].drop()
	default:
		return false
	}
	return true
}

// expire drops the executions of a log that have been kept for long enough. One that began earlier
// may have ended later.
func (l *log) expire(now time.Time) {
	for i := 0; i < len(l.entries); {
		if e := l.entries[i]; now.Sub(e.until()) > l.pool.retention {
			e.drop()
		} else {
			i++
		}
	}
}

// List returns what is kept of an identifier's sessions after a number, the oldest first. A number
// that there was none of yet is of another Keeper, which had the pool before: all is listed then.
func (k *Keeper) List(id sandpool.PoolID, identifier sandpool.Identifier,
	after int64) api.SessionHistory {
	out := api.SessionHistory{Value: []api.PastExecution{}}
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.pools[id.Key()]
	if p == nil {
		return out
	}
	out.RetentionSeconds = int64(p.retention / time.Second)
	now := k.now()
	if after > k.number {
		after = 0
	}
	for _, l := range slices.Clone(p.logs[identifier]) {
		l.expire(now)
		for _, e := range l.entries {
			if e.view.Number > after {
				out.Value = append(out.Value, e.view)
			}
		}
	}
	slices.SortFunc(out.Value, func(a, b api.PastExecution) int {
		return cmp.Compare(a.Number, b.Number)
	})
	return out
}

// Forget drops what is kept of an identifier's sessions.
func (k *Keeper) Forget(id sandpool.PoolID, identifier sandpool.Identifier) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.pools[id.Key()]
	if p == nil {
		return
	}
	for _, l := range slices.Clone(p.logs[identifier]) {
		for len(l.entries) > 0 {
			l.entries[0].drop()
		}
	}
}

// Kept returns the number of executions that are kept, and what they take in bytes.
func (k *Keeper) Kept() (entries int, bytes int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.all.entries, k.all.bytes
}

// sweepEvery is how often what is too old is dropped, though nobody reads it.
const sweepEvery = time.Minute

// Run drops what has been kept for long enough, until ctx ends. A nil Keeper has nothing to drop.
func (k *Keeper) Run(ctx context.Context) error {
	if k == nil {
		return nil
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			k.Sweep()
		}
	}
}

// Sweep drops what has been kept for long enough.
func (k *Keeper) Sweep() {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	for _, p := range k.pools {
		for _, logs := range p.logs {
			for _, l := range slices.Clone(logs) {
				l.expire(now)
			}
		}
	}
}
