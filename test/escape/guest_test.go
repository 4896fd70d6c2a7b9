package escape_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// network: with egress off there is no way to any address: the cloud's metadata, the
// host, other machines, name servers; and no socket beneath TCP and UDP.
func (k *target) network(t *testing.T) {
	refused(t, k.session(t, "box").verdicts(t, k.networkAttacks(t)))
}

// networkAttacks is code that tries every way out.
func (k *target) networkAttacks(t *testing.T) string {
	t.Helper()
	_, port, err := net.SplitHostPort(k.addr)
	if err != nil {
		t.Fatal(err)
	}
	targets := []string{"169.254.169.254 80", "168.63.129.16 80", "fd00:ec2::254 80",
		"fe80::a9fe:a9fe 80", "1.1.1.1 443",
		"2606:4700::1111 443", "10.0.0.1 22", "172.17.0.1 80", "192.168.0.1 80",
		"255.255.255.255 9", "224.0.0.1 9", "127.0.0.1 " + port, "::1 " + port}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLoopback() {
			targets = append(targets, ip.IP.String()+" "+port) // the host's own
		}
	}
	return fmt.Sprintf(`
def connect(kind, host, port):
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    with socket.socket(family, kind) as c:
        c.settimeout(3)
        c.connect((host, port))
        c.send(b'GET / HTTP/1.0\r\n\r\n')
        return c.recv(100)
for target in %q.split(','):
    host, port = target.split()
    try_('tcp ' + target, lambda: connect(socket.SOCK_STREAM, host, int(port)))
    try_('udp ' + target, lambda: connect(socket.SOCK_DGRAM, host, int(port)))
try_('name', lambda: socket.getaddrinfo('example.com', 80))
try_('multicast name', lambda: socket.gethostbyname('printer.local'))
for family in 'AF_INET', 'AF_INET6', 'AF_PACKET':
    for proto in (1, 6, 17, 58, 255, 768):
        try_('raw %%s %%d' %% (family, proto), lambda: socket.socket(getattr(socket, family), socket.SOCK_RAW, proto).fileno())
try_('vsock', lambda: socket.socket(40, socket.SOCK_STREAM).connect((2, 1024)))
try_('bluetooth', lambda: socket.socket(31, socket.SOCK_RAW, 1).fileno())
def ping():
    c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1)
    c.settimeout(2)
    c.sendto(b'\x08\0\xf7\xff\0\0\0\0', ('8.8.8.8', 0))
    return c.recv(100)
try_('ping', ping)
try_('interfaces up', lambda: 1 / (len(socket.if_nameindex()) - 1))
`, strings.Join(targets, ","))
}

// redirect: neither a redirect nor a proxy leads where a direct connection does not.
func (k *target) redirect(t *testing.T) {
	refused(t, k.session(t, "box").verdicts(t, redirectAttacks))
}

const redirectAttacks = `
import threading, urllib.request, http.server
class R(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(302); self.send_header('Location', 'http://169.254.169.254/latest/meta-data/'); self.end_headers()
    def log_message(self, *a): pass
srv = http.server.HTTPServer(('127.0.0.1', 0), R)
threading.Thread(target=srv.serve_forever, daemon=True).start()
try_('redirect', lambda: urllib.request.urlopen('http://127.0.0.1:%d/' % srv.server_port, timeout=3).read(100))
try_('a proxy in the environment', lambda: [v for v in os.environ if 'proxy' in v.lower()][0])
p = urllib.request.build_opener(urllib.request.ProxyHandler({'http': 'http://169.254.169.254:3128'}))
try_('proxy', lambda: p.open('http://example.com/', timeout=3).read(100))
`

// agent: user code reaches the agent's port and nothing behind it, and can neither look into
// the agent nor end, trace, replace or impersonate it.
func (k *target) agent(t *testing.T) {
	s := k.session(t, "box")
	got := s.verdicts(t, `
import http.client, signal
def ask(method, path, token=None, body=None):
    c = http.client.HTTPConnection('127.0.0.1', 7077, timeout=5)
    c.request(method, path, body, {'Authorization': token} if token is not None else {})
    r = c.getresponse()
    if r.status >= 400: raise OSError(r.status, 'refused')
    return r.status, r.read(100)
for token in None, '', 'Bearer', 'Bearer ', 'Bearer x', 'Bearer ' + 'a' * 60, 'Basic eDp4':
    for method, path in ('POST', '/execute'), ('GET', '/files?path='), ('POST', '/interrupt'), ('GET', '/file?path=x'), ('GET', '/metadata'):
        try_('%s %s %s' % (method, path, token), lambda: ask(method, path, token, '{}' if method == 'POST' else None))
init = json.dumps({'secret': 'a' * 64, 'seed': 'YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE='})
try_('second init', lambda: ask('POST', '/init', None, init))
for sig in 1, 2, 3, 9, 11, 15, 18, 19:
    try_('kill %d' % sig, lambda: os.kill(1, sig))
for path in 'mem', 'environ', 'maps', 'cwd/x', 'root/etc/passwd', 'fd', 'fd/0', 'task/1/fd/0', 'task/1/mem', 'exe':
    p = '/proc/1/' + path
    try_(p, lambda: os.listdir(p) if os.path.isdir(p) else open(p, 'rb').read(64) or 1/0)
for r in 16, 0x4206:
    try_('ptrace %d' % r, lambda: call(libc.ptrace, r, 1, 0, 0))
class iovec(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('len', ctypes.c_size_t)]
buf = ctypes.create_string_buffer(8)
here, there = iovec(ctypes.addressof(buf), 8), iovec(0x400000, 8)
try_('process_vm_readv', lambda: call(libc.process_vm_readv, 1, ctypes.byref(here), 1, ctypes.byref(there), 1, 0))
for fd in range(10): # 0 is the host's channel
    try_('pidfd_getfd %d' % fd, lambda: call(libc.syscall, 438, os.pidfd_open(1), fd, 0))
try_('a channel of its own', lambda: socket.socket(fileno=os.dup(0)))
def bind(host, *options):
    c = socket.socket()
    for o in options: c.setsockopt(socket.SOL_SOCKET, o, 1)
    c.bind((host, 7077)); c.listen(); return 'bound'
try_('take the port', lambda: bind('127.0.0.1', socket.SO_REUSEADDR, socket.SO_REUSEPORT))
agent = '/opt/sandpool/sandpool-agent'
try_('write the agent', lambda: open(agent, 'r+b'))
try_('remove the agent', lambda: os.unlink(agent))
try_('rename the agent', lambda: os.rename('/opt/sandpool', '/opt/x'))
try_('priority', lambda: os.setpriority(os.PRIO_PROCESS, 1, 19))
try_('limits', lambda: __import__('resource').prlimit(1, 7, (1, 1)))
`)
	refused(t, got)
	// gVisor lets code listen on the agent's port of all addresses. Connections to
	// the loopback address, the host's among them, are the agent's nevertheless.
	stolen := s.prints(t, `
import threading
stolen = []
def steal(family, host):
    c = socket.socket(family)
    try: c.bind((host, 7077)); c.listen(1000)
    except OSError: return
    while True: stolen.append(c.accept())
for family, host in (socket.AF_INET, ''), (socket.AF_INET6, '::'), (socket.AF_INET, '127.0.0.2'):
    threading.Thread(target=steal, args=(family, host), daemon=True).start()
import time; time.sleep(0.3)
for i in range(30): ask('GET', '/ready')
print(len(stolen))
`)
	if stolen != "0\n" {
		t.Errorf("user code took %s connections to the agent", stolen)
	}
	k.CloseIdle()
	answers := make(chan error, 20)
	for range cap(answers) { // so many at once that the host has to connect anew
		go func() {
			_, err := k.Files(t.Context(), mine, s.id, "", false)
			answers <- err
		}()
	}
	for range cap(answers) {
		if err := <-answers; err != nil {
			t.Errorf("the agent, with its port listened on: %v", err)
		}
	}
	if out := s.prints(t, "print(len(stolen))"); out != "0\n" {
		t.Errorf("user code took %s of the host's connections", out)
	}
}

// rights: user code stays user 1000 with the capabilities of nobody.
func (k *target) rights(t *testing.T) {
	s := k.session(t, "box")
	if out := s.prints(t,
		"import os; print(os.getresuid(), os.getresgid(), os.getgroups())"); out !=
		"(1000, 1000, 1000) (1000, 1000, 1000) []\n" &&
		out != "(1000, 1000, 1000) (1000, 1000, 1000) [1000]\n" {
		t.Errorf("user code runs as %s", out)
	}
	status := s.prints(t, "print(open('/proc/self/status').read())")
	for _, line := range []string{"CapEff:\t0000000000000000", "CapPrm:\t0000000000000000",
		"CapInh:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(status, line) && !(strings.HasPrefix(line, "NoNew") &&
			!strings.Contains(status, "NoNewPrivs")) {
			t.Errorf("status lacks %q:\n%s", line, status)
		}
	}
	refused(t, s.verdicts(t, `
for name, f in {
    'setuid': lambda: os.setuid(0), 'setgid': lambda: os.setgid(0), 'setgroups': lambda: os.setgroups([0]), 'chroot': lambda: os.chroot('/tmp'),
    'mknod': lambda: os.mknod('/tmp/disk', 0o60666, os.makedev(8, 0)), 'mem': lambda: os.mknod('/tmp/mem', 0o20666, os.makedev(1, 1)),
    'write /etc': lambda: open('/etc/passwd', 'a'), 'write /usr': lambda: open('/usr/bin/x', 'w'),
    'kcore': lambda: open('/proc/kcore', 'rb').read(1) or 1/0, 'sysrq': lambda: open('/proc/sysrq-trigger', 'w').write('b'),
    'sysctl': lambda: open('/proc/sys/kernel/hostname', 'w').write('x'), 'hostname': lambda: socket.sethostname('x'),
    'mount': lambda: call(libc.mount, b'proc', b'/tmp', b'proc', 0, 0), 'umount': lambda: call(libc.umount2, b'/opt/sandpool', 2),
    'reboot': lambda: call(libc.reboot, 0x1234567), 'module': lambda: call(libc.syscall, 175, 0, 0, 0), 'bpf': lambda: call(libc.syscall, 321, 0, 0, 0),
    'setns': lambda: call(libc.setns, os.open('/proc/1/ns/net', 0), 0), 'pivot_root': lambda: call(libc.syscall, 155, b'/', b'/tmp'),
    'io_uring': lambda: call(libc.syscall, 425, 8, 0), 'userfaultfd': lambda: call(libc.syscall, 323, 0),
    'clock': lambda: __import__('time').clock_settime(0, 0), 'kvm': lambda: open('/dev/kvm'), 'dev mem': lambda: open('/dev/mem'),
    'docker socket': lambda: socket.socket(socket.AF_UNIX).connect('/var/run/docker.sock'), 'cgroups': lambda: os.mkdir('/sys/fs/cgroup/x'),
    'su': lambda: subprocess.run(['su', '-c', 'id'], input='', capture_output=True, check=True, text=True).stdout,
}.items(): try_(name, f)
`))
	// Code may be root of a user namespace of its own, which means nothing outside of that.
	refused(t, s.verdicts(t, `
r, w = os.pipe()
if os.fork() == 0:
    try: call(libc.unshare, 0x10000000)
    except OSError as e: out['unshare'] = str(e)
    else:
        for name, f in {
            'kill': lambda: os.kill(1, 9), 'ptrace': lambda: call(libc.ptrace, 16, 1, 0, 0), 'memory': lambda: open('/proc/1/mem', 'rb').read(1),
            'root': lambda: open('/etc/passwd', 'a'), 'chown': lambda: os.chown('/opt/sandpool/sandpool-agent', 1000, 1000), 'setuid': lambda: os.setuid(0),
            'raw': lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).fileno(), 'device': lambda: os.mknod('/mnt/data/disk', 0o60666, os.makedev(8, 0)),
            'mount over the agent': lambda: call(libc.mount, b'x', b'/opt/sandpool', b'tmpfs', 0, 0),
        }.items(): try_(name, f)
    os.write(w, json.dumps(out).encode())
    os._exit(0)
os.wait(); out = json.loads(os.read(r, 65536))
`))
}

// neighbours: two sessions at the same time share nothing that either can see.
func (k *target) neighbours(t *testing.T) {
	a, b := k.session(t, "a"), k.session(t, "b")
	a.prints(t, `
import subprocess, socket, os, threading
subprocess.Popen(['sleep', '12345.678'])
srv = socket.socket(); srv.bind(('0.0.0.0', 9999)); srv.listen()
hidden = socket.socket(socket.AF_UNIX); hidden.bind('\0neighbour'); hidden.listen()
from multiprocessing import shared_memory
shm = shared_memory.SharedMemory('neighbour', True, 10)
for d in '/mnt/data', '/tmp', '/dev/shm', '/home', '/var/tmp':
    try: open(d + '/secret-of-a', 'w').write('secret')
    except OSError: pass
`)
	refused(t, b.verdicts(t, `
from multiprocessing import shared_memory
for host in '127.0.0.1', socket.gethostname(), '0.0.0.0':
    try_('tcp ' + host, lambda: socket.create_connection((host, 9999), 3))
try_('unix', lambda: socket.socket(socket.AF_UNIX).connect('\0neighbour'))
try_('shared memory', lambda: shared_memory.SharedMemory('neighbour'))
try_('files', lambda: subprocess.run('find / -name secret-of-a 2>/dev/null | grep .', shell=True, check=True, capture_output=True).stdout)
def processes():
    for p in os.listdir('/proc'):
        try:
            if p.isdigit() and b'12345.678' in open('/proc/%s/cmdline' % p, 'rb').read(): return p
        except OSError: pass
    raise LookupError('none')
try_('processes', processes)
`))
	if a.prints(t, "print(socket.gethostname())") == b.prints(t, "print(socket.gethostname())") {
		t.Error("both sandboxes have one host name")
	}
	if list := b.prints(t, "print([p for p in os.listdir('/proc') if p.isdigit()])"); strings.Count(
		list, "'") > 2*10 {
		t.Errorf("a session sees the processes %s", list)
	}
}
