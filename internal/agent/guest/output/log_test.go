package output

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// started is a log that has begun, and the ends that the host reads.
func started(t *testing.T) (l *Log, host [2]*os.File) {
	t.Helper()
	var to [2]*os.File
	for i := range to {
		var err error
		if host[i], to[i], err = os.Pipe(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = host[i].Close(), to[i].Close() })
		if err := host[i].SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	l = NewLog(int(to[0].Fd()), int(to[1].Fd()))
	l.out.write([]byte("before the beginning\n"))
	if err := l.Begin(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = l.out.file.Close(), l.errs.file.Close() })
	return l, host
}

func TestLog(t *testing.T) {
	l, host := started(t)
	l.out.write([]byte("one\ntwo\n"))
	l.errs.write([]byte("bad\n"))
	lines := bufio.NewReader(host[0])
	for _, want := range []string{"one\n", "two\n"} {
		if got, err := lines.ReadString('\n'); got != want {
			t.Errorf("the host reads %q, %v; want %q", got, err, want)
		}
	}
	if got, err := bufio.NewReader(host[1]).ReadString('\n'); got != "bad\n" {
		t.Errorf("the host reads %q, %v", got, err)
	}
}

// TestLogNobodyReads: a host that does not read holds up nothing, makes the agent hold no more
// than its bound, and learns what it has missed.
func TestLogNobodyReads(t *testing.T) {
	l, host := started(t)
	line := []byte(strings.Repeat("x", 1023) + "\n")
	const lines = 4 << 10
	for range lines {
		l.out.write(line)
	}
	l.out.mu.Lock()
	held := len(l.out.held)
	l.out.mu.Unlock()
	if held > maxHeld {
		t.Errorf("%d bytes are held, more than %d", held, maxHeld)
	}
	l.errs.write([]byte("the other stream goes on\n"))
	if got, err := bufio.NewReader(host[1]).ReadString('\n'); err != nil {
		t.Errorf("the host reads %q, %v", got, err)
	}
	kept, lost := 0, 0
	missing := regexp.MustCompile(`^\[\.\.\. (\d+) bytes left out \.\.\.\]$`)
	for in := bufio.NewScanner(host[0]); kept+lost < lines*len(line) && in.Scan(); {
		if m := missing.FindSubmatch(in.Bytes()); m != nil {
			n, err := strconv.Atoi(string(m[1]))
			if err != nil {
				t.Fatal(err)
			}
			lost += n
		} else if len(in.Bytes()) > 0 {
			kept += len(in.Bytes()) + 1
		}
	}
	if lost == 0 || kept+lost != lines*len(line) {
		t.Errorf("%d bytes are kept and %d are said to be lost, of %d", kept, lost, lines*len(line))
	}
	l.out.write([]byte("again\n"))
	if got, err := bufio.NewReader(host[0]).ReadBytes('\n'); !bytes.Equal(got, []byte("again\n")) {
		t.Errorf("afterwards the host reads %q, %v", got, err)
	}
}

// A log that nobody wants takes nothing.
func TestLogNone(t *testing.T) {
	var l *Log
	if err := l.Begin(); err != nil {
		t.Error(err)
	}
	o, ends, err := Open(os.Getuid(), os.Getgid(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	defer ends.Close()
	fmt.Fprint(ends.Out, "kept")
	o.Drain()
	if text, _ := o.Out.End(true); text != "kept" {
		t.Errorf("without a log %q is kept", text)
	}
}
