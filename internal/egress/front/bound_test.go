package front

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
)

// crowd is a Front with sandboxes of different addresses, all on this machine.
func crowd(t *testing.T, most int, n sandpool.Network) *world {
	t.Helper()
	w := newWorld(t, n)
	w.front.most = most
	return w
}

// from connects as the sandbox with an address, and reports whether the Front listens to it.
func (w *world) from(sandbox string) (conn net.Conn, open bool) {
	w.t.Helper()
	w.mu.Lock()
	w.to = netip.MustParseAddrPort("93.184.216.34:80")
	w.mu.Unlock()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(sandbox)}}
	conn, err := d.Dial("tcp4", w.at)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n")
	_, err = conn.Read(make([]byte, 1))
	return conn, err == nil
}

// All sandboxes together have so many connections. A sandbox that has few gets one all the same,
// and who is refused is told of.
func TestLinksOfAll(t *testing.T) {
	const most = 40
	w := crowd(t, most, allow("a.example.com"))
	greedy := 0
	for _, open := w.from("127.0.0.2"); open; _, open = w.from("127.0.0.2") {
		if greedy++; greedy > most {
			t.Fatalf("one sandbox has %d connections, of %d", greedy, most)
		}
	}
	modest := 0
	for _, open := w.from("127.0.0.3"); open; _, open = w.from("127.0.0.3") {
		if modest++; modest > fewLinks {
			break
		}
	}
	if greedy != most || modest != fewLinks {
		t.Errorf("the connections are %d of one sandbox and %d of another, want %d and %d",
			greedy, modest, most, fewLinks)
	}
	if len(w.told()) != 2 || !strings.Contains(w.told()[0].Reason, "all sandboxes") {
		t.Errorf("the refusals are %+v", w.told())
	}
}

// What a sandbox can make one connection hold, by a first message or a request that does not end,
// or by an answer that nobody takes, is what maxLinks reckons with.
func TestMemoryOfLinks(t *testing.T) {
	const links, each = 100, 256 << 10
	endless := bytes.Repeat([]byte("x"), 1<<20)
	record := []byte{recordHandshake, 3, 1, 0x40, 0} // of 16 KiB
	hello := append([]byte{}, record...)
	hello = append(hello, 1, 0, 0xff, 0xff) // a ClientHello of 64 KiB
	hello = append(hello, endless[:16<<10-4]...)
	for range 2 { // and no end of it
		hello = append(append(hello, record...), endless[:16<<10]...)
	}
	for name, say := range map[string]struct {
		port int
		text []byte
	}{
		"a first message": {443, hello},
		"a header": {80, fmt.Appendf(nil, "GET / HTTP/1.1\r\nHost: a.example.com\r\nX: %s",
			endless[:maxHeader-100])},
		"a body": {80, fmt.Appendf(nil,
			"PUT / HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: 9999999999\r\n\r\n%s",
			endless)},
	} {
		t.Run(name, func(t *testing.T) {
			deaf, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer deaf.Close()
			at := netip.AddrPortFrom(shared, uint16(say.port))
			w := openWorld(&world{t: t, servers: map[netip.AddrPort]string{
				at: deaf.Addr().String()}}, allow("a.example.com"))
			before := memory()
			for range links {
				conn := w.dial(fmt.Sprintf("93.184.216.34:%d", say.port))
				_ = conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
				_, _ = conn.Write(say.text) // what does not fit, the kernel refuses
			}
			got, tick := 0, time.NewTicker(20*time.Millisecond)
			defer tick.Stop()
			for range 20 { // by when all of it has been read
				<-tick.C
				got = max(got, (memory()-before)/links)
			}
			if got > each {
				t.Errorf("a connection holds %d KiB, want at most %d", got>>10, each>>10)
			} else {
				t.Logf("a connection holds %d KiB", got>>10)
			}
		})
	}
}

// memory is what the process holds.
func memory() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}
