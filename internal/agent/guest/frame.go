package guest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// maxFrame bounds what a kernel may send at once. Its runner keeps well below;
// only a cell that forges frames goes beyond.
const maxFrame = 48 << 20

// encodeFrame returns v as a frame: a 4 byte big-endian length, then JSON.
func encodeFrame(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode frame: %w", err)
	}
	frame := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint32(frame, uint32(len(body))) //nolint:gosec // bounded by agent.MaxCode and maxFrame
	return append(frame, body...), nil
}

// frameReader reads frames. A read that a deadline cuts short keeps what it has
// and is continued by the next call. Memory grows with what arrived, not with
// what a header promises.
type frameReader struct {
	r   io.Reader
	buf []byte
}

// next decodes the next frame into v.
func (f *frameReader) next(v any) error {
	for {
		if body, ok, err := f.cut(); err != nil {
			return err
		} else if ok {
			if err := json.Unmarshal(body, v); err != nil {
				return fmt.Errorf("decode frame: %w", err)
			}
			return nil
		}
		if cap(f.buf)-len(f.buf) < 4096 {
			grown := make([]byte, len(f.buf), 2*cap(f.buf)+16<<10)
			copy(grown, f.buf)
			f.buf = grown
		}
		n, err := f.r.Read(f.buf[len(f.buf):cap(f.buf)])
		f.buf = f.buf[:len(f.buf)+n]
		if err != nil && n == 0 {
			return err
		}
	}
}

// cut takes a whole frame off the buffer. The result is valid until the next read.
func (f *frameReader) cut() ([]byte, bool, error) {
	if len(f.buf) < 4 {
		return nil, false, nil
	}
	size := int(binary.BigEndian.Uint32(f.buf))
	if size > maxFrame {
		return nil, false, fmt.Errorf("frame of %d bytes is beyond %d", size, maxFrame)
	}
	if len(f.buf) < 4+size {
		return nil, false, nil
	}
	body := f.buf[4 : 4+size : 4+size]
	if rest := f.buf[4+size:]; len(rest) == 0 && cap(f.buf) <= 1<<20 {
		f.buf = f.buf[:0]
	} else {
		f.buf = append([]byte(nil), rest...)
	}
	return body, true, nil
}
