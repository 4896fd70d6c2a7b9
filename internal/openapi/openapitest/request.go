package openapitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/template"
)

// intake keeps what a handler reads of a request's body.
type intake struct {
	io.ReadCloser
	read []byte
	more bool // it is longer than what is kept
}

// Read implements io.Reader.
func (i *intake) Read(p []byte) (int, error) {
	n, err := i.ReadCloser.Read(p)
	if i.more = i.more || len(i.read)+n > maxBody; !i.more {
		i.read = append(i.read, p[:n]...)
	}
	return n, err
}

// shape is what matters here of a schema.
type shape struct {
	reference
	Type                 any
	Properties           map[string]*shape
	Items                *shape
	AdditionalProperties *shape
	AnyOf                []*shape
	ReadOnly             bool
	MaxItems, MaxLength  *int // 0 if a value must be empty
	MaxProperties        *int
}

// bare reports whether values must be empty, as null is.
func (s *shape) bare() bool {
	return s.MaxItems != nil || s.MaxLength != nil || s.MaxProperties != nil || s.is("null")
}

// plain follows references, and returns the schema with its name, which is empty for one that has
// none.
func (r *Recorder) plain(s *shape) (*shape, string) {
	name := ""
	for s != nil && (s.Ref != "" || len(s.AnyOf) > 0) {
		if s.Ref == "" {
			s = s.AnyOf[0] // the others are null
			continue
		}
		name = s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
		s = r.shapes[name]
	}
	return s, name
}

// is reports whether the schema's values are of a type.
func (s *shape) is(kind string) bool {
	switch t := s.Type.(type) {
	case string:
		return t == kind
	case []any:
		return slices.Contains(t, any(kind))
	}
	return false
}

// content is what a body may be, by its kind.
func (b *requestBody) content() map[string]content {
	if b == nil {
		return nil
	}
	return b.Content
}

// checkRequest says what is wrong with a request that was served.
func (r *Recorder) checkRequest(key string, o operation, req *http.Request, in *intake,
	answer []byte) string {
	_, whatever := o.RequestBody.content()["*/*"]
	if len(in.read) == 0 || in.more || whatever {
		return ""
	}
	at := key + " took "
	if o.RequestBody == nil {
		return fmt.Sprintf("%sa body, and none is described: %.200q", at, in.read)
	}
	kind, _, _ := strings.Cut(req.Header.Get("Content-Type"), ";")
	const form, parts = "application/x-www-form-urlencoded", "multipart/form-data"
	if bytes.HasPrefix(in.read, []byte("--")) {
		kind = parts // some clients give it another name
	}
	described, isJSON := o.RequestBody.Content["application/json"]
	fields, isForm := o.RequestBody.Content[form]
	var value any
	switch {
	case isJSON: // whatever its kind is said to be
		text, err := decoded(req, in.read)
		if err == nil {
			err = json.Unmarshal(text, &value)
		}
		if err != nil {
			return fmt.Sprintf("%s%.200q: %v", at, in.read, err)
		}
	case isForm:
		described = fields
		form, err := url.ParseQuery(string(in.read))
		if err != nil {
			return fmt.Sprintf("%s%.200q as a form: %v", at, in.read, err)
		}
		entries := map[string]any{}
		for name := range form {
			entries[name] = form.Get(name)
		}
		value = entries
	default:
		if _, ok := o.RequestBody.Content[kind]; !ok {
			return fmt.Sprintf("%sa body of the kind %q, which is not described", at, kind)
		}
		return ""
	}
	method, _, _ := strings.Cut(key, " ")
	w := walk{r: r, method: method, ignored: ignoredBy(answer)}
	var s shape
	if err := json.Unmarshal(described.Schema, &s); err != nil {
		return err.Error()
	}
	if value = w.normal(value, &s, ""); len(w.ignored) >= 20 {
		return "" // more were ignored than the answer names
	}
	text, err := json.Marshal(value)
	if err == nil {
		err = r.fits(r.wanted, described.Schema, text, true)
	}
	if err != nil {
		w.faults = append(w.faults, err.Error())
	}
	if len(w.faults) > 0 {
		return fmt.Sprintf("%s%.400s: %s", at, text, strings.Join(w.faults, ", "))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range w.sent {
		r.sent[s] = true
	}
	return ""
}

// decoded is the text of a body as JSON in UTF-8, without its content coding.
func decoded(req *http.Request, read []byte) ([]byte, error) {
	again := &http.Request{Header: req.Header, Body: io.NopCloser(bytes.NewReader(read))}
	body, err := arm.Body(nil, again)
	if err != nil {
		return nil, err
	}
	if read, err = io.ReadAll(body); err != nil {
		return nil, err
	}
	if read, err = arm.UTF8(read, req.Header.Get("Content-Type")); err != nil || json.Valid(read) {
		return read, err
	}
	return template.Clean(read) // az sends deployments with what JSON does not have
}

// ignoredBy are the paths of what the server ignored, as the answer to a PUT of a pool has them.
func ignoredBy(answer []byte) []string {
	var pool struct {
		Properties struct{ Sandpool struct{ Ignored []string } }
	}
	_ = json.Unmarshal(answer, &pool) // another answer has none
	return pool.Properties.Sandpool.Ignored
}

// walk makes the value of a request what the description asks for, in the ways in which both planes
// are lenient: names are in any case, numbers and truth values may be text, null is nothing.
type walk struct {
	r            *Recorder
	method       string
	ignored      []string
	sent, faults []string
}

func (w *walk) normal(v any, of *shape, path string) any {
	s, name := w.r.plain(of)
	if s == nil {
		return v
	}
	switch v := v.(type) {
	case map[string]any:
		return w.members(v, s, name, path)
	case []any:
		out := make([]any, 0, len(v))
		for i, each := range v {
			out = append(out, w.normal(each, s.Items, fmt.Sprintf("%s[%d]", path, i)))
		}
		return out
	case string:
		text := strings.TrimSpace(v)
		if s.is("string") {
			return v
		}
		if f, err := strconv.ParseFloat(text, 64); err == nil && (s.is("integer") || s.is("number")) {
			return f
		}
		if b, err := strconv.ParseBool(strings.ToLower(text)); err == nil && s.is("boolean") {
			return b
		}
	}
	return v
}

func (w *walk) members(v map[string]any, s *shape, name, path string) map[string]any {
	out := map[string]any{}
	for _, sent := range slices.Sorted(maps.Keys(v)) {
		at := strings.TrimPrefix(path+"."+sent, ".")
		property := s.property(sent)
		ignored := slices.Contains(w.ignored, at)
		switch member := s.Properties[property]; {
		case v[sent] == nil && member != nil && member.bare():
			w.sent = append(w.sent, w.method+" "+name+"."+property)
		case v[sent] == nil:
		case property == "" && ignored:
		case property == "" && s.AdditionalProperties != nil:
			out[sent] = w.normal(v[sent], s.AdditionalProperties, at)
		case property == "":
			out[sent] = v[sent]
		case ignored:
			w.faults = append(w.faults, at+" is described, and was ignored")
		default:
			w.sent = append(w.sent, w.method+" "+name+"."+property)
			out[property] = w.normal(v[sent], member, at)
		}
	}
	return out
}

// property is the schema's spelling of a name, or empty.
func (s *shape) property(name string) string {
	if s.Properties[name] != nil {
		return name
	}
	for own := range s.Properties {
		if strings.EqualFold(own, name) {
			return own
		}
	}
	return ""
}

// described lists the fields that requests of a kind may have, by method, schema and name.
func (r *Recorder) described(method string, of *shape, into map[string]bool) {
	s, name := r.plain(of)
	if s == nil {
		return
	}
	r.described(method, s.Items, into)
	r.described(method, s.AdditionalProperties, into)
	for property, member := range s.Properties {
		field := method + " " + name + "." + property
		if member.ReadOnly || into[field] {
			continue
		}
		into[field] = true
		r.described(method, member, into)
	}
}

// Unsent returns which fields of requests are described and were in none that was served.
func (r *Recorder) Unsent() (out []string) {
	fields := map[string]bool{}
	for key, o := range r.ours {
		if o.RequestBody == nil {
			continue
		}
		method, _, _ := strings.Cut(key, " ")
		for media, c := range o.RequestBody.Content {
			var s shape
			if media != "multipart/form-data" && json.Unmarshal(c.Schema, &s) == nil {
				r.described(method, &s, fields)
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for field := range fields {
		if !r.sent[field] {
			out = append(out, field)
		}
	}
	slices.Sort(out)
	return out
}
