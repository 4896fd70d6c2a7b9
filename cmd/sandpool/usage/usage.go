// Package usage is the command "sandpool usage": what sessions have used, added up or one by one.
package usage

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/client/sheet"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// Cmd is "sandpool usage" and the command below it.
type Cmd struct {
	Totals  totalsCmd  `cmd:"" default:"withargs" help:"Add up what sessions have used (the default)."`
	Records recordsCmd `cmd:"" help:"Show the record of each session."`
}

// filter is what both commands are asked for.
type filter struct {
	Pool      string `help:"Sessions of one pool, by its name." placeholder:"NAME" xor:"where"`
	Scope     string `help:"Sessions of a resource group or a subscription, by its resource id." placeholder:"ID" xor:"where"`
	Principal string `help:"Sessions that one principal began, by its subject." placeholder:"SUBJECT"`
	Session   string `help:"Sessions with one identifier." placeholder:"NAME"`
	Since     moment `help:"Usage after a time: 2030-01-31, 2030-01-31T12:00:00Z, or how long ago, such as 24h. Without it all that is recorded." placeholder:"TIME"`
	Until     moment `help:"Usage before a time." placeholder:"TIME"`
	CSV       bool   `name:"csv" help:"Write comma-separated values."`
}

func (f filter) question() client.Usage {
	return client.Usage{Pool: f.Pool, Scope: f.Scope, Principal: f.Principal, Session: f.Session,
		Since: time.Time(f.Since), Until: time.Time(f.Until)}
}

// moment is a time on the command line: of the day, or how long ago.
type moment time.Time

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *moment) UnmarshalText(text []byte) error {
	s := string(text)
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, s); err == nil {
			*m = moment(at)
			return nil
		}
	}
	ago, err := time.ParseDuration(s)
	if err != nil || ago < 0 {
		return fmt.Errorf("%q is no time: use 2030-01-31, 2030-01-31T12:00:00Z, or how long ago, "+
			"such as 24h", s)
	}
	*m = moment(time.Now().Add(-ago))
	return nil
}

type totalsCmd struct {
	filter
	By   []string `help:"What to tell apart, with commas between: pool, principal, identifier." default:"pool" enum:"pool,principal,identifier,none" placeholder:"WHAT"`
	Step string   `help:"Divide the time by ${enum}; it needs --since." enum:",hour,day" default:"" placeholder:"STEP"`
}

// Run writes totals.
func (c *totalsCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	q := c.question()
	for _, by := range c.By {
		if by != "none" {
			q.By = append(q.By, by)
		}
	}
	q.Step = c.Step
	totals, err := cl.Usage(ctx, q)
	switch {
	case err != nil:
		return err
	case c.CSV:
		return sheet.UsageTotals(a.Stdout, totals)
	case a.JSON():
		return a.PrintJSON(totals)
	}
	t := console.Table{Heading: []string{"TIME", "POOL", "PRINCIPAL", "IDENTIFIER", "SESSIONS",
		"SESSION TIME", "CPU", "MEMORY", "DISK", "EGRESS", "EXECUTIONS"}}
	for _, v := range totals.Value {
		at := "all"
		if v.Time != nil {
			at = v.Time.UTC().Format("2006-01-02 15:04")
		}
		t.Add(append([]string{at, nameOf(v.Pool), or(v.Principal), or(short(v.IdentifierHash)),
			strconv.FormatInt(v.Sessions, 10)}, cells(v.Used)...)...)
	}
	return t.Write(a.Stdout)
}

type recordsCmd struct{ filter }

// Run writes records.
func (c *recordsCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	if c.CSV {
		each, end := sheet.UsageRecords(a.Stdout)
		if err := cl.EachUsageRecord(ctx, c.question(), each); err != nil {
			return err
		}
		return end()
	}
	if a.JSON() {
		return cl.EachUsageRecord(ctx, c.question(), func(r api.UsageRecord) error {
			return a.PrintJSONLine(r)
		})
	}
	t := console.Table{Heading: []string{"BEGAN", "POOL", "PRINCIPAL", "IDENTIFIER", "STATE",
		"SESSION TIME", "CPU", "MEMORY", "DISK", "EGRESS", "EXECUTIONS"}}
	err = cl.EachUsageRecord(ctx, c.question(), func(r api.UsageRecord) error {
		state := "ended"
		if r.Running {
			state = "running"
		}
		t.Add(append([]string{r.Began.UTC().Format("2006-01-02 15:04:05"), nameOf(r.Pool),
			or(r.Principal), short(r.IdentifierHash), state}, cells(r.Used)...)...)
		return nil
	})
	if err != nil {
		return err
	}
	return t.Write(a.Stdout)
}

// cells are the numbers for people: times in seconds, memory and disk in GiB for an hour.
func cells(u api.Used) []string {
	hours := func(byteSeconds int64) string {
		return strconv.FormatFloat(float64(byteSeconds)/(1<<30)/3600, 'f', 4, 64) + " GiBh"
	}
	return []string{strconv.FormatFloat(u.SessionSeconds, 'f', 1, 64) + " s",
		strconv.FormatFloat(u.CPUSeconds, 'f', 2, 64) + " s", hours(u.MemoryByteSeconds),
		hours(u.DiskByteSeconds), strconv.FormatInt(u.EgressBytes, 10) + " B",
		strconv.FormatInt(u.Executions, 10)}
}

// nameOf is the name of a pool, by its resource id.
func nameOf(id string) string { return or(id[strings.LastIndexByte(id, '/')+1:]) }

// short is the beginning of a hash, which is enough to tell few apart.
func short(hash string) string { return hash[:min(12, len(hash))] }

// or is what a cell says of something by which nothing was told apart.
func or(s string) string {
	if s == "" {
		return "all"
	}
	return s
}
