package agent

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// keptBuffer is the largest buffer that a reader keeps between frames.
const keptBuffer = 64 << 10

// EncodeFrame returns v as a frame: a 4 byte big-endian length, then JSON.
func EncodeFrame(v any) ([]byte, error) {
	buf := bytes.NewBuffer(make([]byte, 4, 512))
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false) // it would make six bytes of each of <, > and &
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode frame: %w", err)
	}
	frame := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	// bounded by MaxCode and the limits of readers
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	return frame, nil
}

// WriteJSON writes v as an answer of the agent's.
func WriteJSON(w http.ResponseWriter, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // a client that is gone needs no answer
	return nil
}

// FrameReader reads frames. A read that a deadline cuts short keeps what it has
// and is continued by the next call. Memory grows with what arrived, not with
// what a header promises.
type FrameReader struct {
	// Limit is the most bytes that a frame may have; a larger one is an error.
	Limit int64
	// Large, if set, is asked about a frame of more than keptBuffer bytes before the rest of
	// it is read. Its error ends reading.
	Large func(size int64) error

	r     io.Reader
	buf   []byte
	asked bool // about the frame that begins buf
}

// NewFrameReader reads frames of at most limit bytes from r.
func NewFrameReader(r io.Reader, limit int64) *FrameReader {
	return &FrameReader{Limit: limit, r: r}
}

// Next decodes the next frame into v.
func (f *FrameReader) Next(v any) error {
	for {
		if body, ok, err := f.cut(); err != nil {
			return err
		} else if ok {
			if err := json.Unmarshal(body, v); err != nil {
				return fmt.Errorf("decode frame: %w", err)
			}
			return nil
		}
		if f.Large != nil && !f.asked && len(f.buf) >= 4 {
			if err := f.ask(); err != nil {
				return err
			}
		}
		if cap(f.buf)-len(f.buf) < 2048 {
			f.grow(2*cap(f.buf) + 4<<10)
		}
		n, err := f.r.Read(f.buf[len(f.buf):cap(f.buf)])
		f.buf = f.buf[:len(f.buf)+n]
		if err != nil && n == 0 {
			return err
		}
	}
}

// ask asks Large about the frame that begins, whose memory is then taken at once.
func (f *FrameReader) ask() error {
	f.asked = true
	size := int64(binary.BigEndian.Uint32(f.buf))
	if size <= keptBuffer {
		return nil
	}
	if err := f.Large(size); err != nil {
		return err
	}
	f.grow(int(size) + 4 + 2048)
	return nil
}

func (f *FrameReader) grow(capacity int) {
	grown := make([]byte, len(f.buf), capacity)
	copy(grown, f.buf)
	f.buf = grown
}

// More reports whether the next frame is there already, or an error.
func (f *FrameReader) More() bool {
	if len(f.buf) < 4 {
		return false
	}
	size := int64(binary.BigEndian.Uint32(f.buf))
	return size > f.Limit || int64(len(f.buf)) >= 4+size
}

// cut takes a whole frame off the buffer. The result is valid until the next read.
func (f *FrameReader) cut() ([]byte, bool, error) {
	if len(f.buf) < 4 {
		return nil, false, nil
	}
	size := int64(binary.BigEndian.Uint32(f.buf))
	if size > f.Limit {
		return nil, false, oversized(f.Limit)
	}
	if int64(len(f.buf)) < 4+size {
		return nil, false, nil
	}
	f.asked = false
	body := f.buf[4 : 4+size : 4+size]
	if rest := f.buf[4+size:]; len(rest) == 0 && cap(f.buf) <= keptBuffer {
		f.buf = f.buf[:0]
	} else {
		f.buf = append([]byte(nil), rest...)
	}
	return body, true, nil
}
