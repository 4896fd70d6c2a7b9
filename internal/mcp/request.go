package mcp

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/budget"
)

// maxHeaders bounds the header fields that a call may send.
const maxHeaders = 64

type requestArguments struct {
	EnvironmentID string            `json:"environmentId"`
	Method        string            `json:"method"`
	Path          string            `json:"path"`
	Headers       map[string]string `json:"headers"`
	Body          *string           `json:"body"`
	Encoding      string            `json:"encoding"`
	Timeout       *json.Number      `json:"timeoutInSeconds"`
}

// requestTool is the tool that sends a request to a container.
func requestTool() tool {
	encoding := schema{"type": "string", "enum": []string{"utf-8", "base64"}}
	return tool{
		name: "sendHttpRequest", title: "Send an HTTP request",
		description: fmt.Sprintf("Send an HTTP request to the program in an environment, and get "+
			"its answer, of which at most %d bytes are returned.", maxRead),
		input: object([]string{"path"}, schema{
			nameEnvironment: environmentID(),
			"method":        text("The method, such as POST; left out, it is GET."),
			"path": text("The path, with a query if there is to be one, escaped as in a URL, such " +
				"as \"/search?q=a%20b\"."),
			"headers": schema{"type": "object",
				"additionalProperties": schema{"type": "string"},
				"description":          "Header fields, such as {\"Content-Type\": \"application/json\"}."},
			"body": text("The body."),
			"encoding": schema{"type": "string", "enum": encoding["enum"],
				"description": "How body is written; utf-8 if left out."},
			nameTimeout: timeout(),
		}),
		output: object([]string{nameEnvironment, "status", "headers", "body", "encoding"}, schema{
			nameEnvironment: text("The environment."),
			"status":        schema{"type": "integer", "description": "The status of the answer."},
			"headers": schema{"type": "object",
				"additionalProperties": schema{"type": "string"}},
			"body":      text("The body of the answer."),
			"encoding":  encoding,
			"truncated": flag("The body was longer, or did not end in time."),
		}),
		call: func(c *call, ctx context.Context, raw json.RawMessage) (
			sandpool.Identifier, toolResult, error,
		) {
			var args requestArguments
			if err := arguments(raw, &args); err != nil {
				return "", toolResult{}, err
			}
			id, err := c.environment(args.EnvironmentID)
			if err != nil {
				return id, toolResult{}, err
			}
			r, err := c.request(ctx, id, args)
			return id, r, err
		},
	}
}

// request sends a request to the container of an environment.
func (c *call) request(ctx context.Context, id sandpool.Identifier, args requestArguments) (
	toolResult, error,
) {
	limit, err := c.s.timeout(args.Timeout)
	if err != nil {
		return toolResult{}, err
	}
	late := sandpool.Errorf(sandpool.Unavailable, "RequestTimeout", nameTimeout,
		"The container has not answered within %s.", limit)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	r, err := c.newRequest(ctx, args)
	if err != nil {
		return toolResult{}, err
	}
	got := &containerAnswer{header: http.Header{}, share: c.s.answers.Share(c.holder(id))}
	c.release = append(c.release, got.share.Release)
	if c.stream != nil {
		defer c.stream.beat()()
		got.progress = c.stream.progress
	}
	err = c.s.containers.Forward(got, r, c.pool.ID, id, r.URL.EscapedPath())
	isLate := errors.Is(context.Cause(ctx), late)
	switch {
	case err == nil:
		return got.result(id, false), nil
	case got.full, isLate && got.status != 0:
		return got.result(id, true), nil // what has come is told
	case isLate:
		return toolResult{}, late
	}
	return toolResult{}, err
}

// newRequest makes the request of a tool's call, which has nothing of the call's own but whom it
// comes from.
func (c *call) newRequest(ctx context.Context, args requestArguments) (*http.Request, error) {
	path, query, _ := strings.Cut(args.Path, "?")
	if !strings.HasPrefix(path, "/") || strings.Contains(args.Path, "#") {
		return nil, invalidArgument("path",
			"The argument path is %.80q; it begins with a slash and has no #, such as "+
				"\"/search?q=a\".", args.Path)
	}
	at, err := url.ParseRequestURI(path)
	if err != nil || at.EscapedPath() != path {
		return nil, invalidArgument("path",
			"The argument path is %.80q, which is not escaped as in a URL; a space is %%20.",
			args.Path)
	}
	at.RawQuery = query
	r := (&http.Request{Method: strings.ToUpper(args.Method), URL: at, RequestURI: args.Path,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody,
		Host: c.r.Host, RemoteAddr: c.r.RemoteAddr, TLS: c.r.TLS}).WithContext(ctx)
	if r.Method == "" {
		r.Method = http.MethodGet
	}
	if len(args.Headers) > maxHeaders {
		return nil, invalidArgument("headers", "There are %d headers; send at most %d.",
			len(args.Headers), maxHeaders)
	}
	for name, value := range args.Headers {
		if ownField(name) {
			return nil, invalidArgument("headers",
				"The header %.80q is set by the server; leave it out.", name)
		}
		r.Header.Add(name, value)
	}
	return r, setBody(r, args)
}

// ownField reports whether a header field is about the connection or the size of the body, which
// are not the caller's.
func ownField(name string) bool {
	return slices.ContainsFunc([]string{"Connection", "Content-Length", "Expect", "Host",
		"Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"},
		func(own string) bool { return strings.EqualFold(own, name) })
}

// setBody gives r its body.
func setBody(r *http.Request, args requestArguments) error {
	if args.Body == nil {
		return nil
	}
	body := *args.Body
	switch {
	case args.Encoding == "", strings.EqualFold(args.Encoding, "utf-8"):
	case strings.EqualFold(args.Encoding, "base64"):
		data, err := base64.StdEncoding.DecodeString(body)
		if err != nil {
			return invalidArgument("body", "The argument body is not base64.")
		}
		body = string(data)
	default:
		return invalidArgument("encoding", "The encoding %.20q is unknown; use utf-8 or base64.",
			args.Encoding)
	}
	if body != "" {
		r.Body, r.ContentLength = readCloser{strings.NewReader(body)}, int64(len(body))
	}
	return nil
}

// readCloser is text as a body.
type readCloser struct{ *strings.Reader }

// Close implements io.Closer.
func (readCloser) Close() error { return nil }

// errFull ends an answer of which there is as much as is returned.
var errFull = errors.New("the answer is longer than what is returned of it")

// containerAnswer is the http.ResponseWriter that takes a container's answer.
type containerAnswer struct {
	header http.Header
	status int
	body   []byte
	share  *budget.Share // of the body
	full   bool
	// progress tells of text as it comes; nil means that nobody wants to know.
	progress func(string) error
}

// Header implements http.ResponseWriter.
func (a *containerAnswer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *containerAnswer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
}

// Write implements http.ResponseWriter.
func (a *containerAnswer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	n := min(len(p), maxRead-len(a.body))
	if len(a.body)+n > small {
		if err := a.share.Try(int64(n)); err != nil {
			return 0, crowded(err)
		}
	}
	a.body = append(a.body, p[:n]...)
	if a.progress != nil && isText(a.header.Get("Content-Type")) {
		if err := a.progress(strings.ToValidUTF8(string(p[:n]), "\ufffd")); err != nil {
			return n, err
		}
	}
	if n < len(p) {
		a.full = true
		return n, errFull
	}
	return n, nil
}

// Flush implements http.Flusher: nothing is held back.
func (a *containerAnswer) Flush() {}

// SetWriteDeadline is known to http.ResponseController. Memory takes no time.
func (a *containerAnswer) SetWriteDeadline(time.Time) error { return nil }

// isText reports whether a content type is one of text.
func isText(contentType string) bool {
	kind, _, _ := mime.ParseMediaType(contentType)
	return strings.HasPrefix(kind, "text/") || strings.HasSuffix(kind, "json") ||
		strings.HasSuffix(kind, "xml")
}

// result is the answer as the tool's result. A status that is not one of success is an answer, too.
func (a *containerAnswer) result(id sandpool.Identifier, cut bool) toolResult {
	headers := map[string]string{}
	for name, values := range a.header {
		headers[name] = strings.ToValidUTF8(strings.Join(values, ", "), "\ufffd")
	}
	kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	structured := map[string]any{nameEnvironment: id, "status": a.status, "headers": headers,
		"encoding": "utf-8", "truncated": cut}
	head := strings.TrimRight(fmt.Sprintf("HTTP %d %s", a.status, http.StatusText(a.status)), " ")
	r := toolResult{content: []map[string]any{textContent(head)}, structured: structured}
	if s, ok := (piece{data: a.body, more: cut}).asText(); ok {
		structured["body"] = s
		if s != "" {
			r.content = append(r.content, textContent(s))
		}
		return r
	}
	data := base64.StdEncoding.EncodeToString(a.body)
	structured["body"], structured["encoding"] = data, "base64"
	switch {
	case !cut && strings.HasPrefix(kind, "image/"):
		r.content = append(r.content, imageContent(data, kind))
	default:
		r.content = append(r.content, textContent(fmt.Sprintf("(%d bytes in base64) %s",
			len(a.body), data)))
	}
	return r
}

var (
	_ http.ResponseWriter = (*containerAnswer)(nil)
	_ http.Flusher        = (*containerAnswer)(nil)
)
