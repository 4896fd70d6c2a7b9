package control

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
)

// What a full pool does with further callers is set, shown, changed alone and taken back, and no
// sandbox becomes stale by it.
func TestCrowd(t *testing.T) {
	k := newKit(t, Options{})
	spec := func() sandpool.Spec { return k.pools.pools[strings.ToLower(pypool)].pool.Spec }
	r := k.want(201, k.do("PUT", pypool+version,
		`{"properties":{"sandpool":{"queue":{"length":20,"waitInSeconds":5},"evictIdleAfterInSeconds":90}}}`))
	first := spec()
	if d := cmp.Diff(&sandpool.Queue{Length: 20, Wait: 5 * time.Second}, first.Queue); d != "" ||
		first.EvictIdle != 90*time.Second {
		t.Errorf("evict after %s, queue %s", first.EvictIdle, d)
	}
	k.want(200, k.do("PUT", pypool+version, string(r.body)))
	if d := cmp.Diff(first, spec()); d != "" {
		t.Errorf("what the server shows is not what it takes: %s", d)
	}
	for _, step := range []struct {
		patch string
		queue *sandpool.Queue
		evict time.Duration
	}{
		{`{"length":0}`, &sandpool.Queue{}, 90 * time.Second},
		{`{"length":7,"waitInSeconds":null}`, &sandpool.Queue{Length: 7, Wait: 10 * time.Second},
			90 * time.Second},
		{`null`, nil, 90 * time.Second},
		{`null,"evictIdleAfterInSeconds":0`, nil, 0},
	} {
		k.want(200, k.do("PATCH", pypool+version, `{"properties":{"sandpool":{"queue":`+step.patch+
			`}}}`))
		if d := cmp.Diff(step.queue, spec().Queue); d != "" || spec().EvictIdle != step.evict {
			t.Errorf("%s: evict after %s, queue %s", step.patch, spec().EvictIdle, d)
		}
		if !first.SameSandbox(spec()) {
			t.Errorf("%s makes ready sandboxes stale", step.patch)
		}
	}
}

// How many are ready at times and by forecast is kept as it was set, changed by a patch, and makes
// no sandbox stale; a wrong window is named.
func TestReadyPlan(t *testing.T) {
	k := newKit(t, Options{})
	spec := func() sandpool.Spec { return k.pools.pools[strings.ToLower(pypool)].pool.Spec }
	window := `{"days":["Mon","Fri"],"from":"08:00","to":"18:00","timeZone":"Europe/Berlin",` +
		`"ready":%d}`
	plan := `{"properties":{"sandpool":{"readySchedule":[` + window +
		`],"readyForecast":{"maxReady":%d,"leadInSeconds":30}}}}`
	r := k.want(201, k.do("PUT", pypool+version, fmt.Sprintf(plan, 7, 8)))
	first := spec()
	if p := first.Ready; p.ForecastMost != 8 || p.Lead != 30*time.Second || len(p.Windows) != 1 ||
		p.Windows[0].Ready != 7 || p.Windows[0].To != 18*60 {
		t.Errorf("the plan is %+v", p)
	}
	k.want(200, k.do("PUT", pypool+version, string(r.body)))
	if d := cmp.Diff(first, spec()); d != "" {
		t.Errorf("what the server shows is not what it takes: %s", d)
	}
	k.want(200, k.do("PATCH", pypool+version, fmt.Sprintf(plan, 3, 4)))
	if p := spec().Ready; p.ForecastMost != 4 || p.Windows[0].Ready != 3 ||
		!first.SameSandbox(spec()) {
		t.Errorf("after a patch the plan is %+v", p)
	}
	if body := k.do("PATCH", pypool+version, fmt.Sprintf(plan, 99, 4)); body.status != 400 ||
		!strings.Contains(string(body.body), "properties.sandpool.readySchedule[0].ready") {
		t.Errorf("a window beyond the maximum: %d %s", body.status, body.body)
	}
	k.want(200, k.do("PATCH", pypool+version,
		`{"properties":{"sandpool":{"readySchedule":[],"readyForecast":null}}}`))
	if p := spec().Ready; p.ForecastMost != 0 || len(p.Windows) > 0 {
		t.Errorf("taken away it is %+v", p)
	}
}
