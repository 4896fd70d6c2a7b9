package control

import (
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
