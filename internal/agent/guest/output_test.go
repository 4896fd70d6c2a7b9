package guest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/sandpool/sandpool/internal/agent"
	"unicode/utf8"
)

// FuzzBounded: what is kept is the beginning and the end, whatever the pieces.
func FuzzBounded(f *testing.F) {
	f.Add([]byte("0123456789"), 4, 3)
	f.Add([]byte("äöü漢字😀äöü"), 7, 2)
	f.Fuzz(func(t *testing.T, data []byte, limit, piece int) {
		if limit < 0 || limit > 1000 || piece < 1 {
			return
		}
		b := bounded{limit: limit}
		for rest := data; len(rest) > 0; {
			n := min(piece, len(rest))
			b.write(rest[:n])
			rest = rest[n:]
		}
		text, cut := b.text()
		if cut != (len(data) > limit) {
			t.Fatalf("limit %d, %d bytes: cut %v", limit, len(data), cut)
		}
		if !cut && text != string(data) {
			t.Fatalf("text %q of %q", text, data)
		}
		if cut && len(text) > 3*limit+64 {
			t.Fatalf("%d bytes kept of a limit of %d", len(text), limit)
		}
		if cut && utf8.Valid(data) && !utf8.ValidString(text) {
			t.Fatalf("a rune was cut: %q", text)
		}
	})
}

func TestBounded(t *testing.T) {
	b := bounded{limit: 10}
	for _, s := range []string{"012", "3456", "789abcdef"} {
		b.write([]byte(s))
	}
	if text, cut := b.text(); text != "01234\n[... 6 bytes left out ...]\nbcdef" || !cut {
		t.Errorf("%q, %v", text, cut)
	}
}

// TestFrames: frames arrive whole however they are cut, and what is no frame is an error.
func TestFrames(t *testing.T) {
	var wire bytes.Buffer
	for _, op := range []string{"a", strings.Repeat("b", 100_000), "c"} {
		frame, err := agent.EncodeFrame(map[string]string{"op": op})
		if err != nil {
			t.Fatal(err)
		}
		wire.Write(frame)
	}
	r := agent.NewFrameReader(iotest.HalfReader(&wire), maxFrame)
	for _, want := range []int{1, 100_000, 1} {
		var f kernelFrame
		if err := r.Next(&f); err != nil || len(f.Op) != want {
			t.Fatalf("frame of %d: %d, %v", want, len(f.Op), err)
		}
	}
	var f kernelFrame
	if err := r.Next(&f); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	for _, bad := range [][]byte{{0xff, 0xff, 0xff, 0xff}, append(binary.BigEndian.AppendUint32(nil, 3), "[[["...)} {
		if err := agent.NewFrameReader(bytes.NewReader(bad), maxFrame).Next(&f); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%x: %v", bad, err)
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}\x00\x00\x00\x09{\"op\":\"\"}"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		r := agent.NewFrameReader(bytes.NewReader(data), maxFrame)
		for {
			var k kernelFrame
			if r.Next(&k) != nil {
				return
			}
		}
	})
}
