package escape_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// customNetwork: root of a container has no more ways out than anybody.
func (k *target) customNetwork(t *testing.T) {
	b := k.box(t, "box")
	refused(t, b.verdicts(t, k.networkAttacks(t)))
	refused(t, b.verdicts(t, redirectAttacks))
	refused(t, b.verdicts(t, `
import fcntl, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def iface(ioctl, name, data): return fcntl.ioctl(s, ioctl, struct.pack('16s16s', name, data))
try_('an address', lambda: iface(0x8916, b'eth0', socket.inet_aton('10.0.0.9')))
try_('an interface up', lambda: iface(0x8914, b'eth0', b'\1\0'))
def netlink(kind, body):
    n = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    n.settimeout(3)
    n.send(struct.pack('=IHHII', 16 + len(body), kind, 0x605, 1, 0) + body)
    code = struct.unpack('=i', n.recv(4096)[16:20])[0]
    if code: raise OSError(-code, 'refused')
try_('a route', lambda: netlink(24, struct.pack('=BBBBBBBBI', 2, 0, 0, 0, 254, 3, 0, 1, 0)))
try_('a link', lambda: netlink(16, struct.pack('=BxHiII', 0, 0, 0, 0, 0)))
`))
}

// customRights: root of a container with the capabilities that containers usually have is
// nobody on the host, and in the sandbox may change none of what surrounds the container.
func (k *target) customRights(t *testing.T) {
	b := k.box(t, "box")
	refused(t, b.verdicts(t, `
def device(kind, major, minor):
    p = '/tmp/device-%d-%d' % (major, minor)
    os.mknod(p, kind | 0o666, os.makedev(major, minor))
    f = os.open(p, os.O_RDWR)
    return os.read(f, 16)
for name, kind, major, minor in ('disk', 0o60000, 8, 0), ('nvme', 0o60000, 259, 0), ('loop', 0o60000, 7, 0), ('mem', 0o20000, 1, 1), ('port', 0o20000, 1, 4), \
        ('kmsg', 0o20000, 1, 11), ('kvm', 0o20000, 10, 232), ('loop control', 0o20000, 10, 237), ('console', 0o20000, 5, 1):
    try_('device ' + name, lambda: device(kind, major, minor))
def write(path, text):
    with open(path, 'w') as f: f.write(text)
for path, text in ('/proc/sysrq-trigger', 'b'), ('/proc/sys/kernel/core_pattern', '|/bin/sh'), ('/proc/sys/kernel/modprobe', '/bin/sh'), \
        ('/proc/sys/vm/panic_on_oom', '1'), ('/sys/kernel/uevent_helper', '/bin/sh'), ('/sys/fs/cgroup/release_agent', '/bin/sh'):
    try_('write ' + path, lambda: write(path, text))
nr = lambda number, *args: (lambda: call(libc.syscall, number, *args))
for name, f in {
    'mount proc': lambda: call(libc.mount, b'proc', b'/mnt', b'proc', 0, 0), 'mount tmpfs': lambda: call(libc.mount, b'x', b'/mnt', b'tmpfs', 0, 0),
    'bind mount': lambda: call(libc.mount, b'/proc', b'/mnt', 0, 0x1000, 0), 'remount': lambda: call(libc.mount, b'none', b'/', 0, 0x20, 0),
    'umount': lambda: call(libc.umount2, b'/proc', 2), 'pivot_root': nr(155, b'/', b'/tmp'), 'reboot': lambda: call(libc.reboot, 0x1234567),
    'unshare mounts': lambda: call(libc.unshare, 0x20000), 'unshare network': lambda: call(libc.unshare, 0x40000000),
    'module': nr(175, 0, 0, 0), 'finit_module': nr(313, 0, b'', 0), 'kexec': nr(246, 0, 0, 0, 0), 'bpf': nr(321, 0, 0, 0), 'perf': nr(298, 0, 0, -1, -1, 0),
    'swapon': nr(167, b'/tmp/x', 0), 'iopl': nr(172, 3), 'ioperm': nr(173, 0, 1, 1), 'clock': lambda: time.clock_settime(0, 0),
    'hostname': lambda: socket.sethostname('x'), 'acct': nr(163, b'/tmp/x'), 'quotactl': nr(179, 0, 0, 0, 0), 'io_uring': nr(425, 8, 0),
    'userfaultfd': nr(323, 0), 'kcore': lambda: open('/proc/kcore', 'rb').read(1) or 1 / 0, 'docker socket': lambda: socket.socket(socket.AF_UNIX).connect('/var/run/docker.sock'),
    'cgroups': lambda: os.mkdir('/sys/fs/cgroup/x'), 'realtime': lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
}.items(): try_(name, f)
`))
	refused(t, b.verdicts(t, `
r, w = os.pipe()
if os.fork() == 0: # root of a user namespace of its own, with all capabilities in it
    try: call(libc.unshare, 0x10000000)
    except OSError as e: out['unshare'] = str(e)
    else:
        for name, f in {
            'raw': lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).fileno(), 'packet': lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 768).fileno(),
            'device': lambda: os.mknod('/tmp/disk', 0o60666, os.makedev(8, 0)), 'mount': lambda: call(libc.mount, b'x', b'/mnt', b'tmpfs', 0, 0),
            'clock': lambda: time.clock_settime(0, 0), 'hostname': lambda: socket.sethostname('x'),
        }.items(): try_(name, f)
    os.write(w, json.dumps(out).encode())
    os._exit(0)
os.wait(); out = json.loads(os.read(r, 65536))
`))
}

// customSecrets: nothing in a container knows of the server, of the host's files or of the keys by
// which its image was pulled.
func (k *target) customSecrets(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "marker")
	if err := os.WriteFile(marker, []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	b := k.box(t, "box")
	found := b.verdicts(t, `
def find(needle):
    hits = []
    for top in '/proc', '/sys', '/etc', '/dev', '/run', '/var', '/tmp', '/root':
        for dir, _, files in os.walk(top):
            for name in files:
                p = os.path.join(dir, name)
                if '/task/' in p or name in ('kmsg', 'clear_refs', 'mem', 'pagemap'): continue
                try:
                    if not os.path.isfile(p): continue
                    with open(p, 'rb') as f:
                        if needle in f.read(1 << 20): hits.append(p)
                except (OSError, ValueError): pass
    if not hits: raise LookupError('none')
    return hits
try_('the server', lambda: find(`+pythonBytes(k.dir)+`))
try_('its token', lambda: find(`+pythonBytes(k.token)+`))
try_('the password', lambda: find(`+pythonBytes(password)+`))
for p in `+pythonBytes(marker)+`, `+pythonBytes(k.dir+"/admin-token")+`, b'/proc/1/root'+`+pythonBytes(marker)+`:
    try_('open %r' % p, lambda: open(p, 'rb').read())
try_('other processes', lambda: [p for p in os.listdir('/proc') if p.isdigit() and int(p) > 1 and b'hostile' not in open('/proc/%s/cmdline' % p, 'rb').read()][0])
`)
	refused(t, found)
	if len(found) < 6 {
		t.Errorf("only %v", found)
	}
}

func pythonBytes(s string) string { return "b'" + strings.ReplaceAll(s, "'", "") + "'" }

// customNeighbours: two containers of one pool at the same time share nothing that either can see.
func (k *target) customNeighbours(t *testing.T) {
	a, b := k.box(t, "a"), k.box(t, "b")
	a.verdicts(t, `
subprocess.Popen(['sleep', '12345.678'])
srv = socket.socket(); srv.bind(('0.0.0.0', 9999)); srv.listen()
hidden = socket.socket(socket.AF_UNIX); hidden.bind('\0neighbour'); hidden.listen()
for d in '/', '/tmp', '/dev/shm', '/var/tmp', '/dev', '/etc':
    try: open(d + '/secret-of-a', 'w').write('secret')
    except OSError: pass
`)
	refused(t, b.verdicts(t, `
for host in '127.0.0.1', socket.gethostname(), '0.0.0.0', '::1':
    try_('tcp ' + host, lambda: socket.create_connection((host, 9999), 3))
try_('unix', lambda: socket.socket(socket.AF_UNIX).connect('\0neighbour'))
def walk(name):
    for dir, _, files in os.walk('/'):
        if name in files: return dir
    raise LookupError('none')
try_('files', lambda: walk('secret-of-a'))
def processes():
    for p in os.listdir('/proc'):
        try:
            if p.isdigit() and b'12345.678' in open('/proc/%s/cmdline' % p, 'rb').read(): return p
        except OSError: pass
    raise LookupError('none')
try_('processes', processes)
try_('shared memory', lambda: call(libc.shmget, 4711, 100, 0))
`))
	name := "try_('name', lambda: socket.gethostname())"
	if x, y := a.verdicts(t, name), b.verdicts(t, name); x["name"] == y["name"] {
		t.Errorf("both containers have the host name %s", x["name"])
	}
}

// customBombs: a container that takes all it can meets its own limits, and its session ends or goes
// on; the server serves everybody else.
func (k *target) customBombs(t *testing.T) {
	for name, code := range map[string]string{
		"memory": "x = []\nwhile True: x.append(b'x' * (16 << 20))",
		"fork":   "while True:\n  try: os.fork()\n  except OSError: pass",
		"threads": "for i in range(100000): threading.Thread(target=time.sleep, " +
			"args=(1000,)).start()",
		"disk":  "f = open('/big', 'wb')\nwhile True: f.write(b'x' * (1 << 20))",
		"files": "x = [os.dup(0) for i in range(70000)]",
		"output": "line = b'x' * 65535 + b'\\n'\nfor i in range(3000): os.write(1, line); " +
			"os.write(2, line)",
		"exit": "os._exit(7)",
		"kill": "os.kill(1, 9)\nos.kill(1, 15)\nos.kill(-1, 9)",
		"stop": "threading.Thread(target=lambda: (time.sleep(1), os.kill(os.getpid(), " +
			"19))).start()",
	} {
		t.Run(name, func(t *testing.T) {
			b := k.box(t, "box")
			done := make(chan string, 1)
			go func() {
				// It may never answer: then it ends with its session, below.
				status, text := k.tryUpload(t, request{http.MethodPost, b.at("/run"),
					bearer(k.token), strings.NewReader(code)})
				done <- http.StatusText(status) + text
			}()
			if name == "fork" { // which answers a thousand times, or never
				if err := k.Health(t.Context()); err != nil {
					t.Error(err)
				}
			} else {
				t.Logf("%.200s", <-done)
			}
			refused(t, k.box(t, "next").verdicts(t, "try_('healthy', lambda: 1 / 0)"))
		})
	}
}

// customAnswers: what a container answers is for its own session alone, and is not the server's.
func (k *target) customAnswers(t *testing.T) {
	b, other := k.box(t, "box"), k.box(t, "other")
	for range 5 {
		// It may spoil the next answer of its own session, and no other.
		_, _, own := k.send(t, request{"GET", b.at("/planted"), bearer(k.token), nil})
		if own != "first" && own != "planted" {
			t.Errorf("an answer is %q", own)
		}
		if _, _, got := k.send(t, request{"GET", other.at("/next"), bearer(k.token), nil}); got !=
			"/next 0" {
			t.Errorf("the answer of another session is %q", got)
		}
	}
	_, header, _ := k.send(t, request{"GET", b.at("/forged"), bearer(k.token), nil})
	if header.Get("X-Sandpool-Error") != "" || header.Get("X-Ms-Request-Id") == "forged" ||
		len(header["Set-Cookie"]) > 0 {
		t.Errorf("a container's header: %v", header)
	}
}
