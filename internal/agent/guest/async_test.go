package guest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// TestEventLoop: whichever way code makes the event loop its own, as in a script or as in a
// notebook, it works, in the same session and one after another.
func TestEventLoop(t *testing.T) {
	s := start(t)
	s.run(t, "import asyncio, time\nasync def f(x):\n  await asyncio.sleep(0.01)\n  return x\n"+
		"async def tell(x):\n  print(await f(x))")
	for _, c := range []struct {
		code string
		want want
	}{
		{"t = asyncio.create_task(f(1))\nawait t", want{text: "1"}},
		{"loop = asyncio.get_event_loop(); loop.run_until_complete(f(2))", want{text: "2"}},
		{"asyncio.run(f(3))", want{text: "3"}},
		{"loop = asyncio.get_event_loop(); loop.run_until_complete(f(4))", want{text: "4"}},
		{"t = asyncio.create_task(f(5))", want{}},
		{"await t", want{text: "5"}},
		{"t = asyncio.get_event_loop().create_task(f(6))", want{}},
		{"await t", want{text: "6"}},
		{"loop = asyncio.get_running_loop(); t = loop.create_task(f(7))", want{}},
		{"await t", want{text: "7"}},
		{"t = asyncio.ensure_future(f(8)); g = asyncio.gather(f(9), t)", want{}},
		{"await g", want{text: "[9, 8]"}},
		{"def begin(): return asyncio.create_task(f(10))\nt = begin()", want{}},
		{"asyncio.get_event_loop().run_until_complete(t)", want{text: "10"}},
		{"try:\n  asyncio.get_running_loop()\nexcept RuntimeError:\n  asyncio.run(tell(11))",
			want{stdout: "11\n"}},
		{"await tell(1); asyncio.run(tell(2)); " +
			"asyncio.get_event_loop().run_until_complete(tell(3)); await tell(4)", want{
			stdout: "1\n2\n3\n4\n"}},
		{"with asyncio.Runner() as r: print(r.run(f(12)))\nawait f(13)",
			want{stdout: "12\n", text: "13"}},
		{"loop = asyncio.new_event_loop(); asyncio.set_event_loop(loop); t = " +
			"loop.create_task(f(14))", want{}},
		{"await t", want{text: "14"}},
		{"loop.close()", want{}},
		{"await f(15)", want{text: "15"}},
		{"async def gen():\n  for i in range(3): yield i\nasync for i in gen(): print(i)\n[i " +
			"async for i in gen()]", want{stdout: "0\n1\n2\n", text: "[0, 1, 2]"}},
		{"async with asyncio.TaskGroup() as g: t = g.create_task(f(16))\nt.result()",
			want{text: "16"}},
		{"async with asyncio.timeout(5): x = await f(17)\nx + await asyncio.wait_for(f(1), 5)",
			want{text: "18"}},
		{"import threading; seen = []\nw = threading.Thread(target=lambda: " +
			"seen.append(asyncio.run(f(19)))); w.start(); w.join(); seen", want{text: "[19]"}},
		{"import decimal; decimal.getcontext().prec = 5; await f(0)", want{text: "0"}},
		{"decimal.Decimal(1) / 3", want{text: "Decimal('0.33333')"}},
		{"import contextvars; v = contextvars.ContextVar('v'); v.set(1);", want{}},
		{"await f(0); v.set(v.get() + 1);", want{}},
		{"v.get()", want{text: "2"}},
		{"r = asyncio.Runner(); r.run(f(20))", want{text: "20"}},
		{"r.close(); await f(21)", want{text: "21"}},
		{"r = asyncio.Runner(); await f(22) + r.run(f(1))", want{text: "23"}},
		{"await f(0); r.close(); await f(24)", want{text: "24"}},
		{"async def bad(): 1/0\nawait bad()", want{outcome: agent.Failed,
			error: "ZeroDivisionError"}},
		{"await f(0); raise SystemExit(3)", want{outcome: agent.Failed, error: "SystemExit"}},
		{"await f(20)", want{text: "20"}},
	} {
		c.want.check(t, c.code, s.run(t, c.code))
	}
}

// TestTasksGoOn: a task that outlives its cell goes on while no cell runs.
func TestTasksGoOn(t *testing.T) {
	s := start(t)
	s.run(t, "import asyncio, os\nasync def work():\n  for i in range(3):\n    await "+
		"asyncio.sleep(0.01)\n    print('step', i)\n  os.mkdir('done')\nt = "+
		"asyncio.create_task(work())")
	s.awaitFile(t, "done")
	if res := s.run(t, "t.done()"); res.Text != "True" || res.Stdout != "step 0\nstep 1\nstep 2\n" {
		t.Errorf("the task: done %s, %q, %+v", res.Text, res.Stdout, res.Error)
	}
	s.run(t, "async def serve(r, w):\n  w.write(b'hello'); w.close()\nserver = await "+
		"asyncio.start_server(serve, '127.0.0.1', 0)\nport = server.sockets[0].getsockname()[1]")
	s.run(t, "import threading, socket\ndef ask():\n  open('heard', "+
		"'wb').write(socket.create_connection(('127.0.0.1', port)).recv(9))\n"+
		"threading.Timer(0.1, ask).start()")
	s.awaitFile(t, "heard")
	// A task that holds everything up is interrupted like a cell.
	s.run(t, "import time\nasync def hold(): time.sleep(60)\nt = asyncio.create_task(hold())")
	if res := s.runFor(t, 300*time.Millisecond, "1"); res.Outcome != agent.OK &&
		res.Outcome != agent.TimeoutInterrupted {
		t.Errorf("after a task that holds everything up: %+v", res)
	}
	if res := s.run(t, "port > 0"); res.Text != "True" {
		t.Errorf("state is lost: %+v", res)
	}
}

// TestInterruptedAwait: the traceback of a cell that was interrupted says where it was.
func TestInterruptedAwait(t *testing.T) {
	s := start(t)
	res := s.runFor(t, 300*time.Millisecond,
		"import asyncio\nasync def deep():\n  await asyncio.sleep(60)\nawait deep()")
	if res.Outcome != agent.TimeoutInterrupted || res.Error == nil ||
		!strings.Contains(res.Error.Traceback, "in deep()") {
		t.Errorf("%+v, error %+v", res, res.Error)
	}
}
