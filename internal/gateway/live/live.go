// Package live writes the events of an execution as a stream that a caller reads while the code
// runs: server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), or a
// JSON object a line. Both say the same, and both number the events, so that a caller who was cut
// off can go on where it was.
package live

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/sandpool/sandpool/api"
)

// Form is a form of stream. The zero Form is none.
type Form string

// The forms, which are media types.
const (
	ServerSent Form = "text/event-stream"
	Lines      Form = "application/x-ndjson"
)

// Wanted returns the form that a request asks for by its Accept header, and "" if it wants no
// stream. Only a form that is named counts: "*/*" is what clients send who have no wish.
func Wanted(r *http.Request) Form {
	for _, value := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(value, ",") {
			name, _, _ := strings.Cut(part, ";")
			switch form := Form(strings.ToLower(strings.TrimSpace(name))); form {
			case ServerSent, Lines:
				return form
			case "application/ndjson":
				return Lines
			}
		}
	}
	return ""
}

// Header sets the headers of a stream. Nothing between us and the caller shall keep or gather it.
func (f Form) Header(h http.Header) {
	h.Set("Content-Type", string(f)+"; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
}

// Encode returns an event in the form.
func (f Form) Encode(e api.ExecutionEvent) ([]byte, error) {
	id := ""
	if e.Sequence > 0 {
		id = strconv.FormatInt(e.Sequence, 10)
	}
	return f.frame(nil, id, e.Type, e)
}

// EncodeAs returns what is no event of an execution in the form; an id of 0 is none.
func (f Form) EncodeAs(id int64, kind string, v any) ([]byte, error) {
	text := ""
	if id > 0 {
		text = strconv.FormatInt(id, 10)
	}
	return f.frame(nil, text, kind, v)
}

// AppendLine appends a line of a log in the form.
func (f Form) AppendLine(b []byte, l api.LogLine) ([]byte, error) {
	return f.frame(b, l.Next, "line", l)
}

// Heartbeat is a piece of a stream that says nothing, for what ends connections on which
// nothing flows.
func (f Form) Heartbeat() []byte {
	if f == ServerSent {
		return []byte(": \n\n")
	}
	return []byte("\n")
}

// frame appends one event to b. Neither id nor kind has a line break in it.
func (f Form) frame(b []byte, id, kind string, v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode the event %q: %w", id, err)
	}
	if f == Lines {
		return append(append(b, text...), '\n'), nil
	}
	// JSON has no line breaks, so one line of data is all.
	if id != "" {
		b = append(b, "id: "...)
		b = append(b, id...)
		b = append(b, '\n')
	}
	b = append(b, "event: "...)
	b = append(b, kind...)
	b = append(b, "\ndata: "...)
	b = append(b, text...)
	return append(b, "\n\n"...), nil
}
