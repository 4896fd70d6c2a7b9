package soak_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/test/leaks"
)

const (
	// shortUsage is how many sessions the short form has; the long form has at least longUsage.
	shortUsage = 60
	longUsage  = 1000
	// off is how far a record may be from what the test has seen.
	off = time.Second
	// unsaved is what a server that is killed may not have written of executions, and something
	// for a machine that is busy.
	unsaved = 2500 * time.Millisecond
)

// span is when something happened, as far as a caller can tell.
type span struct{ first, last time.Time }

// use is what the test knows of one session: of one sandbox, that is.
type use struct {
	identifier string
	began, end span
	answered   []time.Time // executions that were answered
}

// bill is what the test counts.
type bill struct {
	mu    sync.Mutex
	uses  map[string]*use      // by sandbox
	asked map[string]time.Time // by identifier, the first request for it
	over  map[string]time.Time // when its deletion was answered
	blind map[string]int       // executions without an answer, by identifier
	down  []span               // when the server was killed and when it served again
	kills int
}

// saw notes an answer of a sandbox.
func (b *bill) saw(identifier, sandbox string, asked, answered time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	u := b.uses[sandbox]
	if u == nil {
		u = &use{identifier: identifier, began: span{asked, answered}}
		if b.blind[identifier] > 0 { // a request that got no answer may have begun it
			u.began.first = b.asked[identifier]
		}
		for _, earlier := range b.uses { // but not before the end of another
			if earlier.identifier == identifier && u.began.first.Before(earlier.end.first) {
				u.began.first = earlier.end.first
			}
		}
		b.uses[sandbox] = u
	}
	u.answered = append(u.answered, answered)
}

// ended notes that a session ended between two times, unless it is known to have ended before.
func (b *bill) ended(sandbox string, first, last time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if u := b.uses[sandbox]; u != nil && u.end.last.IsZero() {
		u.end = span{first, last}
	}
}

// TestUsageAddsUp: what is recorded of sessions is what was used, within a second, and nothing is
// recorded twice, whatever is killed.
func TestUsageAddsUp(t *testing.T) {
	need.Data(t)
	n := shortUsage
	if long := longSessions(t); long > 0 {
		n = max(long, longUsage)
	}
	addUp(t, newProgram(t), n)
}

// TestUsageAddsUpShared is the same with a PostgreSQL as the store, which is killed as well.
func TestUsageAddsUpShared(t *testing.T) {
	need.Data(t)
	addUp(t, newShared(t), shortUsage)
}

func addUp(t *testing.T, srv *program, n int) {
	srv.start(t)
	c := srv.client(t)
	put(t, c)
	b := &bill{uses: map[string]*use{}, asked: map[string]time.Time{},
		over: map[string]time.Time{}, blind: map[string]int{}}
	ctx, stop := context.WithCancel(t.Context())
	var killer, users sync.WaitGroup
	killer.Go(func() { b.killServers(ctx, t, srv) })
	next := make(chan int)
	for range 2 * workers {
		users.Go(func() {
			for i := range next {
				b.session(t, c, srv, fmt.Sprintf("used-%05d", i))
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	users.Wait()
	stop()
	killer.Wait()
	srv.stop(t) // so all is written
	srv.start(t)
	b.check(t, srv.client(t))
}

// session is one user: some cells with pauses, and the end by a deletion, a kill, or a kill and
// then another session of the same identifier.
func (b *bill) session(t *testing.T, c *client.Client, srv *program, identifier string) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	b.mu.Lock()
	b.asked[identifier] = time.Now()
	b.mu.Unlock()
	cells := 1 + rand.IntN(4)
	for i := range cells {
		asked := time.Now()
		e, err := c.Execute(ctx, "soak", identifier, client.Run{Code: "sum(range(10**5))"})
		if err != nil || e.SessionID == "" {
			b.mu.Lock()
			b.blind[identifier]++
			b.mu.Unlock()
			_ = c.WaitHealthy(ctx) // a server that does not come back fails the deletion
			continue
		}
		b.saw(identifier, e.SessionID, asked, time.Now())
		wait(ctx, time.Duration(rand.IntN(1200))*time.Millisecond)
		if i == cells/2 && rand.IntN(4) == 0 {
			b.killSandbox(ctx, t, c, srv, identifier, e.SessionID)
		}
	}
	first := time.Now()
	for {
		err := c.DeleteSession(ctx, "soak", identifier)
		if err == nil || sandpool.ClassOf(err) == sandpool.NotFound {
			break
		}
		if !wait(ctx, 200*time.Millisecond) {
			t.Errorf("session %s cannot be deleted: %v", identifier, err)
			return
		}
	}
	last := time.Now()
	b.mu.Lock()
	b.over[identifier] = last
	var open []string
	for sandbox, u := range b.uses {
		if u.identifier == identifier && u.end.last.IsZero() {
			open = append(open, sandbox)
		}
	}
	b.mu.Unlock()
	for _, sandbox := range open {
		if len(open) > 1 { // one of them was lost with its answer
			first = time.Time{}
		}
		b.ended(sandbox, first, last)
	}
}

// killSandbox kills what serves a session, which is over at the latest when the server has noticed.
func (b *bill) killSandbox(ctx context.Context, t *testing.T, c *client.Client, srv *program,
	identifier, sandbox string) {
	found, err := leaks.Count(srv.data)
	if err != nil {
		t.Error(err)
		return
	}
	for _, dir := range found.Cgroups {
		if filepath.Base(dir) != sandbox {
			continue
		}
		first := time.Now()
		for _, pid := range leaks.Members(dir, srv.data) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
		for {
			s, err := c.Session(ctx, "soak", identifier)
			if sandpool.ClassOf(err) == sandpool.NotFound || err == nil && s.ETag != sandbox {
				break
			}
			if !wait(ctx, 50*time.Millisecond) {
				t.Errorf("the server does not notice that sandbox %s was killed: %v", sandbox, err)
				return
			}
		}
		b.ended(sandbox, first, time.Now())
		b.mu.Lock()
		b.kills++
		b.mu.Unlock()
		return
	}
}

// killServers kills the server, or its store, every few seconds.
func (b *bill) killServers(ctx context.Context, t *testing.T, srv *program) {
	for wait(ctx, time.Duration(3000+rand.IntN(6000))*time.Millisecond) {
		if srv.database != nil && rand.IntN(2) == 0 {
			if err := errors.Join(srv.database.Kill(), srv.database.Restart(ctx)); err != nil &&
				ctx.Err() == nil {
				t.Error(err)
			}
			continue
		}
		one := span{first: time.Now()}
		srv.kill(t)
		wait(ctx, time.Duration(rand.IntN(1500))*time.Millisecond)
		srv.start(t)
		one.last = time.Now()
		b.mu.Lock()
		b.down = append(b.down, one)
		b.mu.Unlock()
	}
}

// within is a span in which nothing can be told while the server is down: it was there before.
func (b *bill) within(s span) span {
	for _, d := range b.down {
		if !s.last.Before(d.first) && !s.first.After(d.last) && d.first.Before(s.first) {
			s.first = d.first
		}
		if !s.last.Before(d.first) && s.last.Before(d.last) {
			s.last = d.last
		}
	}
	return s
}

// names are what records say of the identifiers.
func (b *bill) names(t *testing.T, c *client.Client) map[string]string {
	names := map[string]string{}
	for _, i := range b.identifiers() {
		got, err := c.UsageRecords(t.Context(), client.Usage{Pool: "soak", Session: i})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range got.Value {
			if names[i] != "" && names[i] != r.IdentifierHash {
				t.Errorf("%s has two names: %s and %s", i, names[i], r.IdentifierHash)
			}
			names[i] = r.IdentifierHash
		}
	}
	return names
}

// check compares the records with the bill.
func (b *bill) check(t *testing.T, c *client.Client) {
	seen, all := map[string]api.UsageRecord{}, api.Used{}
	byIdentifier := map[string][]api.UsageRecord{}
	err := c.EachUsageRecord(t.Context(), client.Usage{Pool: "soak"}, func(r api.UsageRecord) error {
		if _, twice := seen[r.Sandbox]; twice || r.Running {
			t.Errorf("twice (%t) or not ended: %+v", twice, r)
		}
		seen[r.Sandbox] = r
		byIdentifier[r.IdentifierHash] = append(byIdentifier[r.IdentifierHash], r)
		all.SessionSeconds += r.SessionSeconds
		all.Executions += r.Executions
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	names := b.names(t, c)
	var least, most float64
	var ran, unsure int
	for sandbox, u := range b.uses {
		r, ok := seen[sandbox]
		if !ok {
			t.Errorf("there is no record of sandbox %s: %+v", sandbox, u)
			continue
		}
		low, high := b.checkUse(t, r, u, names)
		least, most = least+low, most+high
		sure := b.sure(u)
		ran, unsure = ran+sure, unsure+len(u.answered)-sure+b.blind[u.identifier]
		delete(seen, sandbox)
	}
	// What is left began and was never answered.
	for sandbox, r := range seen {
		at := slices.IndexFunc(b.identifiers(), func(i string) bool {
			return names[i] == r.IdentifierHash
		})
		if at < 0 {
			t.Errorf("a record of nobody's sandbox %s: %+v", sandbox, r)
			continue
		}
		identifier := b.identifiers()[at]
		if b.blind[identifier] == 0 || r.Began.Before(b.asked[identifier].Add(-off)) ||
			r.Until.After(b.over[identifier].Add(off)) {
			t.Errorf("a record of sandbox %s that %s cannot have had: %+v", sandbox, identifier, r)
		}
		most += r.SessionSeconds
	}
	for _, list := range byIdentifier { // one identifier has one session at a time
		slices.SortFunc(list, func(a, b api.UsageRecord) int { return a.Began.Compare(b.Began) })
		for i := 1; i < len(list); i++ {
			if list[i].Began.Before(list[i-1].Until.Add(-off)) {
				t.Errorf("two sessions at a time: %+v, %+v", list[i-1], list[i])
			}
		}
	}
	slack := off.Seconds() * float64(len(b.uses))
	t.Logf("%d sessions, %d kills of sandboxes, %d of servers: %.1f s recorded, %.1f to %.1f s "+
		"counted; %d executions recorded, %d counted, %d perhaps", len(b.uses), b.kills,
		len(b.down), all.SessionSeconds, least, most, all.Executions, ran, unsure)
	if all.SessionSeconds < least-slack || all.SessionSeconds > most+slack ||
		all.Executions < int64(ran) || all.Executions > int64(ran+unsure) {
		t.Errorf("the sums differ")
	}
	totals, err := c.Usage(t.Context(), client.Usage{Pool: "soak"})
	if err != nil || len(totals.Value) != 1 ||
		max(totals.Value[0].SessionSeconds-all.SessionSeconds,
			all.SessionSeconds-totals.Value[0].SessionSeconds) > 1e-3 ||
		totals.Value[0].Executions != all.Executions {
		t.Errorf("the totals are %+v, %v", totals, err)
	}
}

func (b *bill) identifiers() []string {
	list := make([]string, 0, len(b.asked))
	for i := range b.asked {
		list = append(list, i)
	}
	slices.Sort(list)
	return list
}

// sure is how many of the executions of a session must be recorded.
func (b *bill) sure(u *use) (n int) {
	for _, at := range u.answered {
		if !slices.ContainsFunc(b.down, func(d span) bool {
			return at.Add(unsaved).After(d.first) && at.Before(d.last)
		}) {
			n++
		}
	}
	return n
}

// checkUse compares a record with what the test knows of its session, and returns the least and
// the most seconds that it can have lasted.
func (b *bill) checkUse(t *testing.T, r api.UsageRecord, u *use,
	names map[string]string) (least, most float64) {
	began, end := u.began, b.within(u.end)
	if u.end.last.IsZero() { // it is not known to have ended before all was stopped
		end = span{u.answered[len(u.answered)-1], time.Now()}
	}
	last := u.answered[len(u.answered)-1]
	if end.first.Before(last) && u.end.first.IsZero() {
		end.first = last
	}
	between := func(at time.Time, s span) bool {
		return !at.Before(s.first.Add(-off)) && !at.After(s.last.Add(off))
	}
	if !between(r.Began, began) || !between(r.Until, end) ||
		r.IdentifierHash != names[u.identifier] {
		t.Errorf("the record %+v is not of a session of %s that began between %s and %s, and "+
			"ended between %s and %s", r, u.identifier, began.first, began.last, end.first, end.last)
	}
	if r.Executions < int64(b.sure(u)) ||
		r.Executions > int64(len(u.answered)+b.blind[u.identifier]) {
		t.Errorf("%d executions are recorded of %s, %d were answered and %d not", r.Executions,
			u.identifier, len(u.answered), b.blind[u.identifier])
	}
	// A sandbox that ended while no server ran may never have been measured.
	met := !slices.ContainsFunc(b.down, func(d span) bool {
		return r.Began.Before(d.last) && d.first.Before(r.Until.Add(unsaved))
	})
	if met && (r.CPUSeconds <= 0 || r.MemoryByteSeconds <= 0 && r.SessionSeconds > 2) {
		t.Errorf("nothing is recorded of %+v", r)
	}
	return max(0, end.first.Sub(began.last).Seconds()), end.last.Sub(began.first).Seconds()
}
