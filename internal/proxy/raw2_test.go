package proxy

import (
	"bytes"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// ask2 sends one request by HTTP/2 without any of the checks that clients make, and returns the
// status of the answer: "reset" if the stream or the connection is refused.
func ask2(t *testing.T, addr string, fields map[string]string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for name, def := range map[string]string{":method": "GET", ":scheme": "http", ":authority": "x",
		":path": "/"} {
		if v, ok := fields[name]; ok {
			def = v
		}
		_ = enc.WriteField(hpack.HeaderField{Name: name, Value: def})
	}
	for name, v := range fields {
		if !strings.HasPrefix(name, ":") {
			_ = enc.WriteField(hpack.HeaderField{Name: name, Value: v})
		}
	}
	_, _ = conn.Write([]byte(http2.ClientPreface))
	fr := http2.NewFramer(conn, conn)
	_ = fr.WriteSettings()
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(),
		EndHeaders: true, EndStream: true})
	status := ""
	dec := hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == ":status" {
			status = f.Value
		}
	})
	for {
		f, err := fr.ReadFrame()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("no answer to %q", fields)
		}
		if err != nil {
			return "reset"
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			if _, err := dec.Write(f.HeaderBlockFragment()); err != nil {
				t.Fatal(err)
			}
			return status
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return "reset"
		}
	}
}
