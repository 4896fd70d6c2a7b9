package web

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/client/sheet"
)

// usageView is the page of what sessions have used.
type usageView struct {
	Pool, Principal, Hash string
	Period, From, To      string
	By, Measure           string
	Totals                []api.UsageTotal // by what is asked for, the greatest first
	All                   api.UsageTotal
	Chart                 usageChart
	More                  int // totals that the page leaves out
	Query                 string
}

// maxTotals bounds the rows of the page. The file has all.
const maxTotals = 100

// measure is a number that the chart can show.
type measure struct {
	name, unit string
	of         func(api.UsageTotal) float64
}

// measures are what the chart can show, by the value of the form.
func measures() map[string]measure {
	const gib = 1 << 30
	return map[string]measure{
		"sessions": {"Session hours", "h",
			func(t api.UsageTotal) float64 { return t.SessionSeconds / 3600 }},
		"cpu": {"CPU hours", "h", func(t api.UsageTotal) float64 { return t.CPUSeconds / 3600 }},
		"memory": {"Memory", "GiB h",
			func(t api.UsageTotal) float64 { return float64(t.MemoryByteSeconds) / gib / 3600 }},
		"disk": {"Disk", "GiB h",
			func(t api.UsageTotal) float64 { return float64(t.DiskByteSeconds) / gib / 3600 }},
		"egress": {"Egress", "MiB",
			func(t api.UsageTotal) float64 { return float64(t.EgressBytes) / (1 << 20) }},
		"executions": {"Executions", "",
			func(t api.UsageTotal) float64 { return float64(t.Executions) }},
	}
}

// usagePeriods are what the page can be asked for, beside two days.
func usagePeriods() map[string]time.Duration {
	const day = 24 * time.Hour
	return map[string]time.Duration{"24h": day, "7d": 7 * day, "30d": 30 * day, "366d": 366 * day}
}

// longSteps is from which time on the chart has a bar for a day; before it has one for an hour.
const longSteps = 8 * 24 * time.Hour

// usageQuestion reads what the page is asked for. What it does not know is the default.
func usageQuestion(a asked, now time.Time) (client.Usage, usageView) {
	q := a.URL.Query()
	v := usageView{Pool: q.Get("pool"), Principal: q.Get("who"), Hash: q.Get("identifier"),
		Period: q.Get("since"), From: q.Get("from"), To: q.Get("to"), By: q.Get("by"),
		Measure: q.Get("measure"), Query: a.URL.RawQuery}
	if !slices.Contains([]string{api.UsageByPool, api.UsageByPrincipal, api.UsageByIdentifier},
		v.By) {
		v.By = api.UsageByPool
	}
	if _, known := measures()[v.Measure]; !known {
		v.Measure = "sessions"
	}
	period, known := usagePeriods()[v.Period]
	if !known {
		v.Period, period = "7d", usagePeriods()["7d"]
	}
	ask := client.Usage{Pool: v.Pool, Principal: v.Principal, IdentifierHash: v.Hash,
		Until: now, Since: now.Add(-period)}
	if at, err := time.Parse(time.DateOnly, v.From); err == nil && at.Before(now) {
		ask.Since = at
	} else {
		v.From = ""
	}
	if at, err := time.Parse(time.DateOnly, v.To); err == nil &&
		at.AddDate(0, 0, 1).After(ask.Since) {
		ask.Until = at.AddDate(0, 0, 1) // the whole of the last day
	} else {
		v.To = ""
	}
	return ask, v
}

func (w *Web) usagePage(ctx context.Context, a asked) (string, view, error) {
	v := view{Title: "Usage", Here: "usage"}
	ask, d := usageQuestion(a, w.visits.now())
	ask.By = []string{d.By}
	totals, err := a.api.Usage(ctx, ask)
	if err != nil {
		return "", v, err
	}
	shown := measures()[d.Measure]
	d.Totals = totals.Value
	slices.SortStableFunc(d.Totals, func(a, b api.UsageTotal) int {
		return cmp.Compare(shown.of(b), shown.of(a))
	})
	if d.More = len(d.Totals) - maxTotals; d.More > 0 {
		d.Totals = d.Totals[:maxTotals]
	}
	ask.By = nil
	all, err := a.api.Usage(ctx, ask)
	if err != nil {
		return "", v, err
	}
	if len(all.Value) > 0 {
		d.All = all.Value[0]
	}
	ask.Step = api.UsageByHour
	if ask.Until.Sub(ask.Since) > longSteps {
		ask.Step = api.UsageByDay
	}
	steps, err := a.api.Usage(ctx, ask)
	if err != nil {
		return "", v, err
	}
	d.Chart = chartOf(steps.Value, ask, shown)
	v.Data = d
	return "usage", v, nil
}

// The chart's size in its own units, and what its edges take for words.
const (
	chartWidth  = 1000
	chartHeight = 180
	chartLeft   = 70
	chartBottom = 24
)

// usageChart is a bar for each step.
type usageChart struct {
	Label         string
	Bars          []usageBar
	Marks         []usageMark // of the scale, and of the time
	Width, Height int
}

// usageBar is one of a chart.
type usageBar struct {
	X, Y, Width, Height float64
	Says                string
}

// usageMark is a word beside a chart, and a line through it if it is of the scale.
type usageMark struct {
	X, Y  float64
	Says  string
	Scale bool
}

// chartOf draws what the steps of a time say.
func chartOf(steps []api.UsageTotal, ask client.Usage, m measure) usageChart {
	c := usageChart{Width: chartWidth, Height: chartHeight, Label: m.name}
	length, layout := time.Hour, "2006-01-02 15:04"
	if ask.Step == api.UsageByDay {
		length, layout = 24*time.Hour, time.DateOnly
	}
	from := ask.Since.UTC().Truncate(length)
	count := float64(ask.Until.Sub(from)+length-1) / float64(length)
	most := 0.0
	for _, s := range steps {
		most = max(most, m.of(s))
	}
	most = roundUp(most)
	wide, high := float64(chartWidth-chartLeft)/count, float64(chartHeight-chartBottom-10)
	for _, s := range steps {
		if s.Time == nil {
			continue
		}
		value := m.of(s)
		h := value / most * high
		c.Bars = append(c.Bars, usageBar{X: chartLeft + wide*float64(s.Time.Sub(from)/length),
			Y: 10 + high - h, Width: max(wide*0.8, 0.5), Height: h,
			Says: fmt.Sprintf("%s UTC: %s, sessions: %d", s.Time.UTC().Format(layout),
				m.say(value), s.Sessions)})
	}
	for _, part := range []float64{0, 0.5, 1} {
		c.Marks = append(c.Marks, usageMark{X: chartLeft - 6, Y: 10 + high*(1-part),
			Says: m.say(most * part), Scale: true})
	}
	for i := range 4 {
		at := from.Add(time.Duration(float64(i) / 4 * count * float64(length)))
		c.Marks = append(c.Marks, usageMark{X: chartLeft + float64(i)/4*(chartWidth-chartLeft),
			Y: chartHeight - 6, Says: at.Format(layout)})
	}
	return c
}

// roundUp is a round number that is at least n, and not zero.
func roundUp(n float64) float64 {
	unit := 1e-6
	for unit*10 < n {
		unit *= 10
	}
	for _, k := range []float64{1, 2, 5} {
		if k*unit >= n {
			return k * unit
		}
	}
	return 10 * unit
}

// say writes n with three digits that matter.
func (m measure) say(n float64) string {
	return strings.TrimSpace(strconv.FormatFloat(n, 'g', 3, 64) + " " + m.unit)
}

// usageFile serves totals or records as comma-separated values.
func (w *Web) usageFile(rw http.ResponseWriter, r *http.Request) {
	a, ok := w.ask(rw, r)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	ask, d := usageQuestion(a, w.visits.now())
	ask.By = []string{d.By}
	name := "usage-by-" + d.By
	var write func() error
	var err error
	if a.URL.Query().Has("records") {
		name = "usage-records"
		var page api.UsageRecords
		if page, err = a.api.UsageRecords(ctx, ask); err == nil {
			write = func() error { return writeRecords(ctx, rw, a, ask, page) }
		}
	} else {
		var totals api.UsageTotals
		if totals, err = a.api.Usage(ctx, ask); err == nil {
			write = func() error { return sheet.UsageTotals(rw, totals) }
		}
	}
	if err != nil {
		message, status := explain(err)
		w.show(rw, a, status, "error", view{Title: "Error", Error: message})
		return
	}
	rw.Header().Set("Content-Type", "text/csv; charset=utf-8")
	rw.Header().Set("Content-Disposition", `attachment; filename="`+name+`.csv"`)
	if err := write(); err != nil {
		w.log.Debug("a file of usage was cut short", "error", err)
		panic(http.ErrAbortHandler) // the reader must not take it for the whole
	}
}

// writeRecords writes the records of a page and of those that follow.
func writeRecords(ctx context.Context, rw http.ResponseWriter, a asked, ask client.Usage,
	page api.UsageRecords) error {
	each, end := sheet.UsageRecords(rw)
	for _, r := range page.Value {
		if err := each(r); err != nil {
			return err
		}
	}
	if ask.After = page.Next; page.Next > 0 {
		if err := a.api.EachUsageRecord(ctx, ask, each); err != nil {
			return err
		}
	}
	return end()
}
