package identity

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/audit"
)

const mine = "https://dynamicsessions.io"

// world is what an Endpoint needs, in memory.
type world struct {
	mu      sync.Mutex
	pool    sandpool.Pool
	missing error
	there   map[string]string // principals of the identities that are there, by their ids
	lost    error
	issues  int
	done    []audit.Record
	refused []audit.Record
	now     time.Time
}

func (w *world) Pool(_ context.Context, id sandpool.PoolID) (sandpool.Pool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.missing != nil {
		return sandpool.Pool{}, w.missing
	}
	if id.Key() != w.pool.ID.Key() {
		return sandpool.Pool{}, sandpool.Errorf(sandpool.NotFound, "", "", "no pool")
	}
	return w.pool, nil
}

func (w *world) IssueManaged(_ sandpool.Pool, of sandpool.AssignedIdentity,
	audience string) (string, time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.issues++
	return fmt.Sprintf("token %d of %s for %s", w.issues, of.Principal, audience),
		w.now.Add(15 * time.Minute), nil
}

func (w *world) UserAssigned(_ context.Context, id string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.there[id], w.lost
}

func (w *world) Done(r audit.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = append(w.done, r)
}

func (w *world) Refused(r audit.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refused = append(w.refused, r)
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func poolID(name string) sandpool.PoolID {
	return sandpool.PoolID{Subscription: sandpool.DefaultSubscription, ResourceGroup: "default",
		Name: name}
}

// kit is an Endpoint that runs.
type kit struct {
	*testing.T
	*world
	e *Endpoint
}

func newKit(t *testing.T) *kit {
	t.Helper()
	w := &world{now: time.Unix(1_800_000_000, 0), pool: sandpool.Pool{ID: poolID("py"),
		State: sandpool.Succeeded, Spec: sandpool.Spec{Identity: sandpool.ManagedIdentity{
			Principal: "5a9d9001-0000-8000-8000-000000000001", InSessions: true,
			Audiences: []string{mine, "api://app"}}}}}
	e, err := New(Options{Pools: w, Issuer: w, Assigned: w, Auditor: w, Now: w.clock,
		Failed: func(_ sandpool.Sandbox, err error) { t.Logf("failed: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("the endpoint ended: %v", err)
		}
	})
	return &kit{T: t, world: w, e: e}
}

// box is a sandbox with the endpoint on its loopback interface.
type box struct {
	row   sandpool.Sandbox
	conns chan net.Conn
	over  func()
}

func (k *kit) box(id string) *box {
	k.Helper()
	b := &box{row: sandpool.Sandbox{ID: sandpool.SandboxID(id), Pool: poolID("py"),
		Secret: "secret of " + id}, conns: make(chan net.Conn)}
	ctx, cancel := context.WithCancel(context.WithoutCancel(k.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		k.e.Attend(ctx, b.row, func(ctx context.Context) (net.Conn, error) {
			select {
			case c := <-b.conns:
				return c, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
	}()
	b.over = sync.OnceFunc(func() { cancel(); <-ended })
	k.Cleanup(b.over)
	return b
}

// say sends a text over a new connection and returns the answer's status and what it says.
func (k *kit) say(b *box, text string) (int, map[string]any) {
	k.Helper()
	near, far := net.Pipe()
	defer near.Close()
	select {
	case b.conns <- far:
	case <-time.After(time.Minute):
		k.Fatal("nobody takes the connection")
	}
	_ = near.SetDeadline(time.Now().Add(time.Minute))
	go func() { _, _ = io.WriteString(near, text) }() // which may be refused half way
	resp, err := http.ReadResponse(bufio.NewReader(near), nil)
	if err != nil {
		k.Fatalf("no answer to %.200q: %v", text, err)
	}
	defer resp.Body.Close()
	got := map[string]any{}
	body, _ := io.ReadAll(resp.Body)
	_ = json.Unmarshal(body, &got) // some refusals are the HTTP server's own
	return resp.StatusCode, got
}

// request is a request as clients send it, with further lines of its head.
func request(target string, lines ...string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: 127.0.0.1\r\n" + strings.Join(append(lines, "", ""),
		"\r\n")
}

const good = path + "?api-version=2019-08-01&resource=" + mine

// own is the header that a sandbox is to show.
func own(b *box) string { return "X-IDENTITY-HEADER: " + headerOf(b.row) }

// TestAttacks: what is not exactly a request of the sandbox for what its pool allows gets nothing.
func TestAttacks(t *testing.T) {
	k := newKit(t)
	a, b := k.box("a"), k.box("b")
	for name, row := range map[string]struct {
		text   string
		status int
	}{
		"as it should be":      {request(good, own(a)), 200},
		"no header":            {request(good), 401},
		"an empty header":      {request(good, "X-IDENTITY-HEADER:"), 401},
		"a wrong header":       {request(good, "X-IDENTITY-HEADER: "+strings.Repeat("0", 64)), 401},
		"another's header":     {request(good, own(b)), 401},
		"its own beside one":   {request(good, "X-IDENTITY-HEADER: x", own(a)), 401},
		"its own twice":        {request(good, own(a), own(a)), 401},
		"both, joined":         {request(good, own(a)+", "+headerOf(b.row)), 401},
		"capitals":             {request(good, "X-IDENTITY-HEADER: "+strings.ToUpper(headerOf(a.row))), 401},
		"in the old header":    {request(good, "Secret: "+headerOf(a.row)), 401},
		"in the query":         {request(good + "&X-IDENTITY-HEADER=" + headerOf(a.row)), 401},
		"a folded header":      {request(good, "X-Other: x\r\n "+own(a)), 401},
		"a space in its name":  {request(good, "X-IDENTITY-HEADER : "+headerOf(a.row)), 400},
		"forwarded":            {request(good, own(a), "X-Forwarded-For: 10.0.0.1"), 403},
		"forwarded, as RFC":    {request(good, own(a), "Forwarded: for=10.0.0.1"), 403},
		"no host":              {"GET " + good + " HTTP/1.1\r\n" + own(a) + "\r\n\r\n", 400},
		"as of a proxy":        {request("http://127.0.0.1:42356"+good, own(a)), 404},
		"another path":         {request("/metadata"+good, own(a)), 404},
		"a path around":        {request("/x/.."+good, own(a)), 404},
		"an escaped path":      {request("/msi/%74oken?api-version=2019-08-01&resource="+mine, own(a)), 404},
		"a post":               {strings.Replace(request(good, own(a)), "GET", "POST", 1), 405},
		"no version":           {request(path+"?resource="+mine, own(a)), 400},
		"another version":      {request(path+"?api-version=2017-09-01&resource="+mine, own(a)), 400},
		"no resource":          {request(path+"?api-version=2019-08-01", own(a)), 400},
		"two resources":        {request(good+"&resource=api://app", own(a)), 400},
		"a broken query":       {request(good+"&x=%zz", own(a)), 400},
		"another audience":     {request(path+"?api-version=2019-08-01&resource=https://vault.azure.net", own(a)), 403},
		"two in one":           {request(path+"?api-version=2019-08-01&resource="+mine+"%20api://app", own(a)), 403},
		"the beginning of one": {request(path+"?api-version=2019-08-01&resource=https://dynamic", own(a)), 403},
		"more than one":        {request(path+"?api-version=2019-08-01&resource="+mine+".evil", own(a)), 403},
		"with a slash":         {request(good+"/", own(a)), 200},
		"as a scope":           {request(good+"/.default", own(a)), 200},
		"its client id":        {request(good+"&client_id=5A9D9001-0000-8000-8000-000000000001", own(a)), 200},
		"another client id":    {request(good+"&client_id=someone", own(a)), 400},
		"another resource id":  {request(good+"&mi_res_id="+poolID("other").String(), own(a)), 400},
		"a huge head":          {request(good, own(a), "X: "+strings.Repeat("x", 64<<10)), 431},
	} {
		t.Run(name, func(t *testing.T) {
			box := k.box("a") // of the same sandbox, so that none waits for the others' turns
			status, got := k.say(box, row.text)
			text, _ := got["access_token"].(string)
			if status != row.status || (text != "") != (status == 200) {
				t.Errorf("%d %v, want %d", status, got, row.status)
			}
			if status != 200 && strings.Contains(fmt.Sprint(got), headerOf(a.row)) {
				t.Errorf("the answer tells the header: %v", got)
			}
			box.over()
		})
	}
	k.set(func() {
		if len(k.refused) == 0 {
			t.Error("no refusal was recorded")
		}
		for _, r := range k.refused {
			if strings.Contains(fmt.Sprint(r), headerOf(a.row)) {
				t.Errorf("a record tells the header: %+v", r)
			}
		}
	})
}

// TestForm: an answer has what clients read, and is the same until a third of its life is over.
func TestForm(t *testing.T) {
	k := newKit(t)
	b := k.box("a")
	_, first := k.say(b, request(good, own(b)))
	want := map[string]any{"access_token": "token 1 of 5a9d9001-0000-8000-8000-000000000001 for " +
		mine, "token_type": "Bearer", "resource": mine, "expires_on": "1800000900",
		"client_id": "5a9d9001-0000-8000-8000-000000000001"}
	if fmt.Sprint(first) != fmt.Sprint(want) {
		t.Errorf("the answer is %v, want %v", first, want)
	}
	if _, again := k.say(b, request(good, own(b))); again["access_token"] != first["access_token"] {
		t.Errorf("another token was issued at once: %v", again)
	}
	k.set(func() { k.now = k.now.Add(5 * time.Minute) })
	if _, later := k.say(b, request(good, own(b))); later["access_token"] == first["access_token"] {
		t.Errorf("the token was not renewed: %v", later)
	}
	k.set(func() {
		if k.issues != 2 || len(k.done) != 2 {
			t.Errorf("%d tokens, %d records; want 2 of each", k.issues, len(k.done))
		}
		r := k.done[0]
		if r.Who != "identity:5a9d9001-0000-8000-8000-000000000001" || r.Name != "pool py" ||
			r.From != "sandbox a" || !strings.Contains(string(r.After), mine) {
			t.Errorf("the record is %+v", r)
		}
	})
}

// TestEnds: with its pool, its identity, its lifecycle or its audience a sandbox loses its tokens,
// also those that it was given a moment ago.
func TestEnds(t *testing.T) {
	for name, change := range map[string]func(*world){
		"the pool is gone":         func(w *world) { w.pool.ID = poolID("another") },
		"the pool is deleted":      func(w *world) { w.pool.State = sandpool.Deleting },
		"the identity is gone":     func(w *world) { w.pool.Spec.Identity.Principal = "" },
		"sessions have it no more": func(w *world) { w.pool.Spec.Identity.InSessions = false },
		"the audience is gone":     func(w *world) { w.pool.Spec.Identity.Audiences = nil },
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			b := k.box("a")
			if status, got := k.say(b, request(good, own(b))); status != 200 {
				t.Fatalf("before: %d %v", status, got)
			}
			k.set(func() { change(k.world) })
			if status, got := k.say(b, request(good, own(b))); status != 403 {
				t.Errorf("%d %v, want 403", status, got)
			}
		})
	}
	t.Run("the store is down", func(t *testing.T) {
		k := newKit(t)
		b := k.box("a")
		k.set(func() { k.missing = errors.New("disk") })
		if status, got := k.say(b, request(good, own(b))); status != 503 {
			t.Errorf("%d %v, want 503", status, got)
		}
	})
	t.Run("another principal", func(t *testing.T) {
		k := newKit(t)
		b := k.box("a")
		_, first := k.say(b, request(good, own(b)))
		k.set(func() { k.pool.Spec.Identity.Principal = "5a9d9001-0000-8000-8000-000000000002" })
		if _, got := k.say(b, request(good, own(b))); got["access_token"] == first["access_token"] {
			t.Errorf("a new principal has the old one's token: %v", got)
		}
	})
}

// TestFlood: one sandbox has two connections at a time and few a second, however many it opens, and
// another one is answered meanwhile.
func TestFlood(t *testing.T) {
	k := newKit(t)
	loud, quiet := k.box("loud"), k.box("quiet")
	open, rest := 0, time.After(3*time.Second)
	var held []net.Conn
	for full := false; !full; {
		near, far := net.Pipe()
		select {
		case loud.conns <- far:
			held = append(held, near)
			open++
		case <-rest:
			full = true
		}
		if open > lines {
			t.Fatalf("%d connections that say nothing were taken, of at most %d", open, lines)
		}
	}
	if status, got := k.say(quiet, request(good, own(quiet))); status != 200 {
		t.Errorf("another sandbox: %d %v", status, got)
	}
	for _, c := range held { // each of them ends by itself
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("a connection that says nothing does not end: %v", err)
		}
	}
	began, answered := time.Now(), 0
	for range atOnce + 10 {
		if status, _ := k.say(loud, request(good, own(loud))); status == 200 {
			answered++
		}
	}
	if took := time.Since(began); answered != atOnce+10 ||
		took < (10-lines)*time.Second/everySlow/2 {
		t.Errorf("%d of %d requests were answered in %v", answered, atOnce+10, took)
	}
	if k.issues != 2 {
		t.Errorf("%d tokens were issued, want one for each sandbox", k.issues)
	}
}

// TestHeaders: no two sandboxes have the same, and it says nothing of the secret.
func TestHeaders(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range []sandpool.Sandbox{{ID: "a", Secret: "s"}, {ID: "b", Secret: "s"},
		{ID: "a", Secret: "t"}} {
		h := headerOf(s)
		if seen[h] || len(h) != 64 {
			t.Errorf("the header of %v is %q", s.ID, h)
		}
		seen[h] = true
	}
}
