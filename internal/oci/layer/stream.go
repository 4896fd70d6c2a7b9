package layer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// errCompression marks errors of a decompressor, beside those of what it reads.
var errCompression = errors.New("the compression is damaged")

// maxWindow bounds what a zstd layer can make the decoder hold; zstd's own tools need a
// flag to read more.
const maxWindow = 128 << 20

// Decompress reads r by its first bytes, and says whether it is compressed: the media type of a
// layer is often wrong. How much comes out is the caller's to bound.
func Decompress(r io.Reader) (plain io.ReadCloser, is bool, err error) {
	b := bufio.NewReaderSize(r, 256<<10)
	magic, err := b.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, false, fmt.Errorf("%w: %w", errCompression, err)
		}
		return compressed{z, z.Close}, true, nil
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}), skippable(magic):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, false, fmt.Errorf("%w: %w", errCompression, err)
		}
		return compressed{z, func() error { z.Close(); return nil }}, true, nil
	case bytes.HasPrefix(magic, []byte("BZh")), bytes.HasPrefix(magic, []byte{0xfd, '7', 'z', 'X',
		'Z', 0}):
		return nil, false,
			invalid("A layer is compressed with bzip2 or xz; gzip, zstd and none are read.")
	}
	return io.NopCloser(b), false, nil
}

// skippable says whether a zstd stream begins with a frame to be skipped, as those with an
// index do.
func skippable(magic []byte) bool {
	return len(magic) >= 4 && magic[0]&0xf0 == 0x50 &&
		bytes.Equal(magic[1:4], []byte{0x2a, 0x4d, 0x18})
}

// compressed marks the errors of a decompressor.
type compressed struct {
	io.Reader
	close func() error
}

// Read implements io.Reader.
func (c compressed) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	if err != nil && !errors.Is(err, io.EOF) && !isSource(err) {
		err = fmt.Errorf("%w: %w", errCompression, err)
	}
	return n, err
}

// Close implements io.Closer.
func (c compressed) Close() error { return c.close() }

// sourceError is an error of what a decompressor reads.
type sourceError struct{ error }

func (e sourceError) Unwrap() error { return e.error }

func isSource(err error) bool {
	var s sourceError
	return errors.As(err, &s)
}

// meter counts what is read of a download.
type meter struct {
	r     io.Reader
	ctx   context.Context
	count *int64
}

// Read implements io.Reader.
func (m *meter) Read(b []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, sourceError{err}
	}
	n, err := m.r.Read(b)
	*m.count += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		err = sourceError{err}
	}
	return n, err
}

// stream is a layer as it comes out of the decompressor.
type stream struct {
	r     io.Reader
	spent *spent
	sum   hash.Hash
}

// Read implements io.Reader.
func (s *stream) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	s.sum.Write(b[:n])
	if over := s.spent.addStream(n); over != nil {
		return 0, over
	}
	return n, err
}
