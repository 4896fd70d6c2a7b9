package control

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/event"
)

func (k *kit) events(token, target string) api.Events {
	k.t.Helper()
	var page api.Events
	if err := json.Unmarshal(k.want(200, k.as(token, "GET", target, "")).body, &page); err != nil {
		k.t.Fatal(err)
	}
	return page
}

func names(page api.Events) string {
	var out []string
	for _, e := range page.Value {
		out = append(out, e.Name)
	}
	return strings.Join(out, " ")
}

// TestEvents: a pool's readers see what happened to it, page by page, and nothing of others
// or of the host.
func TestEvents(t *testing.T) {
	bus := event.New()
	k := newKit(t, Options{Events: bus})
	id := sandpool.PoolID{Subscription: "s1", ResourceGroup: "lab", Name: "pypool"}
	k.want(404, k.do("GET", pypool+"/events", ""))
	k.want(201, k.do("PUT", pypool, "{}"))
	k.want(200, k.do("PUT", pypool, `{"tags":{"a":"b"}}`))
	k.want(200, k.do("PATCH", pypool, `{"tags":{"a":"c"}}`))
	k.want(201, k.do("PUT", rg+"/other", "{}"))
	bus.Observe(event.Event{Name: event.SandboxEnded, Pool: id, Sandbox: "sb1", Outcome: "killed",
		Message: "It was killed.",
		Took:    1500 * time.Millisecond, Err: errors.New("open /secret/file")})
	bus.Observe(event.Event{Name: event.SweepFailed})

	reader := k.token(auth.SessionExecutor, id)
	page := k.events(reader, pypool+"/EVENTS")
	if got := names(page); got != "PoolCreated PoolUpdated PoolUpdated SandboxEnded" {
		t.Errorf("events %s", got)
	}
	last := page.Value[3]
	if last.Pool != pypool || last.Sandbox != "sb1" || last.Outcome != "killed" ||
		last.Message != "It was killed." || *last.Seconds != 1.5 ||
		last.Stream != "AppEnvSessionPoolEventLogs" || last.Level != "warning" || last.Time == "" ||
		last.Text == "" || last.Error != "" {
		t.Errorf("%+v", last)
	}
	if by := page.Value[0].By; !strings.HasPrefix(by, "token:") {
		t.Errorf("a pool was created by %q", by)
	}
	if got := k.events(k.admin, pypool+"/events").Value[3].Error; got != "open /secret/file" {
		t.Errorf("an administrator reads the cause %q", got)
	}
	two := k.events(reader, pypool+"/events?limit=2")
	rest := k.events(reader, pypool+"/events?after="+jsonText(t, two.Next))
	if names(two) != "PoolCreated PoolUpdated" || names(rest) != "PoolUpdated SandboxEnded" {
		t.Errorf("pages %s and %s", names(two), names(rest))
	}
	if got := names(k.events(k.admin, "/sandpool/events")); !strings.HasSuffix(got,
		"PoolCreated SandboxEnded SweepFailed") {
		t.Errorf("the server's events are %s", got)
	}
	k.want(403, k.as(reader, "GET", "/sandpool/events", ""))
	k.want(403, k.as(reader, "GET", rg+"/other/events", ""))
	for _, query := range []string{"after=x", "after=-1", "limit=100000", "wait=31", "wait=1.5"} {
		name, _, _ := strings.Cut(query, "=")
		if r := k.want(400, k.do("GET", pypool+"/events?"+query, "")); r.err.Target != name {
			t.Errorf("%s: %s", query, r.body)
		}
	}
}

func jsonText(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestEventsWait: a question with wait is answered when something happens.
func TestEventsWait(t *testing.T) {
	bus := event.New()
	k := newKit(t, Options{Events: bus})
	k.want(201, k.do("PUT", pypool, "{}"))
	next := jsonText(t, k.events(k.admin, pypool+"/events").Next)
	k.pools.looks = 5
	deleted := make(chan reply, 1)
	time.AfterFunc(50*time.Millisecond, func() { deleted <- k.do("DELETE", pypool, "") })
	if got := names(k.events(k.admin, pypool+"/events?wait=30&after="+next)); got !=
		"PoolDeleting" {
		t.Errorf("the answer holds %q", got)
	}
	k.want(202, <-deleted)
	if page := k.events(k.admin, pypool+"/events?after="+
		jsonText(t, k.events(k.admin, pypool+"/events").Next)); len(page.Value) != 0 {
		t.Errorf("an answer without wait holds %q", names(page))
	}
}
