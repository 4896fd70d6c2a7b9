package guest_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// in runs code in a context.
func (s *sandbox) in(t testing.TB, req agent.ExecuteRequest) agent.ExecuteResult {
	t.Helper()
	if req.Timeout == 0 {
		req.Timeout = time.Minute
	}
	res, err := s.Execute(t.Context(), req)
	if err != nil {
		t.Fatalf("execute %q in %q: %v", req.Code, req.Context, err)
	}
	return res
}

// TestContexts: kernels of several languages in one sandbox share its files and nothing else, and
// one that dies takes no other with it.
func TestContexts(t *testing.T) {
	s := start(t)
	for name, kernel := range map[string]string{"a": "python", "sh": "shell"} {
		if c, err := s.MakeContext(t.Context(), name, kernel); err != nil || c.Kernel != kernel {
			t.Fatalf("%+v, %v", c, err)
		}
	}
	s.run(t, "x = 1; open('f', 'w').write('shared')")
	if res := s.in(t, agent.ExecuteRequest{Context: "a", Code: "x = 2; open('f').read()"}); res.Text != "'shared'" {
		t.Errorf("a file from another context: %+v", res)
	}
	if res := s.in(t, agent.ExecuteRequest{Context: "sh", Code: "y=3; cat f; exit 4"}); res.Stdout != "shared" || *res.ExitStatus != 4 {
		t.Errorf("the shell: %+v", res)
	}
	if res := s.in(t, agent.ExecuteRequest{Context: agent.DefaultContext, Code: "x"}); res.Text != "1" {
		t.Errorf("the default context: %+v", res)
	}
	t.Run("at the same time", func(t *testing.T) { meeting(t, s) })
	t.Run("surroundings", func(t *testing.T) { surroundings(t, s) })
	// A kernel that dies, its children with it.
	res := s.in(t, agent.ExecuteRequest{Context: "a",
		Code: "import os, subprocess; subprocess.Popen(['sleep', '1000']); " +
			"os.kill(os.getpid(), 9)"})
	if res.Outcome != agent.KernelDied {
		t.Errorf("killed: %+v", res)
	}
	if res := s.in(t, agent.ExecuteRequest{Context: "a", Code: "'x' in globals()"}); res.Text != "False" {
		t.Errorf("after its death: %+v", res)
	}
	if res := s.in(t, agent.ExecuteRequest{Context: "sh", Code: "echo $y; pgrep -x sleep"}); res.Stdout != "3\n" || res.KernelRestarted {
		t.Errorf("another one after that: %+v", res)
	}
	if res := s.run(t, "x"); res.Text != "1" || res.KernelRestarted {
		t.Errorf("the default one after that: %+v", res)
	}
	t.Run("life", func(t *testing.T) { lifeOfContexts(t, s) })
}

// meeting has code of two contexts wait for each other.
func meeting(t *testing.T, s *sandbox) {
	var both sync.WaitGroup
	for context, code := range map[string]string{
		"":   "import os, time\nos.mkfifo('one'); os.mkfifo('two')\nopen('one', 'w').write('hi'); open('two').read()",
		"sh": "until [[ -p two ]]; do sleep 0.01; done; cat one; echo ho >two",
	} {
		both.Go(func() {
			res := s.in(t, agent.ExecuteRequest{Context: context, Code: code})
			if res.Text+res.Stdout != map[string]string{"": `'ho\n'`, "sh": "hi"}[context] {
				t.Errorf("%q: %+v", context, res)
			}
		})
	}
	both.Wait()
}

// surroundings checks what an execution brings for itself alone.
func surroundings(t *testing.T, s *sandbox) {
	s.run(t, "import os, subprocess, sys; os.environ['KEPT'] = 'old'; os.mkdir('dir')")
	s.in(t, agent.ExecuteRequest{Context: "sh", Code: "KEPT=old; declare -i N=5"})
	env := map[string]string{"KEPT": "new", "MORE": "it's $x\n", "N": "7"}
	show := "print(sys.stdin.readline() + input('? ') + " +
		"subprocess.check_output('cat; pwd; env', shell=True, text=True), os.getcwd())"
	res := s.in(t, agent.ExecuteRequest{Code: show, Env: env, Dir: "dir", Stdin: "one\ntwo\n"})
	if !strings.HasPrefix(res.Stdout, "? one\ntwo") || !strings.Contains(res.Stdout, s.data+"/dir\n") ||
		!strings.Contains(res.Stdout, "KEPT=new\n") || !strings.Contains(res.Stdout, "MORE=it's $x\n\n") {
		t.Errorf("Python: %q, %+v", res.Stdout, res.Error)
	}
	res = s.run(t, "print(os.environ['KEPT'], os.environ.get('MORE'), os.getcwd() == "+fmt.Sprintf("%q", s.data)+
		", sys.stdin.read() == '', subprocess.check_output('cat') == b'')")
	if res.Stdout != "old None True True True\n" {
		t.Errorf("Python afterwards: %q, %+v", res.Stdout, res.Error)
	}
	res = s.in(t, agent.ExecuteRequest{Context: "sh", Code: `read a; cat; echo "$a|$KEPT|$MORE|$N"; pwd; env | grep ^KEPT; false`,
		Env: env, Dir: s.data + "/dir", Stdin: "one\ntwo\n"})
	if want := "two\none|new|it's $x\n|7\n" + s.data + "/dir\nKEPT=new\n"; res.Stdout != want || *res.ExitStatus != 1 {
		t.Errorf("the shell: %q, want %q, %+v", res.Stdout, want, res)
	}
	res = s.in(t, agent.ExecuteRequest{Context: "sh", Code: `echo "$KEPT|${MORE-unset}|$N"; N=2+3; echo $N; pwd; env | grep -c ^KEPT; cat`})
	if want := "old|unset|5\n5\n" + s.data + "\n0\n"; res.Stdout != want {
		t.Errorf("the shell afterwards: %q, want %q", res.Stdout, want)
	}
	for _, bad := range []agent.ExecuteRequest{
		{Code: "1", Dir: "none"}, {Code: "1", Dir: "f"}, {Code: "1", Env: map[string]string{"a b": ""}},
		{Code: "1", Env: map[string]string{"SANDPOOL_X": ""}}, {Code: "1", Args: []string{"ls"}}, {Code: "ls", Command: true},
	} {
		if _, err := s.Execute(t.Context(), bad); sandpool.ClassOf(err) != sandpool.Invalid {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// deleteBusy deletes a context twice at once, in which a cell runs and others wait: none of them
// holds that up or begins.
func deleteBusy(t *testing.T, s *sandbox) {
	var all sync.WaitGroup
	var begun, refused atomic.Int32
	for range 4 {
		all.Go(func() {
			res, err := s.Execute(t.Context(), agent.ExecuteRequest{Context: "busy", Kernel: "shell",
				Code: "sleep 1000", Timeout: time.Minute})
			if err == nil && res.Outcome == agent.KernelDied {
				begun.Add(1)
			} else if sandpool.ClassOf(err) == sandpool.NotFound {
				refused.Add(1)
			}
		})
	}
	for waiting := false; !waiting; {
		list, err := s.Contexts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		waiting = slices.ContainsFunc(list, func(c agent.Context) bool {
			return c.Name == "busy" && c.Running && c.Waiting == 3
		})
	}
	for range 2 {
		all.Go(func() {
			if err := s.DeleteContext(t.Context(), "busy"); err != nil &&
				sandpool.ClassOf(err) != sandpool.NotFound {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if begun.Load() != 1 || refused.Load() != 3 {
		t.Errorf("%d ended and %d were refused, want 1 and 3", begun.Load(), refused.Load())
	}
}

// lifeOfContexts checks what is made, ended and begun again.
func lifeOfContexts(t *testing.T, s *sandbox) {
	for _, bad := range []struct {
		name, kernel string
		class        sandpool.Class
	}{{"sh", "python", sandpool.Conflict}, {"default", "shell", sandpool.Conflict},
		{"a/b", "python", sandpool.Invalid}, {"c", "cobol", sandpool.NotFound}} {
		if _, err := s.MakeContext(t.Context(), bad.name,
			bad.kernel); sandpool.ClassOf(err) != bad.class {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := s.Execute(t.Context(), agent.ExecuteRequest{Code: "1", Context: "none"}); sandpool.ClassOf(err) != sandpool.NotFound {
		t.Errorf("a context that is not there: %v", err)
	}
	if err := s.RestartContext(t.Context(), "sh"); err != nil {
		t.Fatal(err)
	}
	if res := s.in(t, agent.ExecuteRequest{Context: "sh", Code: "echo ${y-gone}"}); res.Stdout != "gone\n" {
		t.Errorf("after a restart: %+v", res)
	}
	// One that runs is restarted, interrupted, deleted.
	for _, step := range []struct {
		do      func() error
		outcome agent.Outcome
	}{
		{func() error { return s.RestartContext(t.Context(), "sh") }, agent.KernelDied},
		{func() error { return s.InterruptContext(t.Context(), "sh") }, agent.Interrupted},
		{func() error { return s.DeleteContext(t.Context(), "sh") }, agent.KernelDied},
	} {
		ended := make(chan agent.ExecuteResult, 1)
		go func() { ended <- s.in(t, agent.ExecuteRequest{Context: "sh", Code: "echo >on; sleep 1000"}) }()
		s.run(t,
			"import os, time\nwhile not os.path.exists('on'): time.sleep(0.01)\nos.remove('on')")
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if res := <-ended; res.Outcome != step.outcome {
			t.Errorf("%s: %+v", step.outcome, res)
		}
	}
	t.Run("deleted under those that wait", func(t *testing.T) { deleteBusy(t, s) })
	for i := range agent.MaxContexts {
		_, err := s.Execute(t.Context(), agent.ExecuteRequest{Code: "true", Context: fmt.Sprint("c", i), Kernel: "shell"})
		// the default one and "a" are there
		if full := i >= agent.MaxContexts-2; (err != nil) != full {
			t.Errorf("context %d: %v", i, err)
		}
	}
	all, err := s.Contexts(t.Context())
	if err != nil || len(all) != agent.MaxContexts || all[0].Name != agent.DefaultContext || all[1].Name != "a" {
		t.Errorf("contexts: %+v, %v", all, err)
	}
	if err := s.DeleteContext(t.Context(),
		agent.DefaultContext); sandpool.ClassOf(err) != sandpool.Conflict {
		t.Errorf("the default one is deleted: %v", err)
	}
}
