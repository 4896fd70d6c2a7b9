package arm

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/sandpool/sandpool"
)

// codeMediaType is the code of errors about the form of a body, whose status is 415.
const codeMediaType = "UnsupportedMediaType"

// acceptEncoding lists what Body decodes, for the header of an answer that refuses something
// else (RFC 7694).
const acceptEncoding = "gzip, deflate"

// Body returns the body of r without its content coding. It reads nothing yet. The caller
// bounds what it reads of it: a small body may decode to a large one.
//
// A coding that is not known is an error with the status 415, and what is not in the coding
// that the request names is one of class Invalid.
func Body(w http.ResponseWriter, r *http.Request) (io.ReadCloser, error) {
	var codings []string
	for _, value := range r.Header.Values("Content-Encoding") {
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.ToLower(strings.TrimSpace(name)); name != "" && name != "identity" {
				codings = append(codings, name)
			}
		}
	}
	if len(codings) == 0 {
		return r.Body, nil
	}
	var open func(io.Reader) (io.Reader, error)
	switch codings[0] {
	case "gzip", "x-gzip":
		open = func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }
	case "deflate":
		open = inflate
	}
	if open == nil || len(codings) > 1 {
		w.Header().Set("Accept-Encoding", acceptEncoding)
		return nil, sandpool.Errorf(sandpool.Unsupported, codeMediaType, "Content-Encoding",
			"The body has the content coding %q; use one of %s, or none.",
			clip(strings.Join(codings, ", "), 60), acceptEncoding)
	}
	return &decoded{body: r.Body, open: open, coding: codings[0]}, nil
}

// inflate opens a body in the coding deflate. By RFC 9110 that is a zlib stream; some
// clients send the bare one inside it.
func inflate(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r)
	head, err := b.Peek(2)
	if err != nil {
		return nil, err
	}
	if head[0]&0x0f == 8 && binary.BigEndian.Uint16(head)%31 == 0 {
		return zlib.NewReader(b)
	}
	return flate.NewReader(b), nil
}

// decoded is a body without its content coding, which is opened by the first Read.
type decoded struct {
	body   io.ReadCloser
	open   func(io.Reader) (io.Reader, error)
	coding string
	r      io.Reader
	source source
}

// source remembers how reading the body itself failed.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// Read implements io.Reader.
func (d *decoded) Read(p []byte) (int, error) {
	if d.r == nil {
		d.source.r = d.body
		r, err := d.open(&d.source)
		if err != nil {
			return 0, d.explain(err)
		}
		d.r = r
	}
	n, err := d.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = d.explain(err)
	}
	return n, err
}

// explain tells a body that did not come from one that is not what it says.
func (d *decoded) explain(err error) error {
	if d.source.err != nil {
		return d.source.err
	}
	return &sandpool.Error{Class: sandpool.Invalid, Code: "InvalidRequestContent",
		Target: "Content-Encoding", Err: err,
		Message: "The body is not in the content coding " + d.coding +
			", which the header Content-Encoding names, or it ends early."}
}

// Close implements io.Closer.
func (d *decoded) Close() error { return d.body.Close() }

// UTF8 returns the text of a body in UTF-8, whose content type is contentType. JSON is UTF-8 by
// its definition, but some clients send it in the encoding of their platform and say so.
func UTF8(data []byte, contentType string) ([]byte, error) {
	_, params, _ := mime.ParseMediaType(contentType) // one that is wrong names no charset
	charset := strings.ToLower(params["charset"])
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		charset = "utf-16" // the mark cannot begin a text in another one
	}
	switch charset {
	case "", "utf-8", "utf8", "us-ascii", "ascii":
		data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
		if !utf8.Valid(data) {
			return nil, sandpool.Errorf(sandpool.Invalid, "InvalidRequestContent", "",
				"The request body is not UTF-8. Encode it so, or name its charset in the header "+
					"Content-Type.")
		}
		return data, nil
	case "utf-16", "utf-16le", "utf-16be":
		return fromUTF16(data, charset)
	case "iso-8859-1", "latin1":
		text := make([]rune, len(data))
		for i, b := range data {
			text[i] = rune(b)
		}
		return []byte(string(text)), nil
	}
	return nil, sandpool.Errorf(sandpool.Unsupported, codeMediaType, "Content-Type",
		"The body has the charset %q; use utf-8.", clip(charset, 60))
}

// fromUTF16 decodes by the byte order mark, without one as charset says, and by RFC 2781 big
// endian if it does not.
func fromUTF16(data []byte, charset string) ([]byte, error) {
	var order binary.ByteOrder = binary.BigEndian
	switch {
	case bytes.HasPrefix(data, []byte("\xff\xfe")):
		order, data = binary.LittleEndian, data[2:]
	case bytes.HasPrefix(data, []byte("\xfe\xff")):
		data = data[2:]
	case charset == "utf-16le":
		order = binary.LittleEndian
	}
	if len(data)%2 != 0 {
		return nil, sandpool.Errorf(sandpool.Invalid, "InvalidRequestContent", "",
			"The request body is not UTF-16: it has an odd number of bytes.")
	}
	units := make([]uint16, len(data)/2)
	for i := range units {
		units[i] = order.Uint16(data[2*i:])
	}
	return []byte(string(utf16.Decode(units))), nil
}
