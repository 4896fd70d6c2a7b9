package escape_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/client"
)

// reuse: a session that has ended leaves nothing for the next one of its name.
func (k *target) reuse(t *testing.T) {
	s := k.session(t, "box")
	first := s.run(t, `
import os, subprocess, sys
os.environ['RESIDUE'] = 'residue'
residue = 'residue'
In.append('residue') if 'In' in globals() else None
sys.path.append('/residue')
for d in '/mnt/data', '/tmp', '/dev/shm', os.path.expanduser('~'), '/var/tmp', '/run':
    try: open(d + '/residue', 'w').write('residue')
    except OSError: pass
subprocess.Popen(['sleep', '98765'])
`)
	if first.Failed() {
		t.Fatal(first.Result.Stderr)
	}
	if err := k.DeleteSession(t.Context(), mine, s.id); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Session(t.Context(), mine, s.id); sandpool.ClassOf(err) != sandpool.NotFound {
		t.Errorf("the deleted session: %v", err)
	}
	got := s.run(t, `
import os, subprocess, sys
print('residue' in globals(), 'RESIDUE' in os.environ, '/residue' in sys.path)
print(subprocess.run('find / -xdev -name residue 2>/dev/null; find /tmp /dev/shm /run /mnt/data -name residue 2>/dev/null; grep -l 9876[5] /proc/[0-9]*/cmdline 2>/dev/null', shell=True, capture_output=True, text=True).stdout.strip())
`)
	if want := "False False False\n\n"; got.Failed() || got.Result.Stdout != want {
		t.Errorf("the next session of the name prints %q, want %q; %s", got.Result.Stdout, want,
			got.Result.Stderr)
	}
	if first.SessionID == got.SessionID {
		t.Errorf("both sessions ran in the sandbox %s", got.SessionID)
	}
}

// randomness: what was random when the snapshot was taken differs in every clone, and a restarted
// kernel does not begin again.
func (k *target) randomness(t *testing.T) {
	const draw = `
import os, random, secrets, uuid, tempfile, socket, json, numpy, time, ssl, threading
json_ = json.dumps({'random': random.random(), 'numpy': numpy.random.random(), 'generator': numpy.random.default_rng().random(), 'urandom': os.urandom(8).hex(),
  'getrandom': os.getrandom(8).hex(), 'secrets': secrets.token_hex(), 'uuid4': str(uuid.uuid4()), 'uuid1': str(uuid.uuid1()), 'temp': tempfile.mktemp(), 'host': socket.gethostname(),
  'system': random.SystemRandom().random(), 'ssl': ssl.RAND_bytes(8).hex(), 'boot': open('/proc/sys/kernel/random/uuid').read() if os.path.exists('/proc/sys/kernel/random/uuid') else uuid.uuid4().hex,
  'shell': os.popen('bash -c "echo \$RANDOM\$RANDOM"').read()})
print(json_)
`
	seen := map[string]string{}
	note := func(who, text string) {
		var values map[string]any
		if err := json.Unmarshal([]byte(text), &values); err != nil {
			t.Fatalf("%s: %q: %v", who, text, err)
		}
		for kind, v := range values {
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			key := kind + " " + string(b)
			if before, known := seen[key]; known &&
				!(kind == "host" && strings.HasPrefix(who, before)) {
				t.Errorf("%s and %s: the same %s %s", before, who, kind, b)
			}
			seen[key] = who
		}
	}
	for _, name := range []string{"one", "two", "three"} {
		s := k.session(t, name)
		note(name, s.prints(t, draw))
		if name == "one" {
			if dead := s.run(t, "import os; os._exit(1)"); !dead.Failed() {
				t.Error("a kernel that ended is a success")
			}
			note(name+" again", s.prints(t, draw))
		}
	}
}

// deleteDuring: deleting a session ends the code that runs in it with an answer that says so.
func (k *target) deleteDuring(t *testing.T) {
	s := k.session(t, "box")
	s.prints(t, "x = 1")
	type outcome struct {
		got client.Execution
		err error
	}
	ended := make(chan outcome, 1)
	go func() {
		got, err := k.Execute(t.Context(), mine, s.id,
			client.Run{Code: "open('/mnt/data/began', 'w').close()\nimport time; time.sleep(60)",
				Timeout: 30 * time.Second})
		ended <- outcome{got, err}
	}()
	for deadline := time.Now().Add(time.Minute); ; {
		if time.Now().After(deadline) {
			t.Fatal("the code did not begin")
		}
		if _, err := k.StatFile(t.Context(), mine, s.id, "began"); err == nil {
			break
		} else if sandpool.ClassOf(err) != sandpool.NotFound {
			t.Fatal(err)
		}
	}
	if err := k.DeleteSession(t.Context(), mine, s.id); err != nil {
		t.Fatal(err)
	}
	if o := <-ended; o.err != nil || !o.got.Failed() ||
		!strings.Contains(o.got.Result.Stderr, "Execution aborted") {
		t.Errorf("the code of a deleted session: %+v, %v", o.got.Execution, o.err)
	}
	if got := s.run(t, "'x' in globals()"); string(got.Result.ExecutionResult) == "true" ||
		strings.Contains(string(got.Result.ExecutionResult), "True") {
		t.Error("the next session knows the deleted one's variables")
	}
}
