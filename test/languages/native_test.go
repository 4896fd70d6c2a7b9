package languages_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// nativeShell runs a group by bash.
func nativeShell(t *testing.T, c *agent.Client, g group) (string, int) {
	t.Helper()
	res, err := c.Execute(t.Context(), agent.ExecuteRequest{
		Args:    []string{"bash", "-c", strings.Join(g.parts, "\n"), "bash"},
		Timeout: time.Minute, MaxOutput: agent.LimitMaxOutput})
	if err != nil || res.ExitStatus == nil {
		t.Fatalf("bash: %+v, %v", res, err)
	}
	return res.Stdout, *res.ExitStatus
}

const nodeCaught = "process.on('uncaughtException', (e) => { console.log('Uncaught ' + e.name + " +
	"': ' + e.message); process.exit(1) });\n"

// nodeValues tells the value of each part as Node's own scripts have it.
const nodeValues = `const require = globalThis.require = process.getBuiltinModule("module").
	createRequire("/mnt/data/x.js");
const {inspect} = require("util");
const options = {depth: 5, maxArrayLength: 100, maxStringLength: null};
for (const part of PARTS) {
	const value = await require("vm").runInThisContext(part);
	if (value !== undefined) console.log("=> " + inspect(value, options));
}
process.exit(process.exitCode);
`

// nativeNode runs a group by node, as a module that has require and tells what it did not catch,
// or as the group says.
func nativeNode(t *testing.T, c *agent.Client, g group) (string, int) {
	t.Helper()
	const end = "\nprocess.exit(process.exitCode);\n" // some packages keep a timer
	script := strings.Join(g.parts, "\n")
	switch g.how {
	case "values":
		parts, err := json.Marshal(g.parts)
		if err != nil {
			t.Fatal(err)
		}
		return node(t, c, "native.mjs",
			nodeCaught+strings.Replace(nodeValues, "PARTS", string(parts), 1))
	case "cjs":
		return node(t, c, "native.cts", nodeCaught+script)
	case "blocks":
		script = "{\n" + strings.Join(g.parts, "\n}\n{\n") + "\n}"
	}
	return node(t, c, "native.mts", "import { createRequire as __r } from 'node:module'; const "+
		"require = __r('/mnt/data/x.js');\n"+nodeCaught+script+end)
}

// node runs a file and returns what it prints, and its status.
func node(t *testing.T, c *agent.Client, name, script string) (string, int) {
	t.Helper()
	put(t, c, name, script)
	return spawned(t, c, `["--experimental-transform-types", "--no-warnings", "/tmp/`+name+`"]`,
		"stdout")
}

// spawned starts node and returns one of its streams, and its status.
func spawned(t *testing.T, c *agent.Client, args, stream string) (string, int) {
	t.Helper()
	res := run(t, c, 2*time.Minute, fmt.Sprintf(`require("child_process").spawnSync("node", %s,
	{stdio: ["ignore", ...["stdout", "stderr"].map((x) => require("fs").openSync("/tmp/" + x, "w"))]
	}).status`, args))
	warned := take(t, c, "stderr")
	if stream == "stderr" {
		return warned, 0
	}
	if warned != "" {
		t.Logf("node: %.500s", warned)
	}
	status, err := strconv.Atoi(res.Text)
	if err != nil {
		t.Fatalf("node: %+v, %q, %v", res.Error, res.Stderr, err)
	}
	return take(t, c, stream), status
}

// take returns what a file of /tmp has.
func take(t *testing.T, c *agent.Client, name string) string {
	t.Helper()
	const path = "/mnt/data/taken"
	if res := run(t, c, time.Minute, `require("fs").copyFileSync("/tmp/`+name+`", "`+path+
		`")`); res.Error != nil {
		t.Fatalf("take %q: %+v", name, res.Error)
	}
	return read(t, c, path)
}

// read returns what a file has, and deletes it.
func read(t *testing.T, c *agent.Client, path string) string {
	t.Helper()
	f, err := c.Open(t.Context(), path, "")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(f.Body)
	if err := errors.Join(err, f.Body.Close(), c.Delete(t.Context(), path)); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	foreign  = regexp.MustCompile(`(?m)^ +at .*(node:internal|node:vm).*\n`)
	caret    = regexp.MustCompile(`(?m)^ *\^+\n`) // node's is at the throw
	matching = regexp.MustCompile(`(?m)^ +\.\.\. \d+ lines matching cause stack trace.*\n`)
	// Of an error that is thrown in node itself node shows the line there.
	within    = regexp.MustCompile(`^node:[\w/]+:\d+\n.*\n\n`)
	anonymous = regexp.MustCompile(`at Object\.<anonymous> \((.*)\)`)
)

// nodeErrors runs each part as a program of its own, and returns what node tells of their errors
// but the frames of node itself.
func nodeErrors(t *testing.T, c *agent.Client, parts []string) []string {
	t.Helper()
	var all []string
	for i, part := range parts {
		name := fmt.Sprintf("cell-%d.js", i+1)
		put(t, c, name, part)
		text, _ := spawned(t, c, `["/tmp/`+name+`"]`, "stderr")
		text, _, _ = strings.Cut(text, "\n\nNode.js v")
		text = foreign.ReplaceAllString(strings.ReplaceAll(text, "/tmp/cell", "cell")+"\n", "")
		text = matching.ReplaceAllString(text, "")
		all = append(all, anonymous.ReplaceAllString(caret.ReplaceAllString(text, ""), "at $1"))
	}
	return all
}

// pythonNative runs parts that come with stdin, tells the values of those that end with one if
// asked to, and tells what they did not catch.
const pythonNative = `import sys
def run(parts, values):
    import ast, asyncio
    from IPython.lib.pretty import pretty
    names, loop = {"__name__": "__main__"}, asyncio.new_event_loop()
    def evaluate(tree):
        code = compile(tree, "script", "eval" if isinstance(tree, ast.Expression) else "exec",
                       ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        async def within():
            value = eval(code, names)
            return await value if code.co_flags & 128 else value
        return loop.run_until_complete(within())
    for part in parts:
        tree = ast.parse(part)
        last = tree.body.pop() if values and isinstance(tree.body[-1], ast.Expr) else None
        evaluate(tree)
        value = last and evaluate(ast.Expression(last.value))
        if value is not None and not part.endswith(";"): print("=>", pretty(value))
try:
    request = __import__("json").load(sys.stdin)
    if request["values"]: run(request["parts"], True)
    else: exec(compile("\n".join(request["parts"]), "script", "exec"))
except BaseException as e: print(f"Uncaught {type(e).__name__}: {e}"); sys.exit(1)
`

// nativePython runs a group by python3 as its main module.
func nativePython(t *testing.T, c *agent.Client, g group) (string, int) {
	t.Helper()
	request, err := json.Marshal(map[string]any{"parts": g.parts, "values": g.how == "values"})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"request": string(request), "main": pythonNative} {
		if _, err := c.Upload(t.Context(), "/mnt/data/"+name, strings.NewReader(text),
			1<<20); err != nil {
			t.Fatal(err)
		}
	}
	res := run(t, c, agent.DefaultTimeout, `import os, subprocess, sys
request, main = open("request"), open("main").read(); os.remove("request"); os.remove("main")
with open("/tmp/out", "wb") as out:
    status = subprocess.run([sys.executable, "-u", "-c", main], stdin=request, stdout=out).returncode
__import__("shutil").move("/tmp/out", "taken"); status`)
	status, err := strconv.Atoi(res.Text)
	if err != nil {
		t.Fatalf("python: %+v, %q, %v", res.Error, res.Stderr, err)
	}
	if res.Stderr != "" {
		t.Logf("python: %.500s", res.Stderr)
	}
	return strings.ToValidUTF8(read(t, c, "/mnt/data/taken"), "\ufffd"), status
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
	if res, err := c.Execute(t.Context(), move); err != nil || res.Outcome != agent.OK {
		t.Fatalf("move %q: %+v, %v", name, res, err)
	}
}
