package languages_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// groups reads a file of the suite: parts of one program, with a line "---" between parts and a
// line "===" and what the group is about before each group.
func groups(t *testing.T, file string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for group := range strings.SplitSeq(strings.TrimPrefix(string(text), "=== "), "\n=== ") {
		name, body, _ := strings.Cut(group, "\n")
		found[name] = strings.Split(strings.TrimSuffix(body, "\n"), "\n---\n")
	}
	return found
}

// TestSuite: what a session prints, part by part, is what a plain process in the same image prints
// that is given the whole.
func TestSuite(t *testing.T) {
	for language, native := range map[string]func(*testing.T, *agent.Client, string) (string, int){
		"shell": nativeShell, "node": nativeNode, "python": nativePython,
	} {
		t.Run(language, func(t *testing.T) {
			m := newMachine(t, language)
			parts := 0
			for name, group := range groups(t, "testdata/"+language+".txt") {
				parts += len(group)
				want, status := native(t, m.restore(t), strings.Join(group, "\n"))
				got, ended := inSession(t, m.restore(t), group)
				if got != want || ended != status {
					at := 0 // where they part
					for at < min(len(got), len(want)) && got[at] == want[at] {
						at++
					}
					from := max(0, at-100)
					t.Errorf("%s: a session says …%.400q and ends with %d; "+
						"a process says …%.400q, %d", name, got[from:], ended, want[from:], status)
				}
				if want == "" {
					t.Errorf("%s prints nothing", name)
				}
			}
			t.Logf("%d parts", parts)
			if least := map[string]int{"python": 200}[language]; parts < max(least, 60) {
				t.Errorf("the suite has %d parts, fewer than %d", parts, max(least, 60))
			}
		})
	}
}

// inSession runs parts one after another and returns what they print, and how the last one ends.
func inSession(t *testing.T, c *agent.Client, parts []string) (string, int) {
	t.Helper()
	var out strings.Builder
	status := 0
	for _, part := range parts {
		res := run(t, c, 2*time.Minute, part)
		out.WriteString(res.Stdout)
		status = 0
		switch {
		case res.ExitStatus != nil:
			status = *res.ExitStatus
		case res.Error != nil:
			out.WriteString("Uncaught " + res.Error.Name + ": " + res.Error.Message + "\n")
			status = 1
		}
	}
	return out.String(), status
}

// nativeShell runs a script by bash.
func nativeShell(t *testing.T, c *agent.Client, script string) (string, int) {
	t.Helper()
	put(t, c, "native.sh", script)
	res, err := c.Execute(t.Context(), agent.ExecuteRequest{
		Args: []string{"bash", "/tmp/native.sh"}, Timeout: time.Minute})
	if err != nil || res.ExitStatus == nil {
		t.Fatalf("bash: %+v, %v", res, err)
	}
	return res.Stdout, *res.ExitStatus
}

// nativeNode runs a script by node, as a module that has require and tells what it did not catch.
func nativeNode(t *testing.T, c *agent.Client, script string) (string, int) {
	t.Helper()
	put(t, c, "native.mts", "import { createRequire as __r } from 'node:module'; const require = "+
		"__r('/mnt/data/x.js');\n"+
		"process.on('uncaughtException', (e) => { console.log('Uncaught ' + e.name + ': ' + "+
		"e.message); process.exit(1) });\n"+script+
		"\nprocess.exit(process.exitCode);\n") // some packages keep a timer
	res := run(t, c, time.Minute, `JSON.stringify((({status, stdout}) => [stdout, status])(require("node:child_process").spawnSync("node",
		["--experimental-transform-types", "--no-warnings", "/tmp/native.mts"], {encoding: "utf8", maxBuffer: 1 << 26, stdio: ["ignore", "pipe", "inherit"]})))`)
	text := strings.NewReplacer(`\\`, `\`, `\'`, `'`).Replace(strings.Trim(res.Text, "'`"))
	var both []any
	if err := json.Unmarshal([]byte(text), &both); err != nil || len(both) != 2 {
		t.Fatalf("node: %+v, %q, %v", res.Error, res.Stderr, err)
	}
	return both[0].(string), int(both[1].(float64))
}

// nativePython runs a script by python3 as its main module, and tells what it did not catch.
func nativePython(t *testing.T, c *agent.Client, script string) (string, int) {
	t.Helper()
	if _, err := c.Upload(t.Context(), "/mnt/data/native.py", strings.NewReader(script),
		1<<20); err != nil {
		t.Fatal(err)
	}
	res := run(t, c, agent.DefaultTimeout, `import json, os, subprocess, sys
text = open("native.py").read(); os.remove("native.py")
main = """import sys
try: exec(compile(sys.stdin.read(), "script", "exec"))
except BaseException as e: print(f"Uncaught {type(e).__name__}: {e}"); sys.exit(1)
"""
p = subprocess.run([sys.executable, "-c", main], input=text.encode(), stdout=subprocess.PIPE)
print(json.dumps([p.stdout.decode("utf-8", "replace"), p.returncode]))`)
	var both []any
	if err := json.Unmarshal([]byte(res.Stdout), &both); err != nil || len(both) != 2 {
		t.Fatalf("python: %+v, %q, %v", res.Error, res.Stderr, err)
	}
	return both[0].(string), int(both[1].(float64))
}

// put writes a file of /tmp, which the program does not see in its working directory.
func put(t *testing.T, c *agent.Client, name, text string) {
	t.Helper()
	if _, err := c.Upload(t.Context(), "/mnt/data/"+name, strings.NewReader(text),
		1<<20); err != nil {
		t.Fatal(err)
	}
	move := agent.ExecuteRequest{Code: "require('fs').copyFileSync('/mnt/data/" + name +
		"', '/tmp/" + name + "'), require('fs').rmSync('/mnt/data/" + name +
		"')", Timeout: time.Minute}
	if strings.HasSuffix(name, ".sh") {
		move = agent.ExecuteRequest{Args: []string{"mv", "/mnt/data/" + name, "/tmp/" + name},
			Timeout: time.Minute}
	}
	if res, err := c.Execute(t.Context(), move); err != nil || res.Outcome != agent.OK {
		t.Fatalf("move %q: %+v, %v", name, res, err)
	}
}
