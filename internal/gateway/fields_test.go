package gateway

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/interpreter"
)

// last is a fake agent that keeps what it was asked to run.
type last struct {
	fakeAgent
	asked agent.ExecuteRequest
}

func (l *last) Execute(_ context.Context, r agent.ExecuteRequest) (agent.ExecuteResult, error) {
	l.asked = r
	status := 0
	return agent.ExecuteResult{Outcome: agent.OK, ExitStatus: &status}, nil
}

// TestFields: every field of an execution is taken, flat and in the envelope of early versions.
func TestFields(t *testing.T) {
	a := &last{}
	w := newWorldOf(t, Options{}, func(l interpreter.Session) interpreter.Agent {
		a.fakeAgent = fakeAgent{w: l.(*lease).w, l: l.(*lease)}
		return a
	})
	const common = `"identifier":"abcd","codeInputType":"inline","executionType":"synchronous",` +
		`"timeoutInSeconds":9,"outputStreamsMaxLength":99,"context":"b","kernel":"k",` +
		`"workingDirectory":"d","env":{"A":"1"},"stdin":"s","traceparent":false,`
	whole := agent.ExecuteRequest{MaxOutput: 99, Context: "b", Kernel: "k", Dir: "d",
		Env: map[string]string{"A": "1"}, Stdin: "s"}
	for fields, with := range map[string]func(*agent.ExecuteRequest){
		`"code":"1"`:       func(r *agent.ExecuteRequest) { r.Code = "1" },
		`"pythonCode":"2"`: func(r *agent.ExecuteRequest) { r.Code = "2" },
		`"shellCommand":"ls","shellType":"sh"`: func(r *agent.ExecuteRequest) {
			r.Code, r.Posix, r.Command = "ls", true, true
		},
		`"execCommandAndArgs":["ls","-l"]`: func(r *agent.ExecuteRequest) {
			r.Args, r.Command = []string{"ls", "-l"}, true
		},
	} {
		want := whole
		with(&want)
		for _, form := range []string{`{%s}`, `{"properties":{%s}}`} {
			body := fmt.Sprintf(form, common+fields)
			got := w.do("POST", "executions", body)
			if diff := cmp.Diff(want, a.asked, cmpopts.IgnoreFields(agent.ExecuteRequest{}, "Room",
				"Timeout")); got.status != 200 || a.asked.Timeout.Seconds() < 8 || diff != "" {
				t.Errorf("%s: %d %.300s, %s; -want +got\n%s", body, got.status, got.body,
					a.asked.Timeout, diff)
			}
		}
	}
	b := &busy{}
	w = newWorldOf(t, Options{}, func(l interpreter.Session) interpreter.Agent {
		b.fakeAgent = fakeAgent{w: l.(*lease).w, l: l.(*lease)}
		return b
	})
	if got := w.do("POST", "processes?identifier=abcd", `{"shellCommand":"sleep 1"}`); got.status != 201 ||
		b.req.Shell != "sleep 1" {
		t.Errorf("a process of a command: %d %s, %+v", got.status, got.body, b.req)
	}
}
