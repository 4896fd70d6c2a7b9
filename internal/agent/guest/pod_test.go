package guest_test

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// An agent that was told its secret takes no other one from whoever calls first, and its secret is
// nowhere where code could find it. As the user that code runs as, it does what it does as root.
func TestInPod(t *testing.T) {
	alone(t)
	secret := rand.Text()
	t.Setenv(agent.SecretVar, secret)
	t.Setenv(agentUser, "1")
	s := boot(t)
	thief := agent.NewClient(s.dial, rand.Text())
	defer thief.Close()
	_, err := thief.Init(t.Context(), agent.InitRequest{Secret: rand.Text(),
		Seed: make([]byte, 32)})
	if sandpool.ClassOf(err) != sandpool.Unauthenticated {
		t.Errorf("the init of a stranger: %v", err)
	}
	s.Client = agent.NewClient(s.dial, secret)
	defer s.Close()
	if _, err := s.Init(t.Context(), agent.InitRequest{Secret: secret,
		Seed: make([]byte, 32)}); err != nil {
		t.Fatal(err)
	}
	for code, want := range map[string]string{
		"import os; os.getuid(), os.getgroups()":     "(1000, [])",
		"[k for k in os.environ if 'SANDPOOL' in k]": "[]",
		"def opens(k):\n  try: return bool(open('/proc/1/' + k).read(1))\n" +
			"  except OSError: return False\n" +
			"[k for k in ('environ', 'mem', 'maps') if opens(k)]": "[]",
	} {
		if res := s.run(t, "import os\n"+code); res.Text != want {
			t.Errorf("%s finds %s, want %s: %+v", code, res.Text, want, res.Error)
		}
	}
	if _, err := s.Upload(t.Context(), "sub/a.txt", strings.NewReader("up"), 10); err != nil {
		t.Error(err)
	}
	if res := s.run(t, "open('sub/a.txt').read()"); res.Text != "'up'" {
		t.Errorf("what was uploaded is %s %+v", res.Text, res.Error)
	}
	if res := s.run(t, "import os; os._exit(3)"); res.Outcome != agent.KernelDied {
		t.Errorf("a kernel that ends: %s", res.Outcome)
	}
	if res := s.run(t, "1 + 1"); res.Text != "2" {
		t.Errorf("the next kernel says %s %+v", res.Text, res.Error)
	}
	term, err := s.Terminal(t.Context(), agent.TerminalSize{Columns: 80, Rows: 24})
	if err != nil {
		t.Fatal(err)
	}
	if err := term.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.StartProcess(t.Context(), agent.ProcessRequest{ID: "p",
		Shell: "sleep 100"}); err != nil {
		t.Error(err)
	}
}
