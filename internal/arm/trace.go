package arm

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

type traceKey struct{}

// Trace gives every request a trace id: that of a valid W3C traceparent header
// (https://www.w3.org/TR/trace-context/), or a random one; one that WithTrace has given it stays.
// The id is in the context, and in the answer's header x-ms-request-id.
func Trace(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := TraceID(r.Context())
		if parent := r.Header.Get("Traceparent"); id == "" && parent != "" {
			id = parseTraceparent(parent)
		}
		if id == "" {
			id = newTraceID()
		}
		w.Header().Set("X-Ms-Request-Id", id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), traceKey{}, id)))
		linger(w)
	})
}

// WithTrace gives a request the id of a trace that another server of ours has begun. What is none
// is left out.
func WithTrace(ctx context.Context, id string) context.Context {
	if !isHex(id, 32) || strings.Trim(id, "0") == "" {
		return ctx
	}
	return context.WithValue(ctx, traceKey{}, id)
}

// lingerTime is how long the rest of a body may take that no handler has read.
const lingerTime = 5 * time.Second

// linger bounds how long the server reads a request's body after its handler is done. It
// does so before it sends the answer and without a deadline of its own, so anybody, also a caller
// without a token, could keep connections by announcing a body and not sending it. A
// handler that closes the connection has dealt with the body itself.
func linger(w http.ResponseWriter) {
	if w.Header().Get("Connection") != "close" {
		// tests' writers have none
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(lingerTime))
	}
}

// TraceID returns the trace id of the request that ctx belongs to, and "" outside one.
func TraceID(ctx context.Context) string {
	id, _ := ctx.Value(traceKey{}).(string)
	return id
}

func newTraceID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}

// parseTraceparent returns the trace id of version-traceid-parentid-flags, and "" of what is none.
// Versions above 00 may have more parts; ff is forbidden.
func parseTraceparent(s string) string {
	parts := strings.Split(s, "-")
	if len(parts) < 4 || !isHex(parts[0], 2) || parts[0] == "ff" || parts[0] == "00" &&
		len(parts) != 4 {
		return ""
	}
	id, parent := parts[1], parts[2]
	if isHex(id, 32) && isHex(parent, 16) && isHex(parts[3], 2) &&
		strings.Trim(id, "0") != "" && strings.Trim(parent, "0") != "" {
		return id
	}
	return ""
}

// isHex reports whether s is n lower-case hexadecimal digits.
func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}
