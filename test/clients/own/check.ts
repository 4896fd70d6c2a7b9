// Drives our own client for TypeScript against a real server: what its pages say, and what goes
// wrong. The variables are those of check.py.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import net from "node:net";

import * as sandpool from "sandpool";

function variable(name: string): string {
  const value = process.env[name];
  assert(value, `${name} is not set`);
  return value;
}

const ENDPOINT = variable("SANDPOOL_ENDPOINT");
const TOKEN = variable("SANDPOOL_TOKEN");
const SLOW =
  "import time\nfor i in range(5):\n    print('line', i, flush=True)\n    time.sleep(0.3)\n6 * 7";
const FOREVER = "import time\nprint('a', flush=True)\ntime.sleep(200)";
const LINES = [0, 1, 2, 3, 4].map((i) => `line ${i}\n`).join("");

function equal(what: string, got: unknown, want: unknown): void {
  assert.deepEqual(got, want, what);
  console.log("ok  ", what);
}

async function failure(p: Promise<unknown>): Promise<unknown> {
  return p.then(() => assert.fail("nothing was thrown"), (e: unknown) => e);
}

async function all(events: AsyncIterable<sandpool.Event>): Promise<sandpool.Event[]> {
  const list: sandpool.Event[] = [];
  for await (const e of events) list.push(e);
  return list;
}

function said(events: sandpool.Event[]): string {
  return events.map((e) => (e.type === "stdout" ? e.text : "")).join("");
}

/** A TCP proxy to the server, whose connections can be cut. */
async function forwarder(): Promise<{ endpoint: string; cut: () => void; close: () => void }> {
  const to = new URL(ENDPOINT);
  const { hostname, port } = to;
  const open = new Set<net.Socket>();
  const server = net.createServer((a) => {
    const b = net.connect(Number(port), hostname);
    for (const [from, into] of [[a, b], [b, a]] as const) {
      open.add(from);
      from.on("error", () => into.destroy());
      from.on("close", () => into.destroy());
      from.pipe(into);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  to.port = String((server.address() as net.AddressInfo).port);
  const cut = (): void => {
    for (const s of open) s.destroy();
    open.clear();
  };
  return { endpoint: to.href, cut, close: () => { cut(); server.close(); } };
}

const pool = new sandpool.Pool(ENDPOINT, async () => TOKEN);
const s = pool.session();
let r = await s.run("x = 6\nprint('hi')\nx * 7");
equal("a value", [r.ok, r.value, r.stdout, r.images], [true, 42, "hi\n", []]);
equal("state", (await s.run("x")).check().value, 6);
equal("no value", (await s.run("y = 1")).value, null);
r = await s.run("1/0");
equal("an exception", [r.ok, r.errorName, r.stderr.includes("Traceback")],
  [false, "ZeroDivisionError", true]);
assert.throws(() => r.check(), sandpool.ExecutionFailed);
r = await s.run("import time; time.sleep(60)", { timeoutInSeconds: 1 });
equal("a timeout", [r.ok, r.errorName, (await s.run("x")).value], [false, "Timeout", 6]);
r = await s.run("import matplotlib.pyplot as plt; _ = plt.plot([1, 2])");
equal("a figure", r.images.map((i) => [i.mime, Buffer.from(i.data.slice(1, 4)).toString()]),
  [["image/png", "PNG"]]);

let events = await all(s.stream(SLOW));
let last = events.at(-1);
equal("a stream", [said(events), last?.type === "result" && last.result.value], [LINES, 42]);
for await (const e of s.stream(FOREVER)) if (e.type === "stdout") break;
equal("a stream that is left", (await s.run("x")).value, 6);

const reason = new Error("the caller's");
let abort = new AbortController();
const seen = async (): Promise<void> => {
  for await (const e of s.stream(FOREVER, { signal: abort.signal })) {
    if (e.type === "stdout") abort.abort(reason);
  }
};
equal("a stream that is aborted", await failure(seen()), reason);
equal("has ended its code", (await s.run("x")).value, 6);
abort = new AbortController();
const running = s.run("open('here', 'w').close()\n" + FOREVER, { signal: abort.signal });
const aborted = failure(running);
while (!(await s.files()).some((f) => f.name === "here")) await new Promise(setImmediate);
abort.abort(reason);
equal("a call that is aborted", await aborted, reason);
equal("has ended its code, too", (await s.run("x", { timeoutInSeconds: 30 })).value, 6);
equal("a signal that was aborted", await failure(s.read("here", { signal: abort.signal })), reason);
await s.remove("here");

await s.write("a b/\u00e9\"%.txt", "hello");
const found = (await s.files("", { recursive: true })).filter((f) => f.type === "file");
equal("a file", [await s.readText("a b/\u00e9\"%.txt"), found.map((f) => [f.path, f.size])],
  ["hello", [["a b/\u00e9\"%.txt", 5]]]);
assert(found[0] && found[0].modified.getTime() > Date.now() - 3600e3);
const big = new Uint8Array(randomBytes(100 << 20));
await s.write("big.bin", big);
equal("a big file", Buffer.compare(await s.read("big.bin"), big), 0);
let size = 0;
for await (const piece of await s.readStream("big.bin")) size += piece.length;
equal("and piece by piece", size, big.length);
await s.remove("big.bin");
const absent = await failure(s.read("big.bin"));
assert(absent instanceof sandpool.SandpoolError);
equal("a file that is not there", [absent.status, absent.traceId.length, absent.code !== ""],
  [404, 32, true]);

await s[Symbol.asyncDispose]();
const again = pool.session(s.identifier);
equal("a session that has ended", (await again.run("'x' in globals()")).value, "False");
await again[Symbol.asyncDispose]();
equal("one with a name is kept", (await again.run("'x' in globals()")).ok, true);
await again.end();
await again.end();

const ten = Array.from({ length: 10 }, async (_, i) => {
  const one = pool.session();
  const { value } = await one.run(`${i} * 2`);
  await one.end();
  return value;
});
equal("ten sessions at once", await Promise.all(ten), [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]);

const sh = new sandpool.Pool(variable("SANDPOOL_SHELL_ENDPOINT"), TOKEN)
  .session(undefined, { shell: true });
r = await sh.run("cd /tmp; echo out; echo err >&2; exit 3");
equal("a command", [r.ok, r.stdout, r.stderr, r.exitCode], [false, "out\n", "err\n", 3]);
equal("a stream of one", said(await all(sh.stream("for i in 1 2; do echo $i; done"))), "1\n2\n");
await sh.end();

const f = await forwarder();
const broken = new sandpool.Pool(f.endpoint, TOKEN).session();
events = [];
let cuts = 0;
for await (const e of broken.stream(SLOW)) {
  events.push(e);
  if (e.type === "stdout" && cuts < 2) {
    f.cut();
    cuts++;
  }
}
equal("a stream that broke off twice", [said(events), cuts], [LINES, 2]);
equal("without a gap", events.map((e) => e.sequence), events.map((_, i) => i + 1));
await broken.end();
f.close();

for (const [what, endpoint, token, kind, statuses] of [
  ["a full pool", variable("SANDPOOL_FULL_ENDPOINT"), TOKEN, sandpool.PoolFull, [404, 429]],
  ["a wrong token", ENDPOINT, "nonsense", sandpool.SandpoolError, [401]],
  ["a server that is away", "https://127.0.0.1:9", TOKEN, sandpool.Unreachable, [0]],
] as const) {
  const refused = new sandpool.Pool(endpoint, token).session("refused-1");
  for (const e of [await failure(refused.run("1")), await failure(all(refused.stream("1")))]) {
    assert(e instanceof kind);
    equal(`${what}: ${kind.name}: ${e.message}`, statuses.some((s) => s === e.status), true);
  }
}
