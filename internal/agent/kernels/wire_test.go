package kernels

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/need"
)

// wireProgram sends by the module wire.js without end, until it is interrupted, and then one frame
// that says so, again and again.
const wireProgram = `
const wire = {}, vm = require("node:vm"), large = "x".repeat(+process.argv[2]);
new Function("exports", "require", process.argv[3])(wire, require);
const w = new wire.Wire(3, () => {}, () => process.reallyExit(1));
process.on("SIGINT", () => {});
globalThis.endless = () => { for (;;) w[process.argv[1]]({ op: process.argv[1], large }); };
const step = new vm.Script("endless()");
const round = () => {
	try {
		step.runInThisContext({ breakOnSigint: true });
	} catch (e) {
		if (e.code !== "ERR_SCRIPT_EXECUTION_INTERRUPTED") throw e;
	}
	w.settle({ op: "round" });
	setImmediate(round);
};
setImmediate(round);`

// An interrupt that ends the sending of a frame, wherever it does, leaves the wire whole: no frame
// is cut or sent in parts, and no acknowledgement is waited for that came or never comes.
func TestNodeWireInterrupted(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		need.Lack(t, "node: %v", err)
	}
	module, err := nodeFiles.ReadFile("node/wire.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		by, size string
		rounds   int
	}{{"settle", "10", 150}, {"send", "3000000", 10}} {
		t.Run(c.by, func(t *testing.T) {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			ours, theirs := os.NewFile(uintptr(pair[0]), ""), os.NewFile(uintptr(pair[1]), "")
			conn, err := net.FileConn(ours)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			cmd := exec.CommandContext(t.Context(), node, "-e", wireProgram, "--", c.by, c.size,
				string(module))
			cmd.ExtraFiles, cmd.Stderr = []*os.File{theirs}, os.Stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()         //nolint:errcheck // it is killed
			defer cmd.Process.Kill() //nolint:errcheck // it may have ended
			for _, f := range []*os.File{ours, theirs} {
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
			interrupted(t, conn, cmd.Process, c.by, c.rounds)
		})
	}
}

// interrupted interrupts the program in each of so many rounds.
func interrupted(t *testing.T, conn net.Conn, p *os.Process, by string, rounds int) {
	ack := append([]byte{0, 0, 0, 12}, `{"op":"ack"}`...)
	for frames := 0; rounds > 0; frames++ {
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		var size uint32
		var frame struct{ Op string }
		err := binary.Read(conn, binary.BigEndian, &size)
		if err == nil && size > 4<<20 {
			t.Fatalf("%d rounds before the end, a frame has %d bytes", rounds, size)
		}
		body := make([]byte, size)
		if err == nil {
			_, err = io.ReadFull(conn, body)
		}
		if err == nil {
			err = json.Unmarshal(body, &frame)
		}
		if err != nil || frame.Op != by && frame.Op != "round" {
			t.Fatalf("%d rounds before the end: %v %.40q", rounds, err, body)
		}
		if frame.Op == "round" {
			frames, rounds = 0, rounds-1
		}
		if frame.Op == "settle" || frame.Op == "round" {
			if _, err := conn.Write(ack); err != nil {
				t.Fatal(err)
			}
		}
		if frames == 3 {
			time.AfterFunc(time.Duration(rand.IntN(4000))*time.Microsecond, func() {
				_ = p.Signal(os.Interrupt) // one that has ended is noticed above
			})
		}
	}
}
