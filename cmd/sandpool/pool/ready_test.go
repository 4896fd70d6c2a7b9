package pool

import (
	"strings"
	"testing"

	"github.com/sandpool/sandpool/api"
)

// A window of the schedule is written in one line; what is no such line is refused with an example.
func TestReadyWindow(t *testing.T) {
	for text, want := range map[string]string{
		"Mon-Fri 08:00-18:00 Europe/Berlin 50": "Mon Tue Wed Thu Fri 08:00 18:00 Europe/Berlin 50",
		"sat,sun 00:00-24:00 7":                "Sat Sun 00:00 24:00 UTC 7",
		"Fri-Mon 22:00-02:00 UTC 1":            "Fri Sat Sun Mon 22:00 02:00 UTC 1",
	} {
		w, err := readyWindow(text)
		got := strings.Join(append(w.Days, w.From, w.To, w.TimeZone), " ")
		if err != nil || !strings.HasPrefix(want, got) || !strings.HasSuffix(want, " "+
			strings.TrimSpace(strings.TrimPrefix(want, got))) || w.Ready == 0 {
			t.Errorf("%q is read as %q %d, %v", text, got, w.Ready, err)
		}
	}
	for _, text := range []string{"", "Mon 08:00-18:00", "Mon 08:00 18:00 5", "Mo 08:00-18:00 5",
		"Mon 08:00-18:00 UTC many", "Mon 08:00-18:00 UTC 5 6"} {
		if _, err := readyWindow(text); err == nil || !strings.Contains(err.Error(), "Mon-Fri") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// An empty window takes the schedule away; a lead alone is of no forecast.
func TestReadyFlags(t *testing.T) {
	lead, most := int64(30), 20
	props := &api.SessionPoolProperties{}
	s := settings{ReadySchedule: []string{""}, ReadyForecast: &most, ReadyLead: &lead}
	if err := s.ready(props); err != nil || props.Sandpool.ReadySchedule == nil ||
		len(props.Sandpool.ReadySchedule) > 0 || props.Sandpool.ReadyForecast.MaxReady != 20 {
		t.Errorf("the flags make %+v, %v", props.Sandpool, err)
	}
	s = settings{ReadyLead: &lead}
	if err := s.ready(props); err == nil || !strings.Contains(err.Error(), "--ready-forecast") {
		t.Errorf("a lead without a forecast: %v", err)
	}
}
