package languages_test

import (
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// TestContexts: in the image of Shell, JavaScript has contexts of its own beside the shell's, and
// neither a fork bomb nor a context's end is the end of the sandbox.
func TestContexts(t *testing.T) {
	c := newMachine(t, "shell").restore(t)
	command(t, c, agent.ExecuteRequest{Code: "x=1; echo shared >f"})
	in := func(code string, req agent.ExecuteRequest) agent.ExecuteResult {
		t.Helper()
		req.Code, req.Timeout = code, time.Minute
		res, err := c.Execute(t.Context(), req)
		if err != nil {
			t.Fatalf("%q: %v", code, err)
		}
		return res
	}
	js := agent.ExecuteRequest{Context: "js", Kernel: "node"}
	if res := in("const y = 2; require('fs').readFileSync('f', 'utf8').trim()", js); res.Text != "'shared'" {
		t.Errorf("JavaScript: %+v", res)
	}
	js.Env, js.Dir, js.Stdin = map[string]string{"A": "it's"}, "/tmp", "one\ntwo"
	code := "[process.env.A, process.cwd(), require('fs').readFileSync(0, 'utf8'), y].join()"
	if res := in(code, js); res.Text != `"it's,/tmp,one\ntwo,2"` {
		t.Errorf("JavaScript and what surrounds a cell: %+v", res)
	}
	code = "let all = ''; for await (const part of process.stdin) all += part; all"
	if res := in(code, js); res.Text != `'one\ntwo'` {
		t.Errorf("JavaScript and its stdin: %+v", res)
	}
	code = "[process.env.A, process.cwd(), require('fs').readFileSync(0, 'utf8')].join()"
	if res := in(code, agent.ExecuteRequest{Context: "js"}); res.Text != `',/mnt/data,'` {
		t.Errorf("JavaScript afterwards: %+v", res)
	}
	sh := agent.ExecuteRequest{Env: map[string]string{"A": "it's"}, Dir: "/tmp", Stdin: "in"}
	if res := in(`echo "$A $PWD $x $(cat)"; x=3; exit 4`, sh); res.Stdout != "it's /tmp 1 in\n" || *res.ExitStatus != 4 {
		t.Errorf("the shell and what surrounds a command: %+v", res)
	}
	if res := in(`echo "${A-unset} $PWD $x"`, agent.ExecuteRequest{}); res.Stdout != "unset /mnt/data 3\n" {
		t.Errorf("the shell afterwards: %+v", res)
	}
	if err := c.DeleteContext(t.Context(), "js"); err != nil {
		t.Error(err)
	}
	if res := in("echo $x", agent.ExecuteRequest{}); res.Stdout != "3\n" || res.KernelRestarted {
		t.Errorf("after a context's end: %+v", res)
	}
	for _, bomb := range []string{":(){ :|:& };:", "f() { f & f; }; f",
		"while :; do sleep 1000 & done"} {
		res, err := c.Execute(t.Context(), agent.ExecuteRequest{Code: bomb + "; wait",
			Timeout: 3 * time.Second})
		if err != nil {
			t.Fatalf("%s ends its sandbox: %v", bomb, err)
		}
		t.Logf("%s: %s", bomb, res.Outcome)
		if res := in("pkill -9 -x sleep; echo alive", agent.ExecuteRequest{}); res.Stdout != "alive\n" {
			t.Errorf("after %s: %+v", bomb, res)
		}
	}
}
