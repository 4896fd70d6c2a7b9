package arm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pattern"
)

// What a line of the log may hold of a request is decided here, because everything in a
// request is its caller's choice, and some of it is secret: the query and the body never, the
// identifier never, of the path what says which operation it was, of an error a bounded text.
const (
	maxLoggedError = 500
	maxLoggedPath  = 300
	maxLoggedStack = 8 << 10 // which holds addresses and no values
)

// errNotTaken marks errors of callers that do not take their answer.
var errNotTaken = errors.New("the caller takes no more of the answer")

// NotTaken is the error of a handler whose writing to the caller failed with err: the caller
// has gone or reads too slowly, which is no fault of the server.
func NotTaken(err error) error {
	return &sandpool.Error{Class: sandpool.Unavailable,
		Message: "The caller takes no more of the answer.",
		Err:     errors.Join(errNotTaken, err)}
}

// panicError is a panic of a handler.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// log writes what callers do not see: an internal error's text, and the cause of one that
// may be the server's. What is wrong with a request the caller has been told in full.
func (rs *Responder) log(r *http.Request, err error, status int) {
	e := classify(err)
	level, blame := slog.LevelInfo, err
	switch {
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil, errors.Is(err, errNotTaken):
		level = slog.LevelDebug
	case e.Class == sandpool.Internal:
		level = slog.LevelError
	case e.Class == sandpool.Unavailable:
		level = slog.LevelWarn
	case e.Err == nil && status != 0:
		return
	case e.Class != sandpool.Ended:
		blame = nil // parsers quote what they were given
	}
	if !rs.Log.Enabled(r.Context(), level) {
		return
	}
	path := LoggedPath(r.URL.EscapedPath())
	if rs.Path != nil {
		path = rs.Path(r)
	}
	attrs := []slog.Attr{slog.String("trace", TraceID(r.Context())),
		slog.String("method", clip(r.Method, 20)),
		slog.String("path", path), slog.Int("status", status),
		slog.String("class", e.Class.String())}
	if e.Code != "" {
		attrs = append(attrs, slog.String("code", clip(e.Code, 100)))
	}
	if blame != nil {
		attrs = append(attrs, slog.String("error", clip(masked(blame.Error(), r), maxLoggedError)))
	}
	if p := new(panicError); errors.As(err, &p) {
		attrs = append(attrs, slog.String("stack", clip(string(p.stack), maxLoggedStack)))
	}
	rs.Log.LogAttrs(r.Context(), level, "request", attrs...)
}

// clip cuts s to most bytes, at a character's boundary.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// mask stands in the log for what is not for it.
const mask = "…"

// operationName is what the first segments below a pool's endpoint look like. What does not
// is a name that the caller chose.
var operationName = pattern.Lazy(`^\.?[A-Za-z]+$`)

// LoggedPath returns the part of a path that says what was asked of which resource. Below a
// pool's endpoint come names of files, identifiers, and the paths of containers.
func LoggedPath(path string) string {
	at := endpointEnd(path)
	if at < 0 {
		return clip(path, maxLoggedPath)
	}
	rest := strings.TrimPrefix(path[at:], "/")
	operation, below, more := strings.Cut(rest, "/")
	switch {
	case rest == "":
	case len(operation) > 20 || !operationName().MatchString(operation):
		rest = mask
	case more && below != "":
		rest = operation + "/" + mask
	}
	return clip(path[:at], maxLoggedPath) + "/" + rest
}

// endpointEnd is where the endpoint of a pool ends that path lies in, and negative if it does
// not: subscriptions/S/resourceGroups/G/sessionPools/P.
func endpointEnd(path string) int {
	at := 0
	for i := range 6 {
		for at < len(path) && path[at] == '/' {
			at++
		}
		end := len(path)
		if n := strings.IndexByte(path[at:], '/'); n >= 0 {
			end = at + n
		}
		if i == 4 && !strings.EqualFold(path[at:end], "sessionPools") || at == end {
			return -1
		}
		at = end
	}
	return at
}

// masked returns text without the session identifier of r.
func masked(text string, r *http.Request) string {
	hide := func(secret string) {
		if len(secret) >= sandpool.MinIdentifier {
			text = strings.ReplaceAll(text, secret, mask)
		}
	}
	for _, v := range (Query{r.URL.RawQuery}).Values("identifier") {
		hide(v)
	}
	segments := strings.Split(r.URL.EscapedPath(), "/")
	for i, s := range segments[:len(segments)-1] {
		if strings.EqualFold(s, "identifier") {
			hide(DecodeOnce(segments[i+1]))
		}
	}
	return text
}
