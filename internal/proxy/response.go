package proxy

import (
	"bytes"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// maxHead bounds the head of a container's answer, and its trailer section; nginx allows 32 KiB at
// most unless told otherwise, Go's client 1 MiB.
const maxHead = 64 << 10

// A head is the head of a container's answer.
type head struct {
	status int
	// http10 is an answer of the older protocol, whose connection ends with it.
	http10 bool
	// fields in the order of their arrival: name, value, name, value.
	fields []string
	// length is the body's, -1 if it is not given; chunked is the other way to frame it.
	length  int64
	chunked bool
	// close says that the container ends the connection after its answer.
	close bool
	// drop are the lower-case names that Connection lists.
	drop []string
}

// readHead reads one head. An answer that could be read in two ways is refused, since whoever
// wrote it may mean the other.
func (s *stream) readHead(h *head) error {
	end := 0
	for scanned := 0; ; {
		if end = headEnd(s.buffered(), scanned); end > 0 {
			break
		}
		scanned = s.to - s.from
		if scanned >= maxHead {
			return badAnswer("its head is longer than %d bytes", maxHead)
		}
		if err := s.fill(maxHead); err != nil {
			return err
		}
	}
	if end > maxHead {
		return badAnswer("its head is longer than %d bytes", maxHead)
	}
	text := string(s.buf[s.from : s.from+end])
	s.from += end
	return h.parse(text)
}

// headEnd returns where the empty line in b ends, 0 if there is none. The first scanned bytes
// were looked at before. A line may end with a bare LF (RFC 9112, section 2.2).
func headEnd(b []byte, scanned int) int {
	for i := max(0, scanned-2); i < len(b); {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return 0
		}
		i += n + 1
		switch rest := b[i:]; {
		case len(rest) > 0 && rest[0] == '\n':
			return i + 1
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return i + 2
		}
	}
	return 0
}

// parse reads a head of text, which ends with an empty line.
func (h *head) parse(text string) error {
	*h = head{fields: h.fields[:0], length: -1}
	line, rest, _ := cutLine(text)
	if err := h.statusLine(line); err != nil {
		return err
	}
	var err error
	if h.fields, err = parseFields(h.fields, rest); err != nil {
		return err
	}
	return h.frame()
}

// cutLine cuts text after its first line end.
func cutLine(text string) (line, rest string, ok bool) {
	line, rest, ok = strings.Cut(text, "\n")
	return strings.TrimSuffix(line, "\r"), rest, ok
}

func (h *head) statusLine(line string) error {
	version, rest, _ := strings.Cut(line, " ")
	code, reason, _ := strings.Cut(rest, " ")
	h.http10 = version == "HTTP/1.0"
	if version != "HTTP/1.1" && !h.http10 {
		return badAnswer("its first line is %q", clip(line))
	}
	n, err := strconv.ParseUint(code, 10, 16)
	if err != nil || len(code) != 3 || n < 100 || n > 999 || !fieldText(reason) {
		return badAnswer("its status is %q", clip(rest))
	}
	h.status = int(n)
	return nil
}

// parseFields appends the fields of text, up to its empty line, to fields.
func parseFields(fields []string, text string) ([]string, error) {
	for {
		line, rest, ok := cutLine(text)
		if line == "" {
			if !ok || rest != "" {
				return fields, badAnswer("a line of its head is empty")
			}
			return fields, nil
		}
		text = rest
		name, value, ok := strings.Cut(line, ":")
		// White space before the colon is taken away, as RFC 9112, section 5.1, has it; a folded
		// line, which begins with white space, is refused (section 5.2).
		name = strings.TrimRight(name, " \t")
		value = strings.Trim(value, " \t")
		if !ok || !isToken(name, "") || !fieldText(value) {
			return fields, badAnswer("the line %q of its head is no field", clip(line))
		}
		fields = append(fields, textproto.CanonicalMIMEHeaderKey(name), value)
	}
}

// frame finds how the body is framed.
func (h *head) frame() error {
	var length, coding string
	for i := 0; i < len(h.fields); i += 2 {
		value := h.fields[i+1]
		switch h.fields[i] {
		case "Content-Length":
			if length != "" && length != value {
				return badAnswer("it has two lengths, %q and %q", clip(length), clip(value))
			}
			length = value
			n, err := strconv.ParseUint(value, 10, 63)
			if err != nil {
				return badAnswer("its length is %q", clip(value))
			}
			h.length = int64(n) // ParseUint was told 63 bits
		case "Transfer-Encoding":
			if coding != "" || !strings.EqualFold(value, "chunked") {
				return badAnswer("its transfer coding is %q; only chunked is known",
					clip(coding+value))
			}
			coding, h.chunked = value, true
		case "Connection":
			for name := range strings.SplitSeq(value, ",") {
				h.drop = append(h.drop, strings.ToLower(strings.Trim(name, " \t")))
			}
		}
	}
	switch {
	case h.chunked && length != "":
		return badAnswer("it has a length and is chunked")
	case h.chunked && h.http10:
		return badAnswer("it is chunked, which HTTP/1.0 does not know")
	}
	h.close = listed(h.drop, "close") || h.http10 && !listed(h.drop, "keep-alive")
	return nil
}

// bodyless reports whether an answer with h to method has no body, whatever its fields say.
func (h *head) bodyless(method string) bool {
	return method == http.MethodHead || h.status < 200 ||
		h.status == http.StatusNoContent || h.status == http.StatusNotModified
}

// get returns the value of the first field with the canonical name.
func (h *head) get(name string) string {
	for i := 0; i < len(h.fields); i += 2 {
		if h.fields[i] == name {
			return h.fields[i+1]
		}
	}
	return ""
}

// allowOrigin is in the answer to a page of an origin that the server itself lets in.
const allowOrigin = "Access-Control-Allow-Origin"

// copyTo puts the fields that are for the caller into out. What net/http would add by itself, it
// does not: a content type that the container did not give.
func (h *head) copyTo(out http.Header, t Target) {
	values := make([]string, 0, len(h.fields)/2+2)
	var buf [64]byte
	for i := 0; i < len(h.fields); i += 2 {
		name, value := h.fields[i], h.fields[i+1]
		low := lowerInto(&buf, name)
		if answerPrivate(low, value, t) || listed(h.drop, low) {
			continue
		}
		if strings.HasPrefix(low, "access-control-allow-") && out[allowOrigin] != nil {
			continue // the server lets that page in by its own rules; browsers refuse two words
		}
		if name == "Content-Length" && out[name] != nil {
			continue // twice the same
		}
		if had := out[name]; had != nil {
			out[name] = append(had, value)
			continue
		}
		n := len(values)
		values = append(values, value)
		out[name] = values[n : n+1 : n+1]
	}
	if _, ok := out["Content-Type"]; !ok {
		out["Content-Type"] = nil
	}
	if h.chunked {
		announceTrailers(out, h)
	}
}

// announceTrailers tells the server which trailers may follow. Others are sent by
// http.TrailerPrefix.
func announceTrailers(out http.Header, h *head) {
	for i := 0; i < len(h.fields); i += 2 {
		if h.fields[i] != "Trailer" {
			continue
		}
		for name := range strings.SplitSeq(h.fields[i+1], ",") {
			if name = strings.Trim(name, " \t"); isToken(name, "") && trailerAllowed(name) {
				out.Add("Trailer", http.CanonicalHeaderKey(name))
			}
		}
	}
}

// answerPrivate reports whether a field of an answer, its name in lower case, stays behind.
func answerPrivate(low, value string, t Target) bool {
	switch low {
	case "x-ms-request-id":
		return true // the trace id of ours is in the answer
	case "set-cookie":
		return isOurCookie(value)
	case "service-worker-allowed", "clear-site-data", "strict-transport-security":
		// They speak for a whole origin, which below a path is that of all pools.
		return t.Prefix != ""
	}
	return hopByHop[low] || strings.HasPrefix(low, "x-sandpool-")
}
