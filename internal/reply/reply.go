// Package reply knows what has become of an answer.
package reply

import "net/http"

// Writer is an http.ResponseWriter that knows how far its answer is. One serves all on the way of a
// request who want to know.
type Writer struct {
	http.ResponseWriter
	// Status is the answer's, and zero while it has not begun.
	Status int
	// Bytes are those of the body that were written.
	Bytes int64
}

// Of returns w if it is a Writer, and otherwise a new one around it.
func Of(w http.ResponseWriter) *Writer {
	if known, ok := w.(*Writer); ok {
		return known
	}
	return &Writer{ResponseWriter: w}
}

// WriteHeader implements http.ResponseWriter. Of what is said before an answer (100, 103) nothing
// is remembered.
func (w *Writer) WriteHeader(status int) {
	if w.Status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.Status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *Writer) Write(p []byte) (int, error) {
	if w.Status == 0 {
		w.Status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.Bytes += int64(n)
	return n, err
}

// Flush is here for callers that look for http.Flusher.
func (w *Writer) Flush() {
	if w.Status == 0 {
		w.Status = http.StatusOK
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController reach the rest.
func (w *Writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
