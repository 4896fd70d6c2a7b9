package ready_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/control/ready"
)

// What is set is shown as it was set.
func TestSettings(t *testing.T) {
	lead := int64(90)
	windows := []api.ReadyWindow{
		{Days: []string{"Mon", "Fri"}, From: "08:00", To: "18:30", TimeZone: "Europe/Berlin",
			Ready: 50},
		{Days: []string{"Sat"}, From: "22:00", To: "02:00", TimeZone: "UTC"},
		{Days: []string{"Sun"}, From: "00:00", To: "24:00", TimeZone: "UTC", Ready: 1},
	}
	forecast := &api.ReadyForecast{MaxReady: 80, LeadInSeconds: &lead}
	plan, wrong := ready.Parse(windows, forecast, 100)
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	if plan.ForecastMost != 80 || plan.Lead != 90*time.Second || plan.Windows[0].From != 480 {
		t.Errorf("it is read as %+v", plan)
	}
	gotWindows, gotForecast := ready.Settings(plan)
	if diff := cmp.Diff(windows, gotWindows); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(forecast, gotForecast); diff != "" {
		t.Error(diff)
	}
	plan, wrong = ready.Parse(nil, &api.ReadyForecast{LeadInSeconds: &lead}, 100)
	if wrong != nil || !cmp.Equal(plan, sandpool.ReadyPlan{}) {
		t.Errorf("a forecast of nothing is %+v, %v", plan, wrong)
	}
	plan, _ = ready.Parse([]api.ReadyWindow{{Days: []string{"FRI", "mon", "Mon"}, From: "08:00",
		To: "09:00"}}, &api.ReadyForecast{MaxReady: 1}, 100)
	if w := plan.Windows[0]; w.Zone != "UTC" || len(w.Days) != 2 || plan.Lead != time.Minute {
		t.Errorf("what was left out or written otherwise is %+v", plan)
	}
}

// Each wrong setting is named.
func TestRefused(t *testing.T) {
	right := api.ReadyWindow{Days: []string{"Mon"}, From: "08:00", To: "18:00", TimeZone: "UTC",
		Ready: 5}
	type change = func(*api.ReadyWindow, *api.ReadyForecast)
	window := func(of func(w *api.ReadyWindow)) change {
		return func(w *api.ReadyWindow, _ *api.ReadyForecast) { of(w) }
	}
	forecast := func(of func(f *api.ReadyForecast)) change {
		return func(_ *api.ReadyWindow, f *api.ReadyForecast) { of(f) }
	}
	for target, change := range map[string]change{
		"readySchedule[0].days":       window(func(w *api.ReadyWindow) { w.Days = nil }),
		"readySchedule[0].from":       window(func(w *api.ReadyWindow) { w.From = "8" }),
		"readySchedule[0].to":         window(func(w *api.ReadyWindow) { w.To = "08:00" }),
		"readySchedule[0].timeZone":   window(func(w *api.ReadyWindow) { w.TimeZone = "Zone!" }),
		"readySchedule[0].ready":      window(func(w *api.ReadyWindow) { w.Ready = 10 }),
		"readyForecast.maxReady":      forecast(func(f *api.ReadyForecast) { f.MaxReady = 10 }),
		"readyForecast.leadInSeconds": forecast(func(f *api.ReadyForecast) { *f.LeadInSeconds = 0 }),
	} {
		w, lead := right, int64(60)
		f := &api.ReadyForecast{MaxReady: 5, LeadInSeconds: &lead}
		change(&w, f)
		_, wrong := ready.Parse([]api.ReadyWindow{w}, f, 10)
		if len(wrong) != 1 || wrong[0].Target != "properties.sandpool."+target ||
			!strings.Contains(wrong[0].Message, wrong[0].Target+" ") {
			t.Errorf("of %s: %v", target, wrong)
		}
	}
	if _, wrong := ready.Parse(make([]api.ReadyWindow, 51), nil, 10); len(wrong) != 1 {
		t.Errorf("51 windows: %v", wrong)
	}
}
