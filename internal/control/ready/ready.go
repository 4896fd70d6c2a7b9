// Package ready is what the control plane says of how many sandboxes pools keep ready at times and
// by forecast: it reads these settings in requests, and shows them.
package ready

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// Bounds of the settings.
const (
	mostWindows = 50
	leastLead   = 1
	mostLead    = 60 * 60
	defaultLead = 60
	minutesADay = 24 * 60
)

// Targets of errors.
const (
	schedule = "properties.sandpool.readySchedule"
	forecast = "properties.sandpool.readyForecast"
	code     = "SessionPoolInvalidProperty"
)

// days are the names of the days of the week, as the API has them.
var days = []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

// Parse reads the plan of a pool of at most most sessions, and what is wrong with it.
func Parse(windows []api.ReadyWindow, f *api.ReadyForecast, most int) (plan sandpool.ReadyPlan,
	wrong []*sandpool.Error) {
	refuse := func(target, format string, args ...any) {
		wrong = append(wrong, sandpool.Errorf(sandpool.Invalid, code, target, "%s "+format,
			append([]any{target}, args...)...))
	}
	if len(windows) > mostWindows {
		refuse(schedule, "has %d windows; use at most %d.", len(windows), mostWindows)
		return plan, wrong
	}
	for i, w := range windows {
		at := fmt.Sprintf("%s[%d]", schedule, i)
		out := sandpool.ReadyWindow{Zone: w.TimeZone, Ready: w.Ready}
		if out.Zone == "" {
			out.Zone = "UTC"
		}
		var ok bool
		if out.From, ok = minutes(w.From); !ok || out.From == minutesADay {
			refuse(at+".from", "is %.20q; use a time such as 08:00.", w.From)
		}
		if out.To, ok = minutes(w.To); !ok {
			refuse(at+".to", "is %.20q; use a time such as 18:00, or 24:00.", w.To)
		}
		if ok && out.From == out.To {
			refuse(at+".to", "is when the window begins; use a later time, or 00:00 to 24:00.")
		}
		if len(w.Days) == 0 {
			refuse(at+".days", "is empty; name days such as Mon.")
		}
		for _, name := range w.Days {
			day := slices.IndexFunc(days, func(d string) bool { return strings.EqualFold(d, name) })
			if day < 0 {
				refuse(at+".days", "has %.20q; use %s.", name, strings.Join(days, ", "))
				continue
			}
			out.Days = append(out.Days, time.Weekday(day))
		}
		slices.Sort(out.Days)
		out.Days = slices.Compact(out.Days)
		if _, err := time.LoadLocation(out.Zone); err != nil || out.Zone == "Local" {
			refuse(at+".timeZone", "is %.60q; use a name such as Europe/Berlin.", w.TimeZone)
		}
		if w.Ready < 0 || w.Ready >= most {
			refuse(at+".ready", "is %d; it must be at least 0 and smaller than "+
				"maxConcurrentSessions, which is %d.", w.Ready, most)
		}
		plan.Windows = append(plan.Windows, out)
	}
	if f == nil || f.MaxReady == 0 { // a patch may have left the other setting there
		return plan, wrong
	}
	lead := int64(defaultLead)
	if f.LeadInSeconds != nil {
		lead = *f.LeadInSeconds
	}
	if f.MaxReady < 0 || f.MaxReady >= most {
		refuse(forecast+".maxReady", "is %d; it must be smaller than maxConcurrentSessions, which "+
			"is %d, or 0 for no forecast.", f.MaxReady, most)
	}
	if lead < leastLead || lead > mostLead {
		refuse(forecast+".leadInSeconds", "is %d; use %d to %d.", lead, leastLead, mostLead)
	}
	plan.ForecastMost, plan.Lead = f.MaxReady, time.Duration(lead)*time.Second
	return plan, wrong
}

// minutes reads a time of the day.
func minutes(s string) (int, bool) {
	if s == "24:00" {
		return minutesADay, true
	}
	at, err := time.Parse("15:04", s)
	return 60*at.Hour() + at.Minute(), err == nil && len(s) == len("15:04")
}

func clock(minutes int) string { return fmt.Sprintf("%02d:%02d", minutes/60, minutes%60) }

// Settings is the inverse of Parse.
func Settings(p sandpool.ReadyPlan) (windows []api.ReadyWindow, f *api.ReadyForecast) {
	for _, w := range p.Windows {
		out := api.ReadyWindow{From: clock(w.From), To: clock(w.To), TimeZone: w.Zone,
			Ready: w.Ready}
		for _, day := range w.Days {
			out.Days = append(out.Days, days[day])
		}
		windows = append(windows, out)
	}
	if p.ForecastMost > 0 {
		lead := int64(p.Lead / time.Second)
		f = &api.ReadyForecast{MaxReady: p.ForecastMost, LeadInSeconds: &lead}
	}
	return windows, f
}
