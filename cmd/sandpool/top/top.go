// Package top is the command "sandpool top": pools and their sessions as they are now, again and
// again.
package top

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// Cmd is "sandpool top".
type Cmd struct {
	Every time.Duration `default:"2s" help:"Time between refreshes." placeholder:"TIME"`
	Once  bool          `help:"Show everything once and exit."`
}

// row is a session, or a sandbox that stands ready.
type row struct {
	Pool       string   `json:"pool"`
	Session    string   `json:"session,omitempty"` // as far as the token may see it
	Sandbox    string   `json:"sandbox"`
	State      string   `json:"state"`
	CreatedAt  string   `json:"createdAt"`
	LastUsedAt string   `json:"lastUsedAt,omitempty"`
	Memory     *int64   `json:"memoryBytes,omitempty"`
	CPUSeconds *float64 `json:"cpuSeconds,omitempty"`
	Cores      float64  `json:"cores"` // since the last look
}

// line is a pool.
type line struct {
	Name   string         `json:"name"`
	Status api.PoolStatus `json:"status"`
	// ClaimsPerMinute and the quantiles are of the last minutes.
	ClaimsPerMinute float64  `json:"claimsPerMinute"`
	ClaimP99        *float64 `json:"claimP99,omitempty"`
	AnswerP99       *float64 `json:"answerP99,omitempty"`
}

// view is one look.
type view struct {
	Pools []line `json:"pools"`
	Rows  []row  `json:"sandboxes"`
}

// looker remembers what the last look saw, to tell how much was used since.
type looker struct {
	api  *client.Client
	used map[string]float64
	at   time.Time
}

// Run draws until Ctrl-C or the key q.
func (c *Cmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	if c.Every < 100*time.Millisecond {
		return console.UsageError("--every is too short; use 100ms or more")
	}
	l := &looker{api: cl, used: map[string]float64{}}
	draw := func(w io.Writer, width, height int) error {
		v, err := l.look(ctx)
		if err != nil {
			return err
		}
		switch {
		case a.JSON() && c.Once:
			return a.PrintJSON(v)
		case a.JSON():
			return a.PrintJSONLine(v)
		}
		return v.write(w, width, height)
	}
	if c.Once {
		return draw(a.Stdout, console.Width(a.Stdout), 0)
	}
	if console.Width(a.Stdout) > 0 && !a.JSON() {
		var leave func()
		ctx, leave = screen(ctx, a)
		defer leave()
	}
	return a.Watch(ctx, c.Every, draw)
}

// screen takes the terminal's other screen, and ends the context at the key q.
func screen(ctx context.Context, a *console.App) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	fmt.Fprint(a.Stdout, "\x1b[?1049h\x1b[?25l\x1b[2J")
	restore := func() {}
	if in, ok := a.Stdin.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		if old, err := term.MakeRaw(int(in.Fd())); err == nil {
			restore = func() { _ = term.Restore(int(in.Fd()), old) }
			go func() {
				key := make([]byte, 1)
				for {
					n, err := in.Read(key)
					if err != nil || n == 1 && (key[0] == 'q' || key[0] == 3) {
						cancel()
						return
					}
				}
			}()
		}
	}
	return ctx, func() {
		cancel()
		restore()
		fmt.Fprint(a.Stdout, "\x1b[?25h\x1b[?1049l")
	}
}

// look asks for every pool.
func (l *looker) look(ctx context.Context) (view, error) {
	v := view{Pools: []line{}, Rows: []row{}}
	pools, err := l.api.Pools(ctx)
	if err != nil {
		return v, err
	}
	now := time.Now()
	used := map[string]float64{}
	for _, p := range pools {
		s, err := l.api.PoolStatus(ctx, p.Name)
		if err != nil {
			if ctx.Err() != nil {
				return v, err
			}
			continue // it is gone, or its status is not for this token
		}
		one := line{Name: p.Name, Status: s}
		if h, err := l.api.History(ctx, p.Name, api.HistoryHour); err == nil {
			one.recent(h, now)
		}
		names := map[string]string{}
		if sessions, err := l.api.Sessions(ctx, p.Name); err == nil {
			for _, each := range sessions {
				names[each.ETag] = each.Identifier
			}
		}
		for _, b := range s.Sandboxes {
			r := row{Pool: p.Name, Session: names[b.ID], Sandbox: b.ID, State: b.State,
				CreatedAt: b.CreatedAt, LastUsedAt: b.LastUsedAt, Memory: b.MemoryBytes,
				CPUSeconds: b.CPUSeconds}
			if b.CPUSeconds != nil {
				used[b.ID] = *b.CPUSeconds
				if before, ok := l.used[b.ID]; ok {
					r.Cores = max(0, (*b.CPUSeconds-before)/now.Sub(l.at).Seconds())
				}
			}
			v.Rows = append(v.Rows, r)
		}
		one.Status.Sandboxes = nil
		v.Pools = append(v.Pools, one)
	}
	l.used, l.at = used, now
	slices.SortStableFunc(v.Rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(b.Cores, a.Cores), cmp.Compare(a.State, b.State),
			cmp.Compare(of(b.Memory), of(a.Memory)))
	})
	return v, nil
}

func of(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// recently is what a pool's line sums up.
const recently = 2 * time.Minute

// recent sums up the newest of a history.
func (l *line) recent(h api.History, now time.Time) {
	claims := 0
	for _, p := range h.Points {
		at, err := time.Parse(time.RFC3339, p.Time)
		if err != nil || now.Sub(at) > recently {
			continue
		}
		claims += p.ClaimsReady + p.ClaimsNew
		if p.ClaimP99 != nil {
			l.ClaimP99 = p.ClaimP99
		}
		if p.AnswerP99 != nil {
			l.AnswerP99 = p.AnswerP99
		}
	}
	l.ClaimsPerMinute = float64(claims) / recently.Minutes()
}

// The widths of a pool's bar: on a terminal that has room for a whole line, and on others.
const (
	wideBar, narrowBar = 24, 10
	wholeLine          = 124
)

// bar is a pool's sandboxes against its maximum: sessions, ready ones, starting ones, and room.
func bar(s api.PoolStatus, barWidth int) string {
	most := max(s.MaxSessions, 1)
	text := ""
	sum := 0
	for _, part := range []struct {
		n    int
		mark string
	}{{s.Claimed, "#"}, {s.Ready, "="}, {s.Starting, "~"}} {
		sum += part.n
		if until := min(barWidth, (sum*barWidth+most-1)/most); until > len(text) {
			text += strings.Repeat(part.mark, until-len(text))
		}
	}
	return "[" + text + strings.Repeat(".", barWidth-len(text)) + "]"
}

// write draws a look in as many lines as there are; height zero means all.
func (v view) write(w io.Writer, width, height int) error {
	fmt.Fprintf(w, "sandpool top   %s   # sessions  = ready  ~ starting  . free   q ends it\n\n",
		time.Now().Format(time.TimeOnly))
	barWidth := wideBar
	if width > 0 && width < wholeLine {
		barWidth = narrowBar
	}
	pools := console.Table{Heading: []string{"POOL", "STATE", "", "SESSIONS", "READY", "WAITING",
		"CLAIMS/MIN", "CLAIM P99", "ANSWER P99", "FULL", "FAILED"}}
	for _, l := range v.Pools {
		s := l.Status
		pools.Add(l.Name, s.ProvisioningState, bar(s, barWidth), fmt.Sprintf("%d/%d", s.Claimed,
			s.MaxSessions), fmt.Sprintf("%d/%d", s.Ready, s.ReadySessions), fmt.Sprint(s.Waiting),
			fmt.Sprintf("%.1f", l.ClaimsPerMinute), seconds(l.ClaimP99), seconds(l.AnswerP99),
			fmt.Sprint(s.Claims["full"]), fmt.Sprint(s.Crashes+s.RefillFailures))
	}
	if width > 0 {
		pools.Leave(width, "WAITING", "ANSWER P99", "STATE", "FULL", "CLAIMS/MIN")
	}
	if err := write(w, &pools, width); err != nil {
		return err
	}
	fmt.Fprintln(w)
	rows := v.Rows
	if room := height - len(v.Pools) - 6; height > 0 && len(rows) > room {
		rows = rows[:max(0, room)]
	}
	boxes := console.Table{Heading: []string{"POOL", "SESSION", "SANDBOX", "STATE", "CORES",
		"MEMORY", "CPU", "AGE", "IDLE"}}
	for _, r := range rows {
		memory, cpu := "", ""
		if r.Memory != nil {
			memory = console.Bytes(*r.Memory)
		}
		if r.CPUSeconds != nil {
			cpu = fmt.Sprintf("%.1fs", *r.CPUSeconds)
		}
		boxes.Add(r.Pool, r.Session, r.Sandbox, r.State, fmt.Sprintf("%.2f", r.Cores), memory, cpu,
			since(r.CreatedAt), since(r.LastUsedAt))
	}
	if width > 0 && width < wholeLine { // with room for more, long names are cut instead
		boxes.Leave(width, "CPU", "IDLE")
	}
	return write(w, &boxes, width)
}

func write(w io.Writer, t *console.Table, width int) error {
	if width > 0 {
		t.Fit(width)
	}
	return t.Write(w)
}

func seconds(s *float64) string {
	if s == nil {
		return "-"
	}
	return time.Duration(*s * float64(time.Second)).Round(10 * time.Microsecond).String()
}

func since(text string) string {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return ""
	}
	return time.Since(t).Round(time.Second).String()
}
