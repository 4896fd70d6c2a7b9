package audit

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
)

// Recorder writes what requests change and which are refused.
type Recorder struct {
	log *Log
	// failed tells that a record could not be written.
	failed *slog.Logger
	trace  func(context.Context) string
	path   func(*http.Request) string

	// Lost is called when a record could not be written, from many goroutines; nil means that
	// nobody else is told. It is set before the Recorder is used.
	Lost func()
}

// NewRecorder returns a Recorder that writes to log. trace returns the trace id of a request's
// context, and path what of a request's path may be written. What cannot be written is an error of
// the server's own log.
func NewRecorder(log *Log, failed *slog.Logger, trace func(context.Context) string,
	path func(*http.Request) string) (*Recorder, error) {
	if log == nil || failed == nil || trace == nil || path == nil {
		return nil, errors.New("audit: a log and what a record is made of are required")
	}
	return &Recorder{log: log, failed: failed, trace: trace, path: path}, nil
}

// change is what handlers say of the request that they are answering.
type change struct {
	before, after json.RawMessage
	code, message string
}

type changeKey struct{}

// Changed says what a request has changed: the resource before and after, as the API shows it. nil
// stands for none. Outside of Changes it does nothing.
func Changed(ctx context.Context, before, after any) {
	c, ok := ctx.Value(changeKey{}).(*change)
	if !ok {
		return
	}
	c.before, c.after = text(before), text(after)
}

func text(v any) json.RawMessage {
	if v == nil {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil || string(b) == "null" {
		return nil
	}
	return b
}

// Changes records the requests to next that are to change something.
func (rec *Recorder) Changes(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead ||
			r.Method == http.MethodOptions {
			next.ServeHTTP(w, r)
			return
		}
		c := &change{}
		r = r.WithContext(context.WithValue(r.Context(), changeKey{}, c))
		sw := &statusWriter{ResponseWriter: w}
		sw.first = func() { rec.changed(r, c, sw.status) }
		next.ServeHTTP(sw, r)
		sw.done()
	})
}

func (rec *Recorder) changed(r *http.Request, c *change, status int) {
	out := rec.record(r)
	out.Status, out.Before, out.After = status, c.before, c.after
	out.Code, out.Message = c.code, c.message
	switch {
	case status < http.StatusBadRequest:
		out.Outcome = api.AuditDone
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		out.Outcome = api.AuditRefused
		rec.refuse(r, out)
		return
	default:
		out.Outcome = api.AuditFailed
		rec.refuse(r, out) // a caller may send any number of them
		return
	}
	rec.write(out, rec.log.Append)
}

// Failed records that a request is answered with the error e, if that is a refusal.
func (rec *Recorder) Failed(r *http.Request, status int, e *sandpool.Error) {
	if c, ok := r.Context().Value(changeKey{}).(*change); ok {
		if c.code = e.Code; refusal(e) { // others may quote what the caller has sent
			c.message = e.Message
		}
		return // Changes writes it
	}
	if !refusal(e) {
		return
	}
	out := rec.record(r)
	out.Status, out.Outcome, out.Code, out.Message = status, api.AuditRefused, e.Code, e.Message
	rec.refuse(r, out)
}

func (rec *Recorder) refuse(r *http.Request, out Record) {
	who, _ := auth.FromContext(r.Context())
	rec.write(out, func(out Record) error { return rec.log.Refuse(out, len(who.Grants) == 0) })
}

func refusal(e *sandpool.Error) bool {
	return e.Class == sandpool.Denied || e.Class == sandpool.Unauthenticated
}

// Done records what is no request of a caller to the control plane: something that has ended by
// itself, or that code in a sandbox was given.
func (rec *Recorder) Done(out Record) {
	out.Outcome = api.AuditDone
	rec.write(out, rec.log.Append)
}

// SignedIn records who has signed in by a request, with what is known of it, such as its end.
func (rec *Recorder) SignedIn(r *http.Request, who, name string, about any) {
	out := rec.record(r)
	out.Who, out.Name, out.Status, out.After = who, clip(name), http.StatusOK, text(about)
	rec.Done(out)
}

// Refused records that something of the kind was refused.
func (rec *Recorder) Refused(out Record) {
	out.Outcome, out.Message = api.AuditRefused, clip(out.Message)
	rec.write(out, func(out Record) error { return rec.log.Refuse(out, true) })
}

// maxText bounds what a record holds of a caller's choice.
const maxText = 500

func (rec *Recorder) record(r *http.Request) Record {
	who, _ := auth.FromContext(r.Context())
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		from = r.RemoteAddr
	}
	return Record{Who: who.Subject, Name: who.Name, From: from, Action: clip(r.Method),
		On: clip(rec.path(r)), Trace: rec.trace(r.Context())}
}

func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, "�")
}

func (rec *Recorder) write(r Record, append func(Record) error) {
	r.Message = clip(r.Message)
	if err := append(r); err != nil {
		rec.failed.Error("a record could not be written", "action", r.Action, "on", r.On,
			"who", r.Who, "error", err)
		if rec.Lost != nil {
			rec.Lost()
		}
	}
}

// statusWriter calls first before the answer begins.
type statusWriter struct {
	http.ResponseWriter
	status int
	first  func()
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
		w.first()
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	w.done()
	return w.ResponseWriter.Write(b)
}

// done counts an answer without a status as the 200 that it is.
func (w *statusWriter) done() {
	if w.status == 0 {
		w.status = http.StatusOK
		w.first()
	}
}

// Unwrap lets http.ResponseController reach the rest.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
