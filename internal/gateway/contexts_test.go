package gateway

import (
	"context"
	"net/http"
	"testing"

	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/interpreter"
)

// several is a fake agent with contexts. Its executions say where they ran.
type several struct {
	fakeAgent
	made []agent.Context
	done []string
}

var _ interpreter.Contexts = (*several)(nil)

func (s *several) Kernels(context.Context) ([]agent.Kernel, error) {
	return []agent.Kernel{{Name: "python", DisplayName: "python", Language: "python"},
		{Name: "ir", DisplayName: "R", Language: "R", Jupyter: true}}, nil
}

func (s *several) Contexts(context.Context) ([]agent.Context, error) {
	return append([]agent.Context{{Name: agent.DefaultContext, Kernel: "python"}}, s.made...), nil
}

func (s *several) MakeContext(_ context.Context, name, kernel string) (agent.Context, error) {
	s.made = append(s.made, agent.Context{Name: name, Kernel: kernel, Waiting: 2})
	return s.made[len(s.made)-1], nil
}

func (s *several) note(what, name string) error {
	s.done = append(s.done, what+" "+name)
	return nil
}

func (s *several) DeleteContext(_ context.Context, name string) error { return s.note("end", name) }
func (s *several) RestartContext(_ context.Context, name string) error {
	return s.note("restart", name)
}
func (s *several) InterruptContext(_ context.Context, name string) error {
	return s.note("interrupt", name)
}

func (s *several) Execute(_ context.Context, r agent.ExecuteRequest) (agent.ExecuteResult, error) {
	res := agent.ExecuteResult{Outcome: agent.OK, Stdout: r.Context + "|" + r.Kernel + "|" + r.Dir + "|" +
		r.Env["A"] + "|" + r.Stdin + "|" + r.Code}
	if r.Command {
		status := 0
		res.ExitStatus = &status
	}
	return res, nil
}

// TestContexts: contexts are made, listed, changed and ended, and executions say in which they run.
func TestContexts(t *testing.T) {
	s := &several{}
	w := newWorldOf(t, Options{}, func(l interpreter.Session) interpreter.Agent {
		s.fakeAgent = fakeAgent{w: l.(*lease).w, l: l.(*lease)}
		return s
	})
	if got := w.do("GET", "contexts?identifier=abcd", ""); got.status == http.StatusOK {
		t.Errorf("contexts of no session: %d %s", got.status, got.body)
	}
	if got := w.do("GET", "kernels?identifier=abcd", ""); got.body !=
		`{"value":[{"name":"python","displayName":"python","language":"python","jupyter":false},`+
			`{"name":"ir","displayName":"R","language":"R","jupyter":true}]}` {
		t.Errorf("kernels: %d %s", got.status, got.body)
	}
	for path, body := range map[string]string{"contexts/b": `{"kernel":"shell"}`, "contexts/c": ""} {
		if got := w.do("PUT", path+"?identifier=abcd", body); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	if len(s.made) != 2 || s.made[0].Kernel+s.made[1].Kernel != "shellpython" && s.made[0].Kernel+s.made[1].Kernel != "pythonshell" {
		t.Errorf("made: %+v", s.made)
	}
	if got := w.do("GET", "contexts?identifier=abcd", ""); len(got.json(t)["value"].([]any)) != 3 {
		t.Errorf("list: %s", got.body)
	}
	if got := w.do("GET", "contexts/b?identifier=abcd", "").json(t); got["kernel"] != "shell" || got["running"] != false {
		t.Errorf("one: %v", got)
	}
	if got := w.do("GET", "contexts/x?identifier=abcd", ""); got.status != http.StatusNotFound {
		t.Errorf("none: %d %s", got.status, got.body)
	}
	w.do("POST", "contexts/b/interrupt?identifier=abcd", "")
	w.do("POST", "contexts/b/restart?identifier=abcd", "")
	if got := w.do("DELETE", "contexts/b?identifier=abcd", ""); got.status != http.StatusNoContent || len(s.done) != 3 {
		t.Errorf("delete: %d %s; %q", got.status, got.body, s.done)
	}
	got := w.do("POST", "executions?identifier=abcd",
		`{"code":"x","context":"b","kernel":"k","workingDirectory":"d","env":{"A":"1"},"stdin":"s"}`).json(t)
	if result := got["result"].(map[string]any); result["stdout"] != "b|k|d|1|s|x" {
		t.Errorf("where it ran: %v", got)
	}
	got = w.do("POST", "executions?identifier=abcd", `{"shellCommand":"ls","kernel":"shell"}`).json(t)
	if got["status"] != "0" {
		t.Errorf("a command in a pool of code: %v", got)
	}
	for _, body := range []string{`{"code":"","context":"a/b"}`, `{"code":"","kernel":"a b"}`, `{"code":"","env":{"a-b":""}}`,
		`{"code":"","env":{"a":1}}`, `{"code":"","env":[]}`, `{"code":"","env":{"SANDPOOL_A":""}}`, `{"shellCommand":"ls"}`} {
		if got := w.do("POST", "executions?identifier=abcd", body); got.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", body, got.status, got.body)
		}
	}
}
