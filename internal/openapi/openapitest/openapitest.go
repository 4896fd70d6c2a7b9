// Package openapitest holds handlers to the description: a Recorder stands before them in their
// tests, and says which answers and which requests that were served are not described, and which
// answers and fields of requests that are were never given.
package openapitest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/sandpool/sandpool/internal/openapi"
)

// maxBody bounds what is kept of an answer to be read, in bytes. Only the status of longer ones
// and the kind count.
const maxBody = 1 << 20

// Recorder compares what handlers take and give with the description.
type Recorder struct {
	doc    document
	ours   map[string]operation // by key
	shapes map[string]*shape

	mu     sync.Mutex // guards the fields below it
	given  map[string]bool
	sent   map[string]bool
	faults []string
	known  resolutions // of answers
	wanted resolutions // of requests
}

// resolutions are the schemas that have been used, by their text.
type resolutions map[string]*jsonschema.Resolved

type document struct {
	Paths      map[string]map[string]json.RawMessage
	Components struct {
		Schemas   map[string]json.RawMessage
		Responses map[string]answer
	}
}

// reference is a reference to a part of the description.
type reference struct {
	Ref string `json:"$ref"`
}

// names reports whether the query parameter that r refers to has a name, in any case.
func (r reference) names(name string) bool {
	return strings.EqualFold(r.Ref, "#/components/parameters/query."+strings.Replace(name, "$", "odata-", 1))
}

type operation struct {
	Tags        []string
	Parameters  []reference
	RequestBody *requestBody
	Responses   map[string]answer
}

type requestBody struct{ Content map[string]content }

type answer struct {
	reference
	Content map[string]content
}

type content struct{ Schema json.RawMessage }

// New returns a Recorder for the operations with these tags.
func New(tags ...string) *Recorder {
	r := &Recorder{ours: map[string]operation{}, given: map[string]bool{}, sent: map[string]bool{},
		known: resolutions{}, wanted: resolutions{}, shapes: map[string]*shape{}}
	if err := json.Unmarshal(openapi.Document(), &r.doc); err != nil {
		panic(err)
	}
	for name, text := range r.doc.Components.Schemas {
		r.shapes[name] = &shape{}
		if err := json.Unmarshal(text, r.shapes[name]); err != nil {
			panic(err)
		}
	}
	for path, item := range r.doc.Paths {
		for method, text := range item {
			var o operation
			if method == "parameters" {
				continue
			}
			if err := json.Unmarshal(text, &o); err != nil {
				panic(err)
			}
			if slices.Contains(tags, o.Tags[0]) {
				r.ours[Key(strings.ToUpper(method)+" "+path)] = o
			}
		}
	}
	return r
}

// Key is the key of an operation: a method and a path, as a pattern of http.ServeMux or in the
// description, whose parameters have no names in it.
func Key(pattern string) string {
	return regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(strings.TrimSuffix(pattern, "{$}"), "{}")
}

// Keys returns the keys of the Recorder's operations.
func (r *Recorder) Keys() []string { return slices.Sorted(maps.Keys(r.ours)) }

// Differ returns which of the patterns are not described, and which operations have none.
// Patterns without a method are answers for what is wrong, and do not count.
func (r *Recorder) Differ(patterns []string) (faults []string) {
	routed := map[string]bool{}
	for _, p := range patterns {
		if !strings.Contains(p, " ") {
			continue
		}
		routed[Key(p)] = true
		if _, ok := r.ours[Key(p)]; !ok {
			faults = append(faults, p+" is routed and not described")
		}
	}
	for _, key := range r.Keys() {
		if !routed[key] {
			faults = append(faults, key+" is described and not routed")
		}
	}
	return faults
}

// Mux records the answers of a mux.
func (r *Recorder) Mux(mux *http.ServeMux) http.Handler {
	return r.Handler(func(req *http.Request) string { return req.Pattern }, mux)
}

// Handler records what next takes and gives. which returns the pattern of the operation that a
// request was for, once it has been answered; "" means that it was for none.
func (r *Recorder) Handler(which func(*http.Request) string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		c := &capture{ResponseWriter: w}
		query := req.URL.Query()
		in := &intake{ReadCloser: req.Body}
		if req.Body != nil {
			req.Body = in
		}
		defer func() {
			key := Key(which(req))
			if method, rest, ok := strings.Cut(key, " "); ok && req.Method == http.MethodHead &&
				method == http.MethodGet {
				// HEAD of what has a GET is that without its body
				key = "GET " + rest
			}
			if key == "" || c.status == 0 || c.status == statusClientGone {
				return
			}
			fault := r.check(key, req, query, c)
			if o, ok := r.ours[key]; ok && fault == "" && c.status < 300 {
				fault = r.checkRequest(key, o, req, in, c.body.Bytes())
			}
			if fault != "" {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.faults = append(r.faults, fault)
			}
		}()
		next.ServeHTTP(c, req)
	})
}

// statusClientGone is what the log has for a caller that has gone.
const statusClientGone = 499

// everywhere are the statuses of the default answer, which no operation names.
func everywhere() []int { return []int{400, 401, 403, 408, 410, 413, 415, 429, 500, 503} }

// check says what is wrong with an answer.
func (r *Recorder) check(key string, req *http.Request, query map[string][]string,
	c *capture) string {
	o, ok := r.ours[key]
	if !ok {
		if _, _, methods := strings.Cut(key, " "); !methods {
			return "" // a pattern for what is wrong
		}
		return fmt.Sprintf("%s is not described", key)
	}
	status := strconv.Itoa(c.status)
	a, ok := o.Responses[status]
	if class := status[:1] + "XX"; !ok {
		if a, ok = o.Responses[class]; ok {
			status = class
		}
	}
	if !ok && slices.Contains(everywhere(), c.status) {
		status = "default"
		a, ok = o.Responses[status]
	}
	at := fmt.Sprintf("%s answered %d", key, c.status)
	if !ok {
		return fmt.Sprintf("%s, which is not described: %.300s", at, c.body.String())
	}
	if a.Ref != "" {
		a = r.doc.Components.Responses[a.Ref[strings.LastIndexByte(a.Ref, '/')+1:]]
	}
	media, _, _ := mime.ParseMediaType(c.Header().Get("Content-Type"))
	described, ok := a.Content[media]
	if !ok {
		described, ok = a.Content["*/*"]
		if ok {
			media = "*/*"
		}
	}
	r.mu.Lock()
	r.given[key+" "+status+" "+media] = true
	r.given[key+" "+status] = true
	r.mu.Unlock()
	if c.status < 300 {
		for name := range query {
			if !slices.ContainsFunc(o.Parameters, func(p reference) bool {
				return p.names(name) || p.names("anything")
			}) {
				return fmt.Sprintf("%s to the query parameter %q, which is not described", at, name)
			}
		}
	}
	switch {
	case req.Method == http.MethodHead || c.body.Len() == 0 && c.written == 0:
		return ""
	case !ok:
		return fmt.Sprintf("%s as %q, which is not described: %.200s", at, media, c.body.String())
	case c.written > int64(c.body.Len()) || c.cutShort():
		return ""
	}
	for _, text := range values(media, c.body.Bytes()) {
		if err := r.valid(described.Schema, text); err != nil {
			return fmt.Sprintf("%s with %.400s: %v", at, text, err)
		}
	}
	return ""
}

// values cuts a body into the JSON values that it is made of; another kind has none.
func values(media string, body []byte) (out [][]byte) {
	switch media {
	case "application/json":
		return [][]byte{body}
	case "application/x-ndjson", "text/event-stream":
		lines := bytes.Split(body, []byte("\n"))
		for _, line := range lines[:len(lines)-1] { // the last one may have been cut off
			if media == "text/event-stream" {
				var data bool
				if line, data = bytes.CutPrefix(line, []byte("data: ")); !data {
					continue
				}
			}
			if line = bytes.TrimSpace(line); len(line) > 0 {
				out = append(out, line)
			}
		}
	}
	return out
}

// valid holds a value of an answer to a schema of the description.
func (r *Recorder) valid(schema json.RawMessage, text []byte) error {
	return r.fits(r.known, schema, text, false)
}

// fits holds a value to a schema of the description. In a request, what only the server sets need
// not be there.
func (r *Recorder) fits(known resolutions, schema json.RawMessage, text []byte,
	request bool) error {
	resolved, err := r.resolve(known, schema, request)
	if err != nil {
		return err
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	return resolved.Validate(v)
}

// resolve makes a schema of the description one that stands alone, and that takes no property
// which it does not name.
func (r *Recorder) resolve(known resolutions, schema json.RawMessage,
	request bool) (*jsonschema.Resolved, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if resolved, ok := known[string(schema)]; ok {
		return resolved, nil
	}
	whole := map[string]any{"allOf": []json.RawMessage{schema}, "$defs": r.doc.Components.Schemas}
	text, err := json.Marshal(whole)
	if err != nil {
		return nil, err
	}
	text = bytes.ReplaceAll(text, []byte("#/components/schemas/"), []byte("#/$defs/"))
	var s jsonschema.Schema
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, err
	}
	for name, def := range s.Defs {
		if def.Properties != nil && def.AdditionalProperties == nil {
			def.AdditionalProperties = &jsonschema.Schema{Not: &jsonschema.Schema{}}
		}
		if request {
			def.Required = slices.DeleteFunc(def.Required, func(property string) bool {
				return r.shapes[name].Properties[property].ReadOnly
			})
		}
	}
	resolved, err := s.Resolve(nil)
	known[string(schema)] = resolved
	return resolved, err
}

// Missing returns which answers are described and were not given.
func (r *Recorder) Missing() (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range r.Keys() {
		for status, a := range r.ours[key].Responses {
			if status == "default" {
				continue
			}
			wanted := []string{key + " " + status}
			for media := range a.Content {
				wanted = append(wanted, key+" "+status+" "+media)
			}
			for _, w := range wanted {
				if !r.given[w] {
					out = append(out, w)
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// End is for TestMain: it returns code, or 1 if the answers of the package's tests and the
// description differ. What was not given is a fault only if all tests have run.
func (r *Recorder) End(code int) int {
	r.mu.Lock()
	faults := slices.Compact(slices.Sorted(slices.Values(r.faults)))
	r.mu.Unlock()
	if code == 0 && all() {
		for _, m := range r.Missing() {
			faults = append(faults, "described, and given by no test: "+m)
		}
		for _, field := range r.Unsent() {
			faults = append(faults, "described, and sent by no test: "+field)
		}
	}
	for _, f := range faults {
		_, _ = fmt.Fprintln(os.Stderr, "openapitest:", f)
	}
	if len(faults) > 0 {
		return 1
	}
	return code
}

// all reports whether all tests of the package run, and run whole.
func all() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.fuzz"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return false
		}
	}
	return true
}

// capture keeps an answer.
type capture struct {
	http.ResponseWriter
	status  int
	body    bytes.Buffer
	written int64
}

// cutShort reports whether the caller did not take all of the answer.
func (c *capture) cutShort() bool {
	whole := c.Header().Get("Content-Length")
	return whole != "" && whole != strconv.FormatInt(c.written, 10)
}

// Hijack is of connections that change their protocol.
func (c *capture) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(c.ResponseWriter).Hijack()
	if c.status == 0 && err == nil {
		c.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

// Unwrap lets http.ResponseController reach the rest.
func (c *capture) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (c *capture) WriteHeader(status int) {
	if c.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		c.status = status
	}
	c.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (c *capture) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.status = http.StatusOK
	}
	n, err := c.ResponseWriter.Write(p)
	c.written += int64(n)
	if room := maxBody - c.body.Len(); room >= n {
		c.body.Write(p[:n])
	}
	return n, err
}

var _ io.Writer = (*capture)(nil)
