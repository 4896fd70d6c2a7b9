package escape_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/client"
)

// The pools of the other languages.
const (
	script   = "script"
	commands = "commands"
)

// languages: what JavaScript and shell commands try is refused as what Python tries is.
func (k *target) languages(t *testing.T) {
	for pool, file := range map[string]string{script: "attacks.js", commands: "attacks.sh"} {
		t.Run(pool, func(t *testing.T) {
			text, err := os.ReadFile("testdata/" + file)
			if err != nil {
				t.Fatal(err)
			}
			got := k.sessionOf(t, pool, "box").runFor(t, 3*time.Minute, string(text))
			if got.Failed() {
				t.Fatalf("the attacks broke off: %+v", got.Execution)
			}
			var verdicts map[string]string
			if err := json.Unmarshal([]byte(got.Result.Stdout), &verdicts); err != nil {
				t.Fatalf("verdicts %.500q: %v", got.Result.Stdout, err)
			}
			refused(t, verdicts)
		})
	}
}

// kernels: code that breaks its own kernel harms its session at most, which recovers.
func (k *target) kernels(t *testing.T) {
	for pool, attacks := range map[string][]string{
		script: {
			"process.reallyExit(0)",
			"process.abort()",
			"require('fs').closeSync(3)",
			"require('fs').writeSync(3, Buffer.from([255, 255, 255, 255, 1]))",
			"require('fs').writeSync(3, Buffer.from('\\0\\0\\0\\2{}\\0\\0\\0\\5[1,2]'))",
			"for (let i = 0; i < 99; i++) try { require('fs').closeSync(i) } catch {}",
			"process.stdout.write = process.stderr.write = () => { throw 1 }; process.stdout.destroy()",
			"Object.prototype.op = 'x'; Array.prototype.push = Array.prototype.join = null",
			"Promise.prototype.then = () => {}; globalThis.Promise = null",
			"JSON.stringify = JSON.parse = () => '{}'; Buffer.from = Buffer.alloc = null",
			"for (const name of Object.getOwnPropertyNames(globalThis)) try { delete globalThis[name] } catch {}",
			"Function.prototype.call = Function.prototype.apply = Function.prototype.bind = null",
			"process._getActiveHandles().forEach((h) => h.destroy?.())",
			"process.removeAllListeners(); process.on('exit', () => { for (;;); }); process.emit('exit')",
			"globalThis.__sandpool_value = globalThis.__sandpool_import = null; 1",
			"const loop = () => Promise.resolve().then(loop); loop(); 0",
			"const hog = []; for (;;) hog.push(Buffer.alloc(1 << 24, 1))",
			"const many = []; for (;;) many.push(new Array(1e6).fill({}))",
			"for (;;) require('child_process').spawn('sleep', ['1000'])",
			"for (;;) new (require('worker_threads').Worker)('for (;;);', {eval: true})",
			"process.kill(process.pid, 'SIGSTOP')",
			"process.kill(-1, 'SIGKILL')",
			"process.kill(process.pid, 'SIGUSR1'); 0",
			"for (;;) console.log('x'.repeat(1 << 20))",
		},
		commands: {
			":() { : | : & }; :", "kill -9 $$", "kill -9 -1", "kill -STOP $$", "exec 10>&-",
			"echo garbage >&10", "printf '\\xff\\xff\\xff\\xff' >&10", "exec 10</dev/null",
			"readonly __sandpool_id __sandpool_code __sandpool_socket",
			"__sandpool_done() { :; }; __sandpool_next() { :; }; exit",
			"builtin() { :; }; printf() { :; }; read() { :; }; eval() { :; }",
			"trap '' EXIT INT TERM; while :; do :; done", "set -n", "exec sleep 1000",
			"yes >/mnt/data/full", "x=x; while :; do x=$x$x; done", "f() { f; }; f",
			"BASHOPTS=; PATH=; IFS=01; LC_ALL=xx; unset HOME; cd /; enable -n builtin",
			"shopt -s extdebug; trap 'false' DEBUG; echo", "stty raw; exec </dev/zero; read -r x",
			"ulimit -v 9999; ulimit -f 0; ls",
		},
	} {
		t.Run(pool, func(t *testing.T) {
			want := map[string]string{script: "6 * 7", commands: "echo 42"}[pool]
			for _, code := range attacks {
				s := k.sessionOf(t, pool, "box")
				_, err := k.Execute(t.Context(), pool, s.id,
					client.Run{Code: code, Timeout: 3 * time.Second})
				if sandpool.ClassOf(err) == sandpool.Internal && err != nil {
					t.Errorf("%s: %v", code, err)
				}
				// What the attack has left, such as a late interrupt or a shell that ends, may fail
				// an answer or two, never falsify one.
				all := ""
				for tries := 0; tries < 3 && !strings.Contains(all, "42"); tries++ {
					got := s.runFor(t, 30*time.Second, want)
					all = string(got.Result.ExecutionResult) + got.Result.Stdout
					if !strings.Contains(all, "42") && !got.Failed() {
						t.Errorf("%s: an answer is %+v", code, got.Execution)
					}
				}
				if !strings.Contains(all, "42") {
					t.Errorf("%s: the session does not recover", code)
				}
				if err := k.DeleteSession(t.Context(), pool, s.id); err != nil {
					t.Errorf("%s: %v", code, err)
				}
				fresh := k.sessionOf(t, pool, "fresh").run(t, want)
				all = string(fresh.Result.ExecutionResult) + fresh.Result.Stdout
				if !strings.Contains(all, "42") {
					t.Errorf("%s: a new session answers %+v", code, fresh.Execution)
				}
			}
		})
	}
}
