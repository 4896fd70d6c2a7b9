package kube_test

// language is a language of code pools, and code in it of which a coder knows what comes.
type language struct {
	name, kind string
	data       string // the folder of its image, in that of the tests
	steps      []step
	size       string // prints how many bytes in.txt has
	endless    string // prints "begun" when it waits for what never comes
	kept, lost string // code that prints lost unless the first step's x is there
	greedy     string // takes more memory than a pool has
	attacks    string // a file with ways out, of which each has to fail
}

// step is code and what it prints, the value of its last expression at the end.
type step struct{ code, want string }

var spoken = []language{{
	name: "python", kind: "PythonLTS", data: "test-kube",
	steps: []step{
		{"x = 20; 1 + 1", "2"},
		{"print(x); x + 22", "20\n42"},
		{"print('by the kernel')", "by the kernel\n"},
		{"import os; (os.getuid(), os.getcwd())", "(1000, '/mnt/data')"},
		{"open('made.txt', 'w').write('by code')", "7"},
		{lookAroundPython, "[]"},
	},
	size:    "len(open('in.txt').read())",
	endless: "import time\nprint('begun', flush=True)\ntime.sleep(600)",
	kept:    "'x' in dir()", lost: "False",
	greedy: "b = bytearray(3 << 30)\nfor i in range(0, len(b), 4096): b[i] = 1",
}, {
	name: "node", kind: "NodeLTS",
	steps: []step{
		{"let x: number = 20; 1 + 1", "2"},
		{"console.log(x); x + 22", "20\n42"},
		{"console.log('by the kernel')", "by the kernel\n"},
		{"[process.getuid(), process.cwd()].join()", "'1000,/mnt/data'"},
		{"require('fs').writeFileSync('made.txt', 'by code')", ""},
		{lookAroundNode, "[]"},
	},
	size:    "require('fs').statSync('in.txt').size",
	endless: "setTimeout(() => console.log('begun'), 1000); await new Promise(() => 0)",
	kept:    "typeof x", lost: "'undefined'",
	greedy:  "const all = []; for (;;) all.push(Buffer.alloc(64 << 20, 1))",
	attacks: "attacks.js",
}, {
	name: "shell", kind: "Shell",
	steps: []step{
		{"x=20; echo $((1 + 1))", "2\n"},
		{"echo $x; echo $((x + 22))", "20\n42\n"},
		{"echo by the kernel", "by the kernel\n"},
		{"echo $(id -u) $PWD", "1000 /mnt/data\n"},
		{"printf 'by code' >made.txt", ""},
		{lookAroundShell, ""},
	},
	size:    "wc -c <in.txt",
	endless: "(sleep 1; echo begun) & sleep 600",
	kept:    "echo ${x-unset}", lost: "unset\n",
	greedy:  "python3 -c 'b = bytearray(3 << 30)\nfor i in range(0, len(b), 4096): b[i] = 1'",
	attacks: "attacks.sh",
}}

// What follows finds what code must not: the agent's secret, its memory, a token of the cluster, a
// place to change the agent's program.

const lookAroundPython = `
import os
found = []
for name in ('environ', 'mem', 'maps', 'fd/0', 'cwd'):
    try:
        (os.readlink if name in ('fd/0', 'cwd') else open)('/proc/1/' + name)
        found.append(name)
    except OSError: pass
found += [k for k in os.environ if 'SANDPOOL' in k or 'KUBERNETES' in k]
for p in ('/opt/sandpool/x', '/opt/sandpool/sandpool-agent', '/etc/x', '/usr/x'):
    try:
        open(p, 'a').close(); found.append(p)
    except OSError: pass
if os.path.exists('/var/run/secrets'): found.append('secrets')
import socket
for host in ('127.0.0.1', socket.gethostbyname(socket.gethostname())):
    for options in ([], [socket.SO_REUSEADDR, socket.SO_REUSEPORT]):
        with socket.socket() as s:
            try:
                for o in options: s.setsockopt(socket.SOL_SOCKET, o, 1)
                s.bind((host, 7077)); s.listen(); found.append('the port at ' + host)
            except OSError: pass
found`

const lookAroundNode = `
const fs = require('fs')
const found = Object.keys(process.env).filter(k => /SANDPOOL|KUBERNETES/.test(k))
for (const name of ['environ', 'mem', 'maps', 'fd/0', 'cwd']) {
  try {
    const at = '/proc/1/' + name
    name === 'fd/0' || name === 'cwd' ? fs.readlinkSync(at) : fs.closeSync(fs.openSync(at))
    found.push(name)
  } catch {}
}
for (const p of ['/opt/sandpool/x', '/opt/sandpool/sandpool-agent', '/etc/x', '/usr/x']) {
  try { fs.closeSync(fs.openSync(p, 'a')); found.push(p) } catch {}
}
if (fs.existsSync('/var/run/secrets')) found.push('secrets')
found`

const lookAroundShell = `
env | grep -E 'SANDPOOL|KUBERNETES'
for name in environ mem maps; do (: </proc/1/$name) 2>/dev/null && echo $name; done
for name in fd/0 cwd; do readlink /proc/1/$name; done
for p in /opt/sandpool/x /opt/sandpool/sandpool-agent /etc/x /usr/x; do
  (: >>$p) 2>/dev/null && echo $p
done
[ ! -e /var/run/secrets ] || echo secrets`
