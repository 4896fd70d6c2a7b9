package ahead_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pool/ahead"
)

var weekdays = []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday}

func at(t *testing.T, s string) time.Time {
	t.Helper()
	when, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

// A schedule holds in its window, by the clocks of its zone, over midnight and over the change of
// clocks; of two windows the one that asks for more does.
func TestSchedule(t *testing.T) {
	plan := sandpool.ReadyPlan{Windows: []sandpool.ReadyWindow{
		{Days: weekdays, From: 8 * 60, To: 18 * 60, Zone: "Europe/Berlin", Ready: 50},
		{Days: weekdays, From: 9 * 60, To: 10*60 + 30, Zone: "Europe/Berlin", Ready: 80},
		{Days: []time.Weekday{time.Saturday}, From: 22 * 60, To: 2 * 60, Zone: "UTC", Ready: 20},
	}}
	for _, test := range []struct {
		now  string
		want int
		says string
	}{
		{"2026-03-27T06:59:00Z", 5, ""},                 // a Friday, 07:59 in Berlin
		{"2026-03-27T07:00:00Z", 50, "until Fri 18:00"}, // winter time
		{"2026-03-30T06:00:00Z", 50, "until Mon 18:00 CEST"},
		{"2026-03-30T08:29:59Z", 80, "until Mon 10:30"},
		{"2026-03-30T16:00:00Z", 5, ""},
		{"2026-03-28T23:00:00Z", 20, "until Sun 02:00 UTC"},
		{"2026-03-29T01:59:00Z", 20, "wants 20 ready"},
		{"2026-03-29T02:00:00Z", 5, ""},
		{"2026-03-29T23:00:00Z", 5, ""},
	} {
		got, why := ahead.Want(at(t, test.now), 5, plan, &ahead.Claims{})
		if got != test.want || !strings.Contains(why, test.says) ||
			(why == "") != (test.says == "") {
			t.Errorf("at %s it wants %d, %q; want %d, %q", test.now, got, why, test.want, test.says)
		}
	}
}

// A forecast follows the claims of the last minutes, and those of a day ago, up to its bound, and
// falls when they are over.
func TestForecast(t *testing.T) {
	start := at(t, "2026-06-01T08:00:00Z")
	plan := sandpool.ReadyPlan{ForecastMost: 40, Lead: time.Minute}
	var c ahead.Claims
	want := func(after time.Duration, n int, says string) {
		t.Helper()
		got, why := ahead.Want(start.Add(after), 3, plan, &c)
		if got != n || !strings.Contains(why, says) || (why == "") != (says == "") {
			t.Errorf("after %v it wants %d, %q; want %d, %q", after, got, why, n, says)
		}
	}
	want(0, 3, "")
	for range 16 {
		c.Note(start)
	}
	want(0, 24, "up to 16 claims a minute in the last 10m0s, for 1m0s ahead")
	want(9*time.Minute, 24, "wants 24 ready")
	want(10*time.Minute, 3, "")
	want(24*time.Hour-11*time.Minute, 24, "at this time a day ago")
	want(24*time.Hour+time.Minute, 3, "")
	for range 100 {
		c.Note(start.Add(25 * time.Hour))
	}
	want(25*time.Hour, 40, "wants 40 ready, at most 40")
	c.Note(start.Add(-time.Hour)) // a clock that was set back
	c.Note(start.Add(90 * 24 * time.Hour))
	want(90*24*time.Hour, 3, "")
}

// What was counted is as well known to whoever reads it as a text, and adds to what he has counted
// himself. What is no such text adds nothing.
func TestText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_800_000_000, 0)
		plan := sandpool.ReadyPlan{ForecastMost: 1000, Lead: time.Minute}
		var all, first, second ahead.Claims
		for range rapid.IntRange(0, 100).Draw(t, "claims") {
			now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "minutes")) * time.Minute)
			all.Note(now)
			if rapid.Bool().Draw(t, "first") {
				first.Note(now)
			} else {
				second.Note(now)
			}
		}
		second.Add(first.Text())
		for _, bad := range []string{"", "{", "[]", `{"last":-5,"counts":[1]}`,
			`{"last":1,"counts":[1,2,3]}`, `{"last":99999999999999999999,"counts":[1]}`} {
			second.Add(bad)
		}
		if a, b := all.Text(), second.Text(); a != b {
			t.Fatalf("it knows %s, want %s", b, a)
		}
		for after := range 48 {
			at := now.Add(time.Duration(after) * time.Hour)
			a, _ := ahead.Want(at, 0, plan, &all)
			b, _ := ahead.Want(at, 0, plan, &second)
			if a != b {
				t.Fatalf("after %d hours it wants %d, want %d", after, b, a)
			}
		}
	})
}

// Whatever is claimed, the number is within its bounds, and another claim never lowers it.
func TestBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_800_000_000, 0)
		usual := rapid.IntRange(0, 20).Draw(t, "usual")
		plan := sandpool.ReadyPlan{ForecastMost: rapid.IntRange(0, 100).Draw(t, "most"),
			Lead: time.Duration(rapid.IntRange(1, 600).Draw(t, "lead")) * time.Second}
		if rapid.Bool().Draw(t, "window") {
			plan.Windows = []sandpool.ReadyWindow{{Days: []time.Weekday{now.UTC().Weekday()},
				From: 0, To: 24 * 60, Zone: "UTC", Ready: rapid.IntRange(0, 50).Draw(t, "ready")}}
		}
		var c ahead.Claims
		base, _ := ahead.Want(now, usual, sandpool.ReadyPlan{Windows: plan.Windows}, &c)
		last := base
		for range rapid.IntRange(1, 200).Draw(t, "claims") {
			if rapid.IntRange(0, 9).Draw(t, "wait") == 0 {
				now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "minutes")) * time.Minute)
				base, _ = ahead.Want(now, usual, sandpool.ReadyPlan{Windows: plan.Windows}, &c)
				last, _ = ahead.Want(now, usual, plan, &c)
			}
			c.Note(now)
			got, why := ahead.Want(now, usual, plan, &c)
			if got < last || got < base || got > max(base, plan.ForecastMost) {
				t.Fatalf("it wants %d (%s) after %d, with %d at least and %d at most", got, why,
					last, base, plan.ForecastMost)
			}
			if got != usual && why == "" {
				t.Fatalf("it wants %d, usually %d, and does not say why", got, usual)
			}
			last = got
		}
	})
}
