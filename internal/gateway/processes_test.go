package gateway

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/interpreter"
)

// busy is a fake agent with one background process.
type busy struct {
	fakeAgent
	req   agent.ProcessRequest
	done  []string
	quiet bool // says nothing more to who follows
}

var _ interpreter.Processes = (*busy)(nil)

func (b *busy) one() agent.BackgroundProcess {
	command := b.req.Args
	if command == nil {
		command = []string{"sh", "-c", b.req.Shell}
	}
	return agent.BackgroundProcess{ID: b.req.ID, PID: 7, Command: command}
}

func (b *busy) StartProcess(_ context.Context,
	r agent.ProcessRequest) (agent.BackgroundProcess, error) {
	b.req = r
	return b.one(), nil
}

func (b *busy) BackgroundProcesses(context.Context) ([]agent.BackgroundProcess, error) {
	return []agent.BackgroundProcess{b.one()}, nil
}

func (b *busy) BackgroundProcess(_ context.Context, id string,
	wait time.Duration) (agent.BackgroundProcess, error) {
	if id != b.req.ID {
		return b.one(), sandpool.Errorf(sandpool.NotFound, "ProcessNotFound", "id", "none")
	}
	p := b.one()
	if wait == 5*time.Second {
		code := 3
		p.ExitCode, p.Ended = &code, time.Now()
	}
	return p, nil
}

func (b *busy) SignalProcess(_ context.Context, id string, signal int) error {
	b.done = append(b.done, id+" "+string(rune('0'+signal)))
	return nil
}

func (b *busy) RemoveProcess(_ context.Context, id string) error {
	b.done = append(b.done, "end "+id)
	return nil
}

func (b *busy) ProcessLogs(ctx context.Context, id string, after int64, follow bool,
	emit func(agent.ProcessRecord) error) error {
	if id != b.req.ID {
		return sandpool.Errorf(sandpool.NotFound, "ProcessNotFound", "id", "none")
	}
	for _, r := range []agent.ProcessRecord{{Number: after + 3, Lost: 2, Stdout: "out"},
		{Number: after + 4, Stderr: "err"}} {
		if err := emit(r); err != nil {
			return err
		}
	}
	if follow && b.quiet {
		<-ctx.Done()
		return ctx.Err()
	}
	if follow {
		return sandpool.Errorf(sandpool.Unavailable, "", "", "broken")
	}
	p := b.one()
	return emit(agent.ProcessRecord{Number: after + 4, Process: &p})
}

// TestProcesses: background processes are started, listed, waited for, signalled and ended, and
// their logs are a stream.
func TestProcesses(t *testing.T) {
	b := &busy{}
	w := newWorldOf(t, Options{}, func(l interpreter.Session) interpreter.Agent {
		b.fakeAgent = fakeAgent{w: l.(*lease).w, l: l.(*lease)}
		return b
	})
	if got := w.do("GET", "processes?identifier=abcd", ""); got.status != http.StatusBadRequest {
		t.Errorf("processes of no session: %d %s", got.status, got.body)
	}
	got := w.do("POST", "processes?identifier=abcd",
		`{"id":"p","command":["a","b"],"env":{"A":"1"},"workingDirectory":"d","stdin":"s"}`)
	if got.status != http.StatusCreated || b.req.Dir != "d" || b.req.Env["A"] != "1" || b.req.Stdin != "s" ||
		got.json(t)["status"] != "Running" {
		t.Errorf("start: %d %s, %+v", got.status, got.body, b.req)
	}
	for path, want := range map[string]string{"processes": `"pid":7`, "processes/p": `"Running"`,
		"processes/p?wait=5": `"exitCode":3`} {
		path += map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")] + "identifier=abcd"
		if got := w.do("GET", path, ""); got.status != http.StatusOK || !strings.Contains(got.body, want) {
			t.Errorf("%s: %d %s, want %s", path, got.status, got.body, want)
		}
	}
	got = w.do("GET", "processes/p/logs?after=1&identifier=abcd", "")
	want := `{"type":"lost","lost":2}` + "\n" + `{"sequence":4,"type":"stdout","text":"out"}` + "\n" +
		`{"sequence":5,"type":"stderr","text":"err"}` + "\n" + `{"sequence":5,"type":"status","process":{`
	if !strings.HasPrefix(got.body, want) {
		t.Errorf("logs: %s, want %s", got.body, want)
	}
	got = w.do("GET", "processes/p/logs?follow=true&identifier=abcd", "")
	if !strings.HasSuffix(got.body, `{"type":"error","error":{"code":"ServiceUnavailable","message":"broken","details":[]}}`+"\n") {
		t.Errorf("logs that break off: %s", got.body)
	}
	for _, path := range []string{"processes/x", "processes/x/logs"} {
		if got := w.do("GET", path+"?identifier=abcd", ""); got.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	w.do("POST", "processes/p/signal?signal=INT&identifier=abcd", "")
	w.do("DELETE", "processes/p?identifier=abcd", "")
	if all := strings.Join(b.done, ","); all != "p 2,end p" {
		t.Errorf("done: %s", all)
	}
	for _, bad := range []string{"POST processes {", "POST processes/p/signal?signal=NONE ",
		"GET processes/p?wait=61 ", "GET processes/p/logs?after=x "} {
		part := strings.SplitN(bad, " ", 3)
		path := part[1] + map[bool]string{true: "&", false: "?"}[strings.Contains(part[1], "?")] +
			"identifier=abcd"
		if got := w.do(part[0], path, part[2]); got.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", bad, got.status, got.body)
		}
	}
}

// TestFollowUntilStop: a server that stops does not wait for who follows a process.
func TestFollowUntilStop(t *testing.T) {
	b := &busy{quiet: true}
	w := newWorldOf(t, Options{}, func(l interpreter.Session) interpreter.Agent {
		b.fakeAgent = fakeAgent{w: l.(*lease).w, l: l.(*lease)}
		return b
	})
	w.do("POST", "processes?identifier=abcd", `{"id":"p","command":["a"]}`)
	w.gateway.EndFollowing()
	got := w.do("GET", "processes/p/logs?follow=true&identifier=abcd", "")
	if !strings.Contains(got.body, `"text":"err"`) ||
		!strings.Contains(got.body, "The server is stopping.") {
		t.Errorf("%d %s", got.status, got.body)
	}
}
