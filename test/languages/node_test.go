package languages_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// TestNode: in a real sandbox cells of JavaScript run in one realm, clones differ, and a broken
// kernel is replaced.
func TestNode(t *testing.T) {
	m := newMachine(t, "node")
	a, b := m.restore(t), m.restore(t)
	for _, code := range []string{
		"Math.random()", "crypto.randomUUID()", "require('crypto').randomBytes(8).toString('hex')",
		"crypto.getRandomValues(new Uint32Array(2)).join()", "require('crypto').randomInt(2**47)",
		"require('crypto').generateKeyPairSync('ed25519').publicKey.export({format: 'jwk'}).x",
		"(await crypto.subtle.exportKey('jwk', await crypto.subtle.generateKey({name: 'HMAC', " +
			"hash: 'SHA-256'}, true, ['sign']))).k",
		"(await import('uuid')).v4()", "(await import('nanoid')).nanoid()",
		"require('fs').mkdtempSync('/tmp/x')",
		"new Promise(r => new " +
			"(require('worker_threads').Worker)(\"require('worker_threads').parentPort.postMessage(require('crypto').randomUUID())\", {eval: true}).on('message', r))",
	} {
		x, y := run(t, a, time.Minute, code), run(t, b, time.Minute, code)
		if x.Text == y.Text || x.Text == "" || x.Error != nil {
			t.Errorf("%s: clones have %q and %q: %+v", code, x.Text, y.Text, x.Error)
		}
		if again := run(t, a, time.Minute, code); again.Text == x.Text || again.Text == y.Text {
			t.Errorf("%s: %q comes again", code, again.Text)
		}
	}
	for _, c := range []struct {
		code    string
		outcome agent.Outcome
		text    string
		printed string // within standard output, error and traceback
	}{
		{"const a = 1; let b = 2; class C {}; a + b", agent.OK, "3", ""},
		{"const a = 2; let b = 3; class C { x = 1 }; new C()", agent.OK, "C { x: 1 }", ""},
		{"a = 5", agent.Failed, "", "Assignment to constant variable."},
		{"import fs, {readFileSync as read} from 'fs'; import * as path from 'node:path'; " +
			"fs.readFileSync === read && path.join('a', b + '')", agent.OK, "'a/3'", ""},
		{"import _ from 'lodash'; require('lodash') === _", agent.OK, "true", ""},
		{"import {nothing} from 'fs'", agent.Failed, "",
			"does not provide an export named 'nothing'"},
		{"export const e = 6; export default e + 1", agent.OK, "7", ""},
		{"const n: number = 1; enum E {A, B}; interface I { x: string }; (E.B as any) + n",
			agent.OK, "2", ""},
		{"namespace N { export namespace In { export const b = 2 } } N.In.b", agent.OK, "2", ""},
		{"using held = { [Symbol.dispose]() {} }, more = null; typeof held", agent.OK, "'object'",
			""},
		{"await using held = null; import os from 'os'; [held, typeof os.EOL]", agent.OK,
			"[ null, 'string' ]", ""},
		{"await new Promise(r => setTimeout(r, 5)); 'slept'", agent.OK, "'slept'", ""},
		{"async function main() { console.log('in main'); return 7 }; main()", agent.OK, "7",
			"in main\n"},
		{"function f(x) {\n  throw new TypeError('bad ' + x)\n}\nf(1)", agent.Failed, "",
			"cell-36.js:2\n  throw new TypeError('bad ' + x)\n        ^\n\nTypeError: bad 1\n    at f (cell-36.js:2:9)\n    at cell-36.js:4:1"},
		{"let = ;", agent.Failed, "",
			"cell-37.js:1\nlet = ;\n      ^\n\nSyntaxError: Unexpected token ';'"},
		{"enum Kind { A,\n B }\n\nfunction g(n: number) {\n  null!.x\n}\ng(1)", agent.Failed, "",
			"cell-38.js:5\n  null!.x\n        ^\n\nTypeError: Cannot read properties of null " +
				"(reading 'x')\n    at g (cell-38.js:5:9)\n    at cell-38.js:7:1"},
		{"export default function () {}", agent.OK, "", ""},
		{"export default class { x = 1 }", agent.OK, "", ""},
		{"throw null", agent.Failed, "", "Uncaught null"},
		{"throw -0", agent.Failed, "", "Uncaught -0"},
		{"throw 5n", agent.Failed, "", "Uncaught 5n"},
		{"console.log('out'); console.error('err'); undefined", agent.OK, "", "err\n"},
		{"let ticks = 0; const timer = setInterval(() => ticks++, 1); 0", agent.OK, "0", ""},
		{"await new Promise(r => setTimeout(r, 50)); clearInterval(timer); ticks > 0", agent.OK,
			"true", ""},
		{"setTimeout(() => { throw new Error('stray') }); await new Promise(r => setTimeout(r, 20))", agent.OK, "", "Error: stray"},
		{"Promise.reject(new Error('unheard')); 0", agent.OK, "0", "Error: unheard"},
		{"require('child_process').execSync('id -un; ls /proc/self/fd').toString()", agent.OK,
			`'sandbox\n0\n1\n2\n3\n'`, ""},
		{"import {spawn} from 'node:child_process'; await new Promise(r => spawn('sh', ['-c', " +
			"'echo child'], {stdio: 'inherit'}).on('close', r))", agent.OK, "0", "child\n"},
		{"await new Promise(r => " +
			"require('child_process').fork('/usr/share/sandpool/check.mjs').on('exit', r))",
			agent.OK, "0", "packages work"},
		{"[1, {a: [new Map([[1, 2]])]}]", agent.OK, "[ 1, { a: [ [Map] ] } ]", "?"},
		{"{x: 1}", agent.OK, "{ x: 1 }", ""},
		{"process.exit(3)", agent.Failed, "", "SystemExit: 3"},
		{"process.kill(process.pid, 'SIGKILL')", agent.KernelDied, "", ""},
		{"typeof a + process.cwd() + process.argv.length", agent.OK, "'undefined/mnt/data1'", ""},
		{"while (true) {}", agent.TimeoutInterrupted, "", ""},
		{"let kept = 1; await new Promise(() => {})", agent.TimeoutInterrupted, "", ""},
		{"kept", agent.OK, "1", ""},
		{"await 1; while (true) {}", agent.TimeoutRestarted, "", ""},
		{"typeof kept + (Math.random() !== 0)", agent.OK, "'undefinedtrue'", ""},
		{"process.once('SIGINT', s => console.log('own', s)); " +
			"process.kill(process.pid, 'SIGINT'); await new Promise(r => setTimeout(r, 50))", agent.OK, "", "own SIGINT"},
		{"const heard = new Promise(r => process.once('SIGINT', r)); " +
			"require('child_process').execSync('kill -INT $PPID'); await heard", agent.Failed, "",
			"Interrupted"},
		{"const other = new Promise(r => process.once('SIGINT', r)); " +
			"require('child_process').exec('kill -INT $PPID'); await other", agent.Failed, "",
			"Interrupted"},
		{"process.listenerCount('SIGINT')", agent.OK, "0", ""},
		{"for (let i = 0; i < 3000; i++) console.log('x'.repeat(999)); 1", agent.OK, "1",
			strings.Repeat("x", 999) + "\n"},
	} {
		timeout := 3 * time.Minute
		if strings.HasPrefix(string(c.outcome), "timeout") {
			timeout = 300 * time.Millisecond
		}
		res := run(t, a, timeout, c.code)
		all := res.Stdout + res.Stderr
		if res.Error != nil {
			all += res.Error.Traceback
		}
		if c.printed == "?" {
			continue
		}
		if res.Outcome != c.outcome || res.Text != c.text || !strings.Contains(all, c.printed) {
			t.Errorf("%s: %s %q %.300q %+v; want %s %q %q", c.code, res.Outcome, res.Text, all,
				res.Error, c.outcome, c.text, c.printed)
		}
	}
	const names = "[typeof x, typeof E, typeof readFileSync].join()"
	if res := run(t, b, time.Minute, names); res.Text != "'undefined,undefined,undefined'" {
		t.Errorf("a new session knows names that nobody has declared: %s", res.Text)
	}
	pictures(t, b)
	compiled(t, b)
}

// pictures checks that what draws comes back drawn.
func pictures(t *testing.T, c *agent.Client) {
	t.Helper()
	for code, mime := range map[string]string{
		"const s = require('@napi-rs/canvas').createCanvas(9, 9); s.getContext('2d').fillRect(1, 1, 5, 5); s": "image/png",
		"const {Chart, registerables} = require('chart.js'); Chart.register(...registerables)\nnew Chart(require('@napi-rs/canvas').createCanvas(99, 99), {type: 'bar', data: {labels: ['a'], datasets: [{data: [1]}]}, options: {animation: false, responsive: false}})": "image/png",
		"const e = require('echarts').init(null, null, {renderer: 'svg', ssr: true, width: 99, height: 99}); e.setOption({xAxis: {data: ['a']}, yAxis: {}, series: [{type: 'bar', data: [1]}]}); e":                                                                       "image/svg+xml",
		"({$schema: 'https://vega.github.io/schema/vega-lite/v6.json', data: {values: [{a: 1}]}, mark: 'bar', encoding: {x: {field: 'a'}}})":                                                                                                                              "image/svg+xml",
		"const {document} = require('linkedom').parseHTML('<svg><rect/></svg>'); require('d3').select(document.querySelector('svg')).attr('width', 5).node()":                                                                                                             "image/svg+xml",
	} {
		if res := run(t, c, time.Minute, code); len(res.Value[mime]) < 20 {
			t.Errorf("%s: %v, %q, %+v", code, res.Value, res.Stderr, res.Error)
		}
	}
	res := run(t, c, time.Minute,
		"display.html('<b>x</b>'); display({a: 1}); display(s); console.log('printed'); 1")
	if len(res.Displays) != 3 || res.Displays[0].Data["text/html"] != "<b>x</b>" ||
		res.Displays[1].Data["text/plain"] != "{ a: 1 }" ||
		res.Displays[2].Data["image/png"] == "" || res.Stdout != "printed\n" {
		t.Errorf("displays: %+v, %q", res.Displays, res.Stdout)
	}
}

// compiled checks what TypeScript's compiler makes JavaScript of, in cells and in files, with the
// lines of errors.
func compiled(t *testing.T, c *agent.Client) {
	t.Helper()
	put(t, c, "kind.ts", "export enum Kind { A, B }\n\nexport function fail(): never {\n"+
		"  throw new Error('in a file')\n}\n")
	put(t, c, "deco.ts", "import { Kind } from './kind.ts';\n"+
		"const twice = (v: any, c: any) => (x: number) => 2 * x;\nexport class P {\n"+
		"  @twice v = 21;\n  kind = Kind.B;\n  bad() { throw new Error('decorated') }\n}\n")
	put(t, c, "old.cts", "enum K { A = 7 }\nmodule.exports = K.A\n")
	for _, x := range []struct{ code, text, printed string }{
		{"function log(f: any, c: ClassMethodDecoratorContext) {\n" +
			"  return function (this: any, ...a: any[]) { console.log(c.name, a); " +
			"return f.apply(this, a) }\n}\nclass Logged { @log f(x: number) { return x + 1 } }\n" +
			"new Logged().f(1)", "2", "f [ 1 ]\n"},
		{"class Logged { accessor y = 3; static accessor z = 4 }; [new Logged().y, Logged.z]",
			"[ 3, 4 ]", ""},
		{"@((v, c) => { c.addInitializer(function () { this.made = c.name }) })\nclass Made {\n\n" +
			"  static g() { throw new Error('in g') }\n}\nMade.made", "'Made'", ""},
		{"Made.g()", "", ":4\n  static g() { throw new Error('in g') }\n"},
		{"import os from 'node:os'; export const q = await 5; class W { accessor v = 1 }\n" +
			"using held = { [Symbol.dispose]() { console.log('disposed') } };\n" +
			"[typeof os.EOL, q, typeof held]", "[ 'string', 5, 'object' ]", ""},
		{"q + new W().v", "6", ""},
		{"/** @jsx h */ const h = (t: any, p: any, ...c: any[]) => `<${t}>${c.join('')}</${t}>`;" +
			"\n<b>{<i>{q}</i>}</b>", "'<b><i>5</i></b>'", ""},
		{"class Open { @log m( { }", "", "SyntaxError: Invalid or unexpected token"},
		{"Object.keys(globalThis).filter((name) => /^__(?!sandpool)/.test(name))", "[]", ""},
		{"import { Kind, fail } from '/tmp/kind.ts'; Kind.B", "1", ""},
		{"fail()", "", "at fail (/tmp/kind.ts:4:9)"},
		{"const { P } = await import('/tmp/deco.ts'); [new P().v, new P().kind]", "[ 42, 1 ]", ""},
		{"new P().bad()", "", "at P.bad (/tmp/deco.ts:6:"},
		{"require('/tmp/old.cts')", "7", ""},
	} {
		res := run(t, c, time.Minute, x.code)
		all := res.Stdout + res.Stderr
		if res.Error != nil {
			all += res.Error.Traceback
		}
		if res.Text != x.text || !strings.Contains(all, x.printed) || (x.text == "") !=
			(res.Error != nil) {
			t.Errorf("%s: %q %q %+v; want %q %q", x.code, res.Text, all, res.Error, x.text,
				x.printed)
		}
	}
}
