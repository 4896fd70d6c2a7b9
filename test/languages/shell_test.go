package languages_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// command runs a command in a minute and returns its result, whose status is there.
func command(t testing.TB, c *agent.Client, req agent.ExecuteRequest) agent.ExecuteResult {
	t.Helper()
	if req.Timeout == 0 {
		req.Timeout = time.Minute
	}
	res, err := c.Execute(t.Context(), req)
	if err != nil {
		t.Fatalf("run %q: %v", req.Code, err)
	}
	if res.ExitStatus == nil {
		t.Fatalf("%q has no exit status: %+v", req.Code, res)
	}
	return res
}

// TestShell: in a real sandbox commands run in one shell, whatever they do to it; clones differ.
func TestShell(t *testing.T) {
	m := newMachine(t, "shell")
	a, b := m.restore(t), m.restore(t)
	for _, code := range []string{"echo $RANDOM$RANDOM", "echo $SRANDOM", "mktemp -u", "uuidgen"} {
		x, y := command(t, a, agent.ExecuteRequest{Code: code}), command(t, b,
			agent.ExecuteRequest{Code: code})
		if x.Stdout == y.Stdout || x.Stdout == "" {
			t.Errorf("%s: clones have %q and %q", code, x.Stdout, y.Stdout)
		}
	}
	large := strings.Repeat("y", 3<<20)
	for _, c := range []struct {
		req    agent.ExecuteRequest
		status int
		stdout string
	}{
		{agent.ExecuteRequest{Code: "x=5; declare -A m=([a]='1 2'); f() { echo \"f $x\"; }; cd " +
			"/tmp; pwd; id -un"}, 0, "/tmp\nsandbox\n"},
		{agent.ExecuteRequest{Code: "f; pwd; echo ${m[a]}; false"}, 1, "f 5\n/tmp\n1 2\n"},
		// What ends the shell ends the command, and nothing that it knows.
		{agent.ExecuteRequest{Code: "y=6; g() { exit 3; }; g; echo no"}, 3, ""},
		{agent.ExecuteRequest{Code: "f; echo $y ${m[a]}; pwd"}, 0, "f 5\n6 1 2\n/tmp\n"},
		{agent.ExecuteRequest{Code: "set -euo pipefail; false | true; echo no"}, 1, ""},
		{agent.ExecuteRequest{Code: "false; echo $unset on $x"}, 0, "on 5\n"},
		{agent.ExecuteRequest{Code: "echo ${unset:?}"}, 127, ""},
		{agent.ExecuteRequest{Code: "trap 'echo bye $x' EXIT; echo hi"}, 0, "hi\nbye 5\n"},
		{agent.ExecuteRequest{Code: "trap 'echo bye' EXIT; z=7; exit 4"}, 4, "bye\n"},
		{agent.ExecuteRequest{Code: "echo $z; exit"}, 0, "7\n"},
		// Options, traps and what they do to interrupts end with their command.
		{agent.ExecuteRequest{Code: "set -abCEfT -o errtrace; set +B; echo $-"}, 0, "abfhCETc\n"},
		{agent.ExecuteRequest{Code: "echo $-; echo {a,b}"}, 0, "hBc\na b\n"},
		{agent.ExecuteRequest{Code: "trap 'echo x' USR1 TERM INT ERR DEBUG; trap - DEBUG"}, 0,
			"x\n"},
		{agent.ExecuteRequest{Code: "trap -p USR1 TERM ERR DEBUG; trap -p INT | grep -c 'echo x'"},
			1, "0\n"},
		{agent.ExecuteRequest{Code: "for i in 1 2; do continue 9; done; echo no"}, 0, ""},
		{agent.ExecuteRequest{Code: "while :; do break 9; done"}, 0, ""},
		{agent.ExecuteRequest{Code: "if then"}, 2, ""},
		{agent.ExecuteRequest{Code: "exec >/tmp/log 2>&1; echo lost"}, 0, ""},
		{agent.ExecuteRequest{Code: "cat /tmp/log"}, 0, "lost\n"},
		{agent.ExecuteRequest{Code: "builtin() { :; }; read() { :; }; printf() { :; }; eval() { " +
			":; }; unset() { :; }"}, 0, ""},
		{agent.ExecuteRequest{Code: "unset() { :; }; trap() { :; }; set() { :; }; exit 5"}, 5, ""},
		{agent.ExecuteRequest{Code: "builtin unset -f read printf eval unset trap set; echo $x"}, 0,
			"5\n"},
		{agent.ExecuteRequest{Code: "sleep 1000 & child=$!; jobs -r | wc -l"}, 0, "1\n"},
		{agent.ExecuteRequest{Code: "kill $child; wait $child; echo $?"}, 0, "143\n"},
		{agent.ExecuteRequest{Code: `printf 'a\0b'; sh -c 'kill -9 $$'`}, 137, "a\x00b"},
		{agent.ExecuteRequest{Code: `echo "a\nb"`}, 0, "a\\nb\n"},
		{agent.ExecuteRequest{Code: `echo "a\nb"; s=8`, Posix: true}, 0, "a\nb\n"},
		{agent.ExecuteRequest{Code: "echo $s; read -r v || echo end"}, 0, "8\nend\n"},
		{agent.ExecuteRequest{Code: "od -An -c; read v <<<w; echo $v", Stdin: "i\x00n"}, 0,
			"   i  \\0   n\nw\n"},
		{agent.ExecuteRequest{Args: []string{"printf", "%s|", "it's", "", "a b", "$x", "\n"}}, 0,
			"it's||a b|$x|\n|"},
		{agent.ExecuteRequest{Args: []string{"f"}}, 127, ""},
		{agent.ExecuteRequest{Args: []string{"/etc"}}, 126, ""},
		{agent.ExecuteRequest{Code: "big='" + large + "'; echo ${#big} ä漢"}, 0, "3145728 ä漢\n"},
		{agent.ExecuteRequest{Code: "ls /proc/self/fd | wc -l; export LC_ALL=C"}, 0, "4\n"},
		{agent.ExecuteRequest{Code: "echo ä漢 | wc -c"}, 0, "6\n"},
	} {
		res := command(t, a, c.req)
		if *res.ExitStatus != c.status || res.Stdout != c.stdout || res.KernelRestarted {
			t.Errorf("%.60q %q: status %d, %q, %q, %+v; want %d, %q", c.req.Code, c.req.Args,
				*res.ExitStatus,
				res.Stdout[:min(200, len(res.Stdout))], res.Stderr, res.Error, c.status, c.stdout)
		}
	}
	endings(t, a)
}

// endings checks commands that end otherwise than by themselves.
func endings(t *testing.T, c *agent.Client) {
	t.Helper()
	const short = 300 * time.Millisecond
	for _, e := range []struct {
		code    string
		timeout time.Duration
		outcome agent.Outcome
		lost    bool
	}{
		{"trap 'echo x' INT; echo", time.Minute, agent.OK, false},
		{"kept=1; sleep 1000; echo no", short, agent.TimeoutInterrupted, false},
		{"[[ $kept = 1 ]]", time.Minute, agent.OK, false},
		{"while :; do :; done", short, agent.TimeoutInterrupted, false},
		{"trap '' INT; while :; do :; done", short, agent.TimeoutRestarted, true},
		{"exec echo other", time.Minute, agent.OK, true},
		{"exec 10>&-", time.Minute, agent.KernelDied, true},
		{"exec 10>/tmp/x; echo y >&10", time.Minute, agent.KernelDied, true},
		{"exec sh -c 'exit 3'", time.Minute, agent.Failed, true},
		{"kill -9 $$", time.Minute, agent.KernelDied, true},
		{"pkill -9 -u 1000", time.Minute, agent.KernelDied, true},
		{"[[ -z $kept ]] && echo still here", time.Minute, agent.OK, false},
	} {
		res := command(t, c, agent.ExecuteRequest{Code: e.code, Timeout: e.timeout})
		if res.Outcome != e.outcome || res.KernelRestarted != e.lost ||
			strings.Contains(res.Stdout+res.Stderr, `"op"`) {
			t.Errorf("%s: %s, lost %t, status %d, %q, %+v; want %s, lost %t", e.code, res.Outcome,
				res.KernelRestarted,
				*res.ExitStatus, res.Stderr, res.Error, e.outcome, e.lost)
		}
	}
}
