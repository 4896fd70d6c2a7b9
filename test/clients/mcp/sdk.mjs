// Drives the MCP endpoint of a pool with the TypeScript SDK, in the package and the mode that the
// arguments name: "sdk" is version 1, "client" version 2, which speaks 2026-07-28 in the mode "auto".
//
// SANDPOOL_MCP_URL is the endpoint, SANDPOOL_MCP_KEY its key; SANDPOOL_MCP_POOL is "custom" if the
// pool has containers.

import { randomUUID } from 'node:crypto';

const [which, mode] = process.argv.slice(2);
const url = new URL(process.env.SANDPOOL_MCP_URL);
const key = process.env.SANDPOOL_MCP_KEY;
const python = 'runPythonCodeInRemoteEnvironment';
const shell = 'runShellCommandInRemoteEnvironment';

function equal(what, got, want) {
  if (JSON.stringify(got) !== JSON.stringify(want)) {
    console.error(`${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
    process.exit(1);
  }
  console.log('ok  ', what);
}

async function load() {
  if (which === 'client') return import('@modelcontextprotocol/client');
  const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
  const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
  return { Client, StreamableHTTPClientTransport };
}

const { Client, StreamableHTTPClientTransport } = await load();

async function connect(header) {
  const options = which === 'client' ? { versionNegotiation: { mode } } : {};
  const client = new Client({ name: 'test', version: '1' }, options);
  const transport = new StreamableHTTPClientTransport(url, { requestInit: { headers: header } });
  await client.connect(transport);
  return { client, transport };
}

const { client, transport } = await connect({ 'x-ms-apikey': key });
const call = (name, args, options) =>
  which === 'client' ? client.callTool({ name, arguments: args }, options) : client.callTool({ name, arguments: args }, undefined, options);
const said = r => r.content.filter(c => c.type === 'text').map(c => c.text).join('\n');
const env = `ts-${randomUUID()}`;

// custom uses the containers of a custom pool, which run the tests' application that counts.
async function custom() {
  const names = (await client.listTools()).tools.map(t => t.name);
  equal('tools', ['launchEnvironment', 'sendHttpRequest', 'readLogs', 'stopEnvironment'].every(n => names.includes(n)), true);
  equal('no code runs', names.includes(python), false);
  const send = async args => (await call('sendHttpRequest', { environmentId: env, ...args })).structuredContent;
  equal('an answer', [(await send({ path: '/count' })).body, (await send({ path: '/count' })).body], ['1\n', '2\n']);
  const echo = await send({ path: '/echo', method: 'POST', body: 'héllo', headers: { 'x-mine': 'yes' } });
  equal('a body', [echo.status, echo.body], [200, 'héllo']);
  equal('a status of its own', (await send({ path: '/none' })).status, 404);
  await call('stopEnvironment', { environmentId: env });
  equal('a fresh one', (await send({ path: '/count' })).body, '1\n');
  await client.close();
  process.exit(0);
}
if (process.env.SANDPOOL_MCP_POOL === 'custom') await custom();

const names = (await client.listTools()).tools.map(t => t.name);
equal('tools', [python, shell, 'launchShell', 'writeFile'].every(n => names.includes(n)), true);
let r = await call(python, { environmentId: env, pythonCode: "x = 20\nprint('hi')\nx + 1" });
equal('a value', [r.structuredContent.result, r.structuredContent.stdout], [21, 'hi\n']);
r = await call(python, { environmentId: env, pythonCode: 'x * 2' });
equal('state is kept', r.structuredContent.result, 40);
r = await call(python, { environmentId: env, pythonCode: '1/0' });
equal('an exception', [r.isError, said(r).includes('ZeroDivisionError')], [true, true]);
r = await call(python, { environmentId: '1', pythonCode: '1' });
equal('an id that is too short', [r.isError, said(r).includes('use 4 to 128')], [true, true]);
r = await call(shell, { environmentId: env, shellCommand: 'echo out; exit 3' });
equal('a command', [r.structuredContent.stdout, r.structuredContent.exitCode], ['out\n', 3]);
r = await call(python, { environmentId: env, pythonCode: 'import matplotlib.pyplot as plt; _ = plt.plot([1, 2])' });
equal('a figure', r.content.filter(c => c.type === 'image').map(c => c.mimeType), ['image/png']);

const seen = [];
const code = "import time\nfor i in range(3):\n    print('line', i, flush=True)\n    time.sleep(0.3)";
r = await call(python, { environmentId: env, pythonCode: code }, { onprogress: p => seen.push(p.message ?? '') });
equal('output is progress', seen.join(''), 'line 0\nline 1\nline 2\n');
equal('and in the result', r.structuredContent.stdout, 'line 0\nline 1\nline 2\n');

r = await call('writeFile', { environmentId: env, path: 'a/b.txt', content: 'hello' });
equal('written', r.structuredContent.sizeInBytes, 5);
const uri = `sandpool://environments/${env}/files/a/b.txt`;
equal('a resource', (await client.readResource({ uri })).contents[0].text, 'hello');

// A call that is cancelled ends its code, and the environment goes on.
const ac = new AbortController();
const slow = call(python, { environmentId: env, pythonCode: 'import time\ntime.sleep(200)' }, { signal: ac.signal, onprogress: () => {} });
setTimeout(() => ac.abort(), 500);
equal('a cancelled call', await slow.then(() => 'answered', () => 'cancelled'), 'cancelled');
r = await call(python, { environmentId: env, pythonCode: 'x' });
equal('the environment goes on', r.structuredContent.result, 20);

if (which === 'sdk' || mode === 'legacy') {
  const session = transport.sessionId;
  equal('there is a session', typeof session, 'string');
  await transport.terminateSession();
  const again = await fetch(url, {
    method: 'POST',
    headers: { 'x-ms-apikey': key, 'content-type': 'application/json', 'mcp-session-id': session },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'ping' }),
  });
  equal('a session that was ended', again.status, 404);
} else {
  equal('there is no session', transport.sessionId ?? null, null);
}
await client.close();

const wrong = await connect({ 'x-ms-apikey': key + 'x' }).then(() => 'let in', e => String(e.message));
equal('a wrong key', wrong !== 'let in', true);
process.exit(0);
