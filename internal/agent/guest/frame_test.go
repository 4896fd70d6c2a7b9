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
)

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
	for _, bad := range [][]byte{{0xff, 0xff, 0xff, 0xff},
		append(binary.BigEndian.AppendUint32(nil, 3), "[[["...)} {
		if err := agent.NewFrameReader(bytes.NewReader(bad), maxFrame).Next(&f); err == nil ||
			errors.Is(err, io.EOF) {
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
