package agent_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// backPressure checks that code which sends to a peer that never reads has to wait, as on any
// other machine.
func backPressure(t *testing.T, c *agent.Client) {
	t.Helper()
	res := run(t, c, time.Minute, `
import asyncio, socket
server = socket.create_server(("127.0.0.1", 0))
near = socket.create_connection(server.getsockname())
far, _ = server.accept()
near.setblocking(False)
sent = 0
try:
    while sent < 300 << 20: sent += near.send(bytes(1 << 16))
except BlockingIOError: pass
if sent > 16 << 20: print("taken", sent)
for s in (near, far, server): s.close()

async def main():
    async def silent(reader, writer):
        reader._transport.pause_reading()
        await asyncio.sleep(60)
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    drained = 0
    try:
        while drained < 300 << 20:
            writer.write(bytes(1 << 20))
            await asyncio.wait_for(writer.drain(), 1)
            drained += 1 << 20
    except TimeoutError: pass
    if drained > 16 << 20: print("drained", drained)
    writer.transport.abort()
await main()
`)
	if res.Outcome != agent.OK || res.Stdout != "" {
		t.Errorf("sent to a peer that never reads: %q %+v", res.Stdout, res.Error)
	}
}

// largeUpload checks that an upload to an agent that has little time arrives whole.
func largeUpload(t *testing.T, c *agent.Client) {
	t.Helper()
	run(t, c, time.Minute, `
import hashlib, threading
busy = True
def spin():
    while busy: hashlib.sha256(bytes(1 << 20)).digest()
for _ in range(4): threading.Thread(target=spin).start()
`)
	const size = 100 << 20
	data := make([]byte, size)
	_, _ = rand.Read(data) // it never fails
	if _, err := c.Upload(t.Context(), "/mnt/data/large", bytes.NewReader(data), size); err != nil {
		t.Error(err)
	}
	res := run(t, c, time.Minute,
		"busy = False; hashlib.sha256(open('/mnt/data/large', 'rb').read()).hexdigest()")
	if want := fmt.Sprintf("'%x'", sha256.Sum256(data)); res.Text != want {
		t.Errorf("the file has the sum %s, want %s: %+v", res.Text, want, res.Error)
	}
}

// limitsOfCode checks that code gets what the limits of its sandbox have room for, and that what
// is too much ends in an error that says how much there is.
func limitsOfCode(t *testing.T, c *agent.Client) {
	t.Helper()
	// of a template with 1 GiB and 1024 threads of the host
	for _, test := range []struct{ code, want string }{
		{"import os, time, concurrent.futures as f\n" +
			"with f.ThreadPoolExecutor(200) as ex: print(sum(ex.map(lambda _: time.sleep(0.5) or " +
			"1, range(200))))", "200\n"},
		{"with open('/dev/shm/m', 'wb') as m: m.write(bytes(300 << 20))\nprint('written')",
			"written\n"},
		{"with open('/dev/shm/m', 'wb') as m:\n  while True: m.write(bytes(1 << 20))",
			"512 MiB in /dev/shm"},
		{"import subprocess\nps = []\nwhile True: ps.append(subprocess.Popen(['sleep', '60']))",
			"244 processes and threads"},
		{"print([p.kill() or p.wait() for p in ps] and 'all')", "all\n"},
		{"import threading\nend = threading.Event()\nfor _ in range(1000): " +
			"threading.Thread(target=end.wait).start()",
			"244 processes and threads"},
		{"end.set(); os.remove('/dev/shm/m')\nimport mmap\nf = open('/dev/shm/b', 'wb+'); " +
			"f.truncate(600 << 20)\n" +
			"m = mmap.mmap(f.fileno(), 600 << 20)\nfor i in range(0, 600 << 20, 4096): m[i] = 1",
			"/dev/shm, which holds 512 MiB"},
	} {
		res := run(t, c, time.Minute, test.code)
		said := res.Stdout
		if res.Error != nil {
			said = res.Error.Message + res.Error.Traceback
		}
		if !strings.Contains(said, test.want) {
			t.Errorf("%s: %s %q, want %q", test.code, res.Outcome, said, test.want)
		}
	}
}
