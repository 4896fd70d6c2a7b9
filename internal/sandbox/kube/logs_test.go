package kube_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube/kubetest"
)

func logged(t *sandbox.Template) { t.Logs = true }

// A log is read page by page, with nothing left out and nothing twice, also where many lines are of
// one second, and followed until a line comes, the caller leaves or the sandbox ends.
func TestLog(t *testing.T) {
	c := kubetest.New(t)
	e := open(t, config(t, c))
	h := mustStart(t, e, "log", logged)
	pod, began := "sandpool-log", time.Date(2026, 1, 1, 0, 0, 0, 5, time.UTC)
	var want []string
	for i := range 40 {
		text := strings.Repeat(string(rune('a'+i%26)), i)
		want = append(want, text)
		c.Write(pod, began.Add(time.Duration(i/2)*100*time.Millisecond), text) // two at a time
	}
	c.Write(pod, began.Add(time.Hour), "9999-01-01T00:00:00Z a time of its own")
	want = append(want, "9999-01-01T00:00:00Z a time of its own")
	var got []string
	last := int64(0)
	for q := (sandbox.LogQuery{Limit: 100}); ; q.From = last {
		page, err := e.ReadLog(t.Context(), h.ID, q)
		if err != nil {
			t.Fatal(err)
		}
		for r := range page.Records() {
			got, last = append(got, string(r.Text)), r.Next
		}
		if last != page.Next {
			t.Errorf("the last line ends at %d, the page at %d", last, page.Next)
		}
		if len(page.Lines) == 0 {
			break
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the pages have %q, want %q", got, want)
	}
	pages := make(chan sandbox.LogPage, 1)
	follow := func(ctx context.Context) {
		page, err := e.ReadLog(ctx, h.ID, sandbox.LogQuery{From: last, Follow: true})
		if err != nil && sandpool.ClassOf(err) != sandpool.NotFound {
			t.Error(err)
		}
		pages <- page
	}
	go follow(t.Context())
	c.Write(pod, began.Add(2*time.Hour), "news")
	page := <-pages
	if !strings.HasSuffix(string(page.Lines), " stdout F news\n") {
		t.Errorf("the news are %q", page.Lines)
	}
	last = page.Next
	leaves, leave := context.WithCancel(t.Context())
	go follow(leaves)
	leave()
	if page := <-pages; len(page.Lines) > 0 || page.Next != last {
		t.Errorf("a caller that leaves gets %q", page.Lines)
	}
	go follow(t.Context())
	if err := e.Stop(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if page := <-pages; len(page.Lines) > 0 {
		t.Errorf("the end of the sandbox says %q", page.Lines)
	}
	_, err := e.ReadLog(t.Context(), h.ID, sandbox.LogQuery{})
	wantError(t, err, sandpool.NotFound, "")
	_, err = e.ReadLog(t.Context(), mustStart(t, e, "quiet").ID, sandbox.LogQuery{})
	wantError(t, err, sandpool.NotFound, "")
}

// Whoever follows a log has each line once, whatever ends connections: cleanly, within a line, or
// between two of one time, and while nobody answers. The lines of a second are read once, not for
// each page.
func TestBrokenLog(t *testing.T) {
	c := kubetest.New(t)
	e := open(t, config(t, c))
	h := mustStart(t, e, "broken", logged)
	pod, began := "sandpool-broken", time.Date(2026, 1, 1, 0, 0, 0, 5, time.UTC)
	var want, got []string
	write := func(second int, text string) {
		want = append(want, text)
		c.Write(pod, began.Add(time.Duration(second)*time.Second), text)
	}
	from := int64(0)
	follow := func(until int) {
		t.Helper()
		for parts := ""; len(got) < until; {
			page, err := e.ReadLog(t.Context(), h.ID, sandbox.LogQuery{From: from, Follow: true})
			if err != nil || len(page.Lines) == 0 {
				t.Fatalf("after %d of %d lines a page has %q, %v", len(got), until, page.Lines, err)
			}
			for r := range page.Records() {
				if parts += string(r.Text); !r.Part {
					got, parts = append(got, parts), ""
				}
			}
			from = page.Next
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Fatalf("the pages have %.300q, want %.300q", got, want)
		}
	}
	long := strings.Repeat("long ", 8<<10)
	stamp := len("2026-01-01T00:00:00.000000005Z ")
	write(0, "one")
	follow(1)
	c.BreakLogs() // while nobody reads
	write(0, "two of the time of the first")
	follow(2)
	c.BreakLogs(2*stamp + len("one\n") + 10) // within the second line
	write(0, "three")
	write(1, "four")
	follow(4)
	c.BreakLogs(stamp+len("four\n")+20<<10, stamp+len("four\n")+30<<10) // within a long line
	write(1, long)
	write(2, "six")
	follow(6)
	c.BreakLogs()
	c.Outage(true)
	time.AfterFunc(3*time.Second/10, func() { c.Outage(false) })
	write(2, "seven")
	follow(7)
	calls := c.Calls("get")
	for i := range 50 {
		write(2, strings.Repeat("x", i))
		follow(8 + i)
	}
	if n := c.Calls("get") - calls; n > 0 {
		t.Errorf("50 pages took %d connections", n)
	}
	page, err := e.ReadLog(t.Context(), h.ID, sandbox.LogQuery{Limit: 1})
	for i := 1; err == nil && len(page.Lines) > 0; i++ {
		page, err = e.ReadLog(t.Context(), h.ID, sandbox.LogQuery{From: page.Next, Limit: 1})
		if n := c.Calls("get") - calls; n > 2 { // the second sees that no more came meanwhile
			t.Fatalf("%d pages took %d connections", i, n)
		}
	}
	c.Kill(pod)
	if page, err := e.ReadLog(t.Context(), h.ID, sandbox.LogQuery{From: from,
		Follow: true}); err != nil || len(page.Lines) > 0 {
		t.Errorf("at its end the log says %q, %v", page.Lines, err)
	}
}

// A line without an end is cut: nobody makes the server hold more than some pages.
func TestEndlessLine(t *testing.T) {
	c := kubetest.New(t)
	e := open(t, config(t, c))
	h := mustStart(t, e, "endless", logged)
	c.Write("sandpool-endless", time.Now(), strings.Repeat("x", 8<<20))
	page, err := e.ReadLog(t.Context(), h.ID, sandbox.LogQuery{})
	if err != nil || len(page.Lines) < 64<<10 || len(page.Lines) > 1<<20 {
		t.Errorf("the page has %d bytes, %v", len(page.Lines), err)
	}
	next, err := e.ReadLog(t.Context(), h.ID, sandbox.LogQuery{From: page.Next})
	if err != nil || len(next.Lines) > 0 {
		t.Errorf("the next page has %d bytes, %v", len(next.Lines), err)
	}
}

// What sandboxes use is what the metrics API says, and where there is none that is said.
func TestStats(t *testing.T) {
	c := kubetest.New(t)
	cfg := config(t, c)
	e := open(t, cfg)
	h := mustStart(t, e, "one")
	_, err := e.Stats(t.Context(), h)
	wantError(t, err, sandpool.Unsupported, "NotOnKubernetes")
	if err == nil || !strings.Contains(err.Error(), "no metrics API") {
		t.Errorf("without a metrics API: %v", err)
	}
	sample := func(at time.Time, cpu, memory string) map[string]any {
		return map[string]any{"metadata": map[string]string{"name": "sandpool-one"},
			"timestamp": at.Format(time.RFC3339), "window": "15s", "containers": []any{
				map[string]any{"usage": map[string]string{"cpu": cpu, "memory": memory}}}}
	}
	c.Measure([]any{sample(time.Now(), "200000000n", "30720Ki")})
	e = open(t, cfg) // which has not asked yet
	got, err := e.Stats(t.Context(), h)
	want := sandbox.Stats{Memory: 30 << 20, CPUTime: 3 * time.Second}
	if err != nil || got != want {
		t.Errorf("Stats = %+v, %v; want %+v", got, err, want)
	}
	_, err = e.Stats(t.Context(), mustStart(t, e, "other"))
	wantError(t, err, sandpool.Unavailable, "NotMeasuredYet")
	c.Measure([]any{sample(time.Now(), "much", "30720Ki")})
	_, err = open(t, cfg).Stats(t.Context(), h)
	if err == nil || errors.Is(err, context.Canceled) ||
		!strings.Contains(err.Error(), `"much" is no quantity`) {
		t.Errorf("a number that is none: %v", err)
	}
}
