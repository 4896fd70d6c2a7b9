package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// maxChunkLine bounds a chunk's size with its extensions, which are dropped.
const maxChunkLine = 4 << 10

// readBody hands the body of an answer with head h to sink, piece by piece, and a chunked one's
// trailers to trailer. whole is false of a body that ends with its connection, which then cannot be
// used again.
func (s *stream) readBody(
	h *head, sink func([]byte) error, trailer func(name, value string),
) error {
	switch {
	case h.chunked:
		return s.readChunked(sink, trailer)
	case h.length >= 0:
		return s.readSized(h.length, sink)
	}
	for {
		p, err := s.next(largeBuffer)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := sink(p); err != nil {
			return err
		}
	}
}

func (s *stream) readSized(n int64, sink func([]byte) error) error {
	for n > 0 {
		p, err := s.next(n)
		if err != nil {
			return unexpected(err)
		}
		n -= int64(len(p))
		if err := sink(p); err != nil {
			return err
		}
	}
	return nil
}

// unexpected is what an end of file means in the middle of something.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readChunked undoes the chunked coding, in its strict form: lines end with CR LF.
func (s *stream) readChunked(sink func([]byte) error, trailer func(name, value string)) error {
	for {
		line, err := s.line(maxChunkLine)
		if err != nil {
			return err
		}
		n, ok := chunkSize(line)
		if !ok {
			return badAnswer("a chunk's size is %q", clip(line))
		}
		if n == 0 {
			return s.readTrailers(trailer)
		}
		if err := s.readSized(n, sink); err != nil {
			return err
		}
		if line, err = s.line(0); err != nil {
			return err
		}
		if line != "" {
			return badAnswer("a chunk is longer than its size")
		}
	}
}

// chunkSize reads a chunk's size from its line. Fifteen digits are more than any body has.
func chunkSize(line string) (int64, bool) {
	digits, extension, _ := strings.Cut(line, ";")
	digits = strings.TrimRight(digits, " \t")
	if len(digits) > 15 || !fieldText(extension) {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 63)
	return int64(n), err == nil // ParseUint was told 63 bits
}

// line reads up to a CR LF, of which at most limit bytes are before it.
func (s *stream) line(limit int) (string, error) {
	for {
		b := s.buffered()
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			if i == 0 || b[i-1] != '\r' || i-1 > limit {
				return "", badAnswer("its chunks have a line that does not end as it should")
			}
			line := string(b[:i-1])
			s.from += i + 1
			return line, nil
		}
		if len(b) > limit+1 {
			return "", badAnswer("its chunks have a line longer than %d bytes", limit)
		}
		if err := s.fill(maxHead); err != nil {
			return "", unexpected(err)
		}
	}
}

// readTrailers reads the section that ends a chunked body.
func (s *stream) readTrailers(trailer func(name, value string)) error {
	var text strings.Builder
	for {
		line, err := s.line(maxHead)
		if err != nil {
			return err
		}
		text.WriteString(line + "\n")
		if line == "" {
			break
		}
		if text.Len() > maxHead {
			return badAnswer("its trailers are longer than %d bytes", maxHead)
		}
	}
	if text.Len() == 1 {
		return nil
	}
	fields, err := parseFields(nil, text.String())
	if err != nil {
		return err
	}
	for i := 0; i < len(fields); i += 2 {
		if trailerAllowed(fields[i]) {
			trailer(fields[i], fields[i+1])
		}
	}
	return nil
}

// A sender writes a request's body to a stream while its answer is awaited.
type sender struct {
	st   *stream
	r    *http.Request
	kind bodyKind
	// read reads the body.
	read func([]byte) (int, error)
	buf  []byte
}

// errBody is a body that the caller did not send whole.
type errBody struct{ error }

// send writes the whole body, and the trailers of a chunked one. An errBody is the caller's fault,
// any other error the container's.
func (d *sender) send() error {
	for {
		// Room before and after for the frame of a chunk.
		const before, after = 10, 2
		n, err := d.read(d.buf[before : len(d.buf)-after])
		if n > 0 {
			if werr := d.write(d.buf, before, n); werr != nil {
				return werr
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return d.finish()
		case err != nil:
			return errBody{err}
		}
	}
}

// write sends the n bytes of b that begin at from, framed.
func (d *sender) write(b []byte, from, n int) error {
	d.st.writing()
	if d.kind == sizedBody {
		_, err := d.st.Write(b[from : from+n])
		return err
	}
	b = append(b[:from+n], "\r\n"...)
	b[from-1], b[from-2] = '\n', '\r'
	i := from - 2
	for rest := n; rest > 0; rest >>= 4 {
		i--
		b[i] = "0123456789abcdef"[rest&15]
	}
	_, err := d.st.Write(b[i:])
	return err
}

// finish ends a chunked body.
func (d *sender) finish() error {
	if d.kind != chunkedBody {
		return nil
	}
	b := []byte("0\r\n")
	for name, values := range d.r.Trailer {
		if !trailerAllowed(name) || checkField(name, values) != nil {
			continue
		}
		for _, v := range values {
			b = append(append(append(append(b, name...), ": "...), v...), "\r\n"...)
		}
	}
	d.st.writing()
	_, err := d.st.Write(append(b, "\r\n"...))
	return err
}
