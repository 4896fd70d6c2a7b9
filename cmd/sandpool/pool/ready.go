package pool

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// ready fills in how many sandboxes are kept ready at times and by forecast.
func (s *settings) ready(props *api.SessionPoolProperties) error {
	if s.ReadySchedule == nil && s.ReadyForecast == nil && s.ReadyLead == nil {
		return nil
	}
	if props.Sandpool == nil {
		props.Sandpool = &api.SandpoolSettings{}
	}
	if s.ReadySchedule != nil {
		props.Sandpool.ReadySchedule = []api.ReadyWindow{} // not nil, which would leave it as it is
	}
	for _, text := range entries(s.ReadySchedule) {
		w, err := readyWindow(text)
		if err != nil {
			return err
		}
		props.Sandpool.ReadySchedule = append(props.Sandpool.ReadySchedule, w)
	}
	if s.ReadyForecast == nil && s.ReadyLead == nil {
		return nil
	}
	if s.ReadyForecast == nil {
		return console.UsageError("--ready-lead: give --ready-forecast as well")
	}
	props.Sandpool.ReadyForecast = &api.ReadyForecast{MaxReady: *s.ReadyForecast,
		LeadInSeconds: s.ReadyLead}
	return nil
}

// readyWindow reads "DAYS FROM-TO [ZONE] N", such as "Mon-Fri 08:00-18:00 Europe/Berlin 50".
func readyWindow(text string) (w api.ReadyWindow, err error) {
	words := strings.Fields(text)
	bad := console.UsageError(fmt.Sprintf("--ready-schedule %q: write days, times, a time zone if "+
		"it is not UTC, and a number, such as 'Mon-Fri 08:00-18:00 Europe/Berlin 50'", text))
	if len(words) < 3 || len(words) > 4 {
		return w, bad
	}
	w.TimeZone = "UTC"
	if len(words) == 4 {
		w.TimeZone = words[2]
	}
	var ok bool
	if w.From, w.To, ok = strings.Cut(words[1], "-"); !ok {
		return w, bad
	}
	if w.Ready, err = strconv.Atoi(words[len(words)-1]); err != nil {
		return w, bad
	}
	for _, part := range strings.Split(words[0], ",") {
		days, ok := span(part)
		if !ok {
			return w, bad
		}
		w.Days = append(w.Days, days...)
	}
	return w, nil
}

// span reads a day, or two with a hyphen between them, as the days from one to the other.
func span(text string) (days []string, ok bool) {
	week := []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}
	find := func(name string) int {
		for i, day := range week {
			if strings.EqualFold(day, name) {
				return i
			}
		}
		return -1
	}
	first, last, several := strings.Cut(text, "-")
	if !several {
		last = first
	}
	from, to := find(first), find(last)
	if from < 0 || to < 0 {
		return nil, false
	}
	for i := from; ; i = (i + 1) % len(week) {
		if days = append(days, week[i]); i == to {
			return days, true
		}
	}
}
