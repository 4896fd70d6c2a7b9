// Ways out of a session that JavaScript has. Each attempt must end in an error; out says how.
const fs = require("node:fs"), net = require("node:net"), dgram = require("node:dgram"), os = require("node:os");
const { execFileSync } = require("node:child_process");
const out = {};
const attempt = async (name, f) => {
  try {
    out[name] = "DONE " + String(await f()).slice(0, 200);
  } catch (e) {
    out[name] = e.code ?? e.cause?.code ?? `${e.name}: ${e.message}`;
  }
};
const soon = (f) => new Promise((done, fail) => {
  setTimeout(() => fail(new Error("nothing came")), 3000);
  f(done, fail);
});

// The network.
for (const host of ["169.254.169.254", "168.63.129.16", "1.1.1.1", "10.0.0.1", "fd00:ec2::254"]) {
  await attempt("tcp " + host, () => soon((done, fail) => net.connect(80, host, () => done("connected")).on("error", fail)));
  await attempt("udp " + host, () => soon((done, fail) => {
    const s = dgram.createSocket(host.includes(":") ? "udp6" : "udp4").on("message", done).on("error", fail);
    s.send("x", 53, host, (e) => e && fail(e));
  }));
}
await attempt("fetch", () => fetch("http://169.254.169.254/latest/meta-data/", { signal: AbortSignal.timeout(3000) }));
await attempt("name", () => require("node:dns/promises").lookup("example.com"));
await attempt("resolver", () => new (require("node:dns/promises").Resolver)({ timeout: 1000, tries: 1 }).resolve4("example.com"));
await attempt("interfaces", () => Object.keys(os.networkInterfaces()).filter((n) => n !== "lo").join() || Promise.reject(new Error("none")));

// The agent.
const ask = (method, path, headers = {}) => soon((done, fail) => require("node:http")
  .request({ port: 7077, host: "127.0.0.1", method, path, headers }, (r) => (r.statusCode < 400 ? done(r.statusCode) : fail(new Error("refused " + r.statusCode)))).on("error", fail).end(method === "POST" ? "{}" : ""));
for (const [method, path] of [["POST", "/execute"], ["POST", "/init"], ["GET", "/files?path="], ["GET", "/metadata"], ["GET", "/processes"]]) {
  for (const authorization of ["", "Bearer ", "Bearer " + "a".repeat(60)]) await attempt(`${method} ${path} ${authorization.length}`, () => ask(method, path, authorization && { authorization }));
}
for (const signal of ["SIGHUP", "SIGKILL", "SIGSEGV", "SIGTERM", "SIGSTOP"]) await attempt("kill " + signal, () => process.kill(1, signal));
for (const path of ["mem", "environ", "maps", "cwd/x", "root/etc/passwd", "fd/0", "exe"]) await attempt("/proc/1/" + path, () => fs.readFileSync("/proc/1/" + path));
await attempt("write the agent", () => fs.openSync("/opt/sandpool/sandpool-agent", "r+"));
await attempt("remove the agent", () => fs.unlinkSync("/opt/sandpool/sandpool-agent"));
await attempt("priority of the agent", () => os.setPriority(1, 19));
await attempt("listen on its port", () => soon((done, fail) => net.createServer().listen(7077, "127.0.0.1", () => done("bound")).on("error", fail)));

// Rights.
await attempt("setuid", () => process.setuid(0));
await attempt("setgid", () => process.setgid(0));
await attempt("setgroups", () => process.setgroups([0]));
for (const path of ["/etc/passwd", "/usr/bin/x", "/proc/sysrq-trigger", "/proc/sys/kernel/hostname", "/root/x", "/opt/sandpool/x"]) await attempt("write " + path, () => fs.writeFileSync(path, "x"));
for (const path of ["/proc/kcore", "/dev/mem", "/dev/kvm", "/var/run/docker.sock"]) await attempt("read " + path, () => fs.readFileSync(path));
const c = require("koffi").load(null);
const call = (declaration, ...args) => () => {
  const r = c.func(declaration)(...args);
  if (r < 0) throw new Error("refused");
  return r;
};
await attempt("ptrace", call("long ptrace(int, int, void *, void *)", 16, 1, null, null));
await attempt("mount", call("int mount(str, str, str, ulong, void *)", "proc", "/tmp", "proc", 0, null));
await attempt("chroot", call("int chroot(str)", "/tmp"));
await attempt("mknod", call("int mknod(str, int, ulong)", "/tmp/disk", 0o60666, 0x800));
await attempt("bpf", call("long syscall(long, long, long, long)", 321, 0, 0, 0));
await attempt("io_uring", call("long syscall(long, long, long, long)", 425, 8, 0, 0));
await attempt("reboot", call("int reboot(int)", 0x1234567));
await attempt("sethostname", call("int sethostname(str, size_t)", "x", 1));
await attempt("su", () => execFileSync("su", ["-c", "id"], { input: "", stdio: ["pipe", "pipe", "ignore"] }));

// Ways around what Node.js itself refuses.
await attempt("vm", () => require("node:vm").runInNewContext("this.constructor.constructor('return process')().kill(1, 9)"));
await attempt("a worker", () => soon((done, fail) => new (require("node:worker_threads").Worker)(
  "require('fs').writeFileSync('/etc/passwd', 'x'); require('worker_threads').parentPort.postMessage('written')", { eval: true }).on("message", done).on("error", fail)));
await attempt("an addon", () => process.dlopen({ exports: {} }, "/opt/sandpool/sandpool-agent"));
console.log(JSON.stringify(out));
