package agent_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// likeFresh checks that a restored sandbox is what programs expect of a machine, and its kernel as
// an interpreter that was just started.
func likeFresh(t *testing.T, c *agent.Client) {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("guest", "testdata", "fresh.py"))
	if err != nil {
		t.Fatal(err)
	}
	code := string(source) + "\nsource = " + strconv.Quote(string(source)) + "\ndifferences(source)"
	if res := run(t, c, time.Minute, code); res.Error != nil || res.Stdout != "" {
		t.Errorf("differs from a new interpreter:\n%s\nerror %+v", res.Stdout, res.Error)
	}
	for code, want := range map[string]string{
		"import socket; socket.gethostbyname(socket.gethostname())":                                                                     "'127.0.1.1'",
		"import multiprocessing, math\nwith multiprocessing.get_context('spawn').Pool(2) as p: r = p.map(math.sqrt, [1, 4, 9])\nr":      "[1.0, 2.0, 3.0]",
		"import multiprocessing, math\nwith multiprocessing.get_context('forkserver').Pool(2) as p: r = p.map(math.sqrt, [1, 4, 9])\nr": "[1.0, 2.0, 3.0]",
		"import asyncio\nasync def f(): return 5\nloop = asyncio.get_event_loop(); loop.run_until_complete(f())":                        "5",
		"str(__doc__)": "'None'",
		"import subprocess; subprocess.run(['pip', 'install', 'no-such-thing'], capture_output=True).returncode": "1",
	} {
		if res := run(t, c, time.Minute, code); res.Text != want {
			t.Errorf("%s: %s, want %s; error %+v", code, res.Text, want, res.Error)
		}
	}
	for _, code := range []string{"%pip install no-such-thing", "!pip install no-such-thing",
		"!pip download no-such-thing", "%pip wheel no-such-thing", "!pip index versions pandas",
		"%%bash\npip install no-such-thing", "import subprocess, sys\n" +
			"subprocess.check_call([sys.executable, '-m', 'pip', 'install', 'no-such-thing'])"} {
		if res := run(t, c, time.Minute, code); !strings.Contains(res.Stderr,
			"This session has no network") {
			t.Errorf("%s: %q, %q", code, res.Stdout, res.Stderr)
		}
	}
	code = "pipeline, index = 1, 2\nraise SystemExit(1)"
	if res := run(t, c, time.Minute, code); strings.Contains(res.Stderr, "no network") {
		t.Errorf("a cell without pip: %q", res.Stderr)
	}
	if res := run(t, c, time.Minute, "!pip install pandas"); !strings.Contains(res.Stdout,
		"already satisfied") || strings.Contains(res.Stderr, "no network") {
		t.Errorf("what is there: %q, %q", res.Stdout, res.Stderr)
	}
}
