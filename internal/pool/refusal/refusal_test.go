package refusal

import (
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func refused(packets int64, at int, hosts ...string) sandpool.Refusals {
	r := sandpool.Refusals{Packets: packets}
	for i, h := range hosts { // newest first
		r.Recent = append(r.Recent, sandpool.Refusal{Host: h, Port: 80, Protocol: "tcp", Count: 1,
			Time: start.Add(time.Duration(at-i) * time.Second)})
	}
	return r
}

// Counts go up and never down, when sandboxes end and when an engine begins to count anew.
func TestSum(t *testing.T) {
	var tally Tally
	want := func(what string, packets int64, recent ...string) {
		t.Helper()
		sum := tally.Sum()
		var hosts []string
		for _, r := range sum.Recent {
			hosts = append(hosts, r.Host)
		}
		if sum.Packets != packets || strings.Join(hosts, " ") != strings.Join(recent, " ") {
			t.Errorf("%s: %d packets, %q; want %d, %q", what, sum.Packets, hosts, packets, recent)
		}
	}
	tally.Read("a", refused(3, 10, "a2", "a1"))
	tally.Read("b", refused(2, 20, "b1"))
	want("two sandboxes", 5, "b1", "a2", "a1")
	tally.Read("a", refused(4, 30, "a3", "a2"))
	want("read again", 6, "a3", "a2", "b1")
	tally.End("a")
	tally.End("a")
	tally.End("unknown")
	want("one is over", 6, "a3", "a2", "b1")
	tally.Read("b", refused(1, 40, "b2"))
	want("counted anew", 7, "b2", "a3", "a2", "b1")
	tally.Read("b", sandpool.Refusals{})
	want("an engine without numbers", 7, "b2", "a3", "a2", "b1")
}

// However much is refused, what is kept and what is told is bounded.
func TestBounds(t *testing.T) {
	var tally Tally
	told := 0
	for i := range 1000 {
		id := sandpool.SandboxID(strings.Repeat("x", i%7))
		tally.Read(id, refused(int64(i+1), i, strings.Repeat("h", 300)))
		tally.End(id)
		if n, ok := tally.News(start.Add(time.Duration(i) * time.Second)); ok {
			told++
			if len(n.Message()) > 300 {
				t.Fatalf("the message is %q", n.Message())
			}
		}
	}
	if n := len(tally.Sum().Recent); n > Kept {
		t.Errorf("%d refusals are kept", n)
	}
	if told != 100 {
		t.Errorf("%d pieces of news in 1,000 s", told)
	}
}

// News say how much there is since the last, and which sandbox was the latest.
func TestNews(t *testing.T) {
	var tally Tally
	if _, ok := tally.News(start); ok {
		t.Error("there is news of nothing")
	}
	tally.Read("a", refused(3, 10, "198.51.100.1"))
	n, ok := tally.News(start)
	if !ok || n.Count != 3 || n.Sandbox != "a" || !strings.Contains(n.Message(), `"198.51.100.1", port 80 (tcp)`) {
		t.Errorf("%+v, %v, %s", n, ok, n.Message())
	}
	name := sandpool.Refusals{Names: 2, Recent: []sandpool.Refusal{
		{Time: start.Add(time.Hour), Host: "a\nb.example.org", Protocol: "dns"}}}
	tally.Read("b", name)
	if _, ok := tally.News(start.Add(Pace - 1)); ok {
		t.Error("news come too soon")
	}
	n, ok = tally.News(start.Add(Pace))
	if !ok || n.Count != 2 || n.Sandbox != "b" || !strings.Contains(n.Message(), `"a\nb.example.org" (dns)`) {
		t.Errorf("%+v, %v, %s", n, ok, n.Message())
	}
	if _, ok := tally.News(start.Add(time.Hour)); ok {
		t.Error("the same is told again")
	}
}
