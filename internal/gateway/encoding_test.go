package gateway

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"
)

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestEncodedBodies: a body in a content coding or a charset is read as its headers say, or
// refused in words, and never taken for something else.
func TestEncodedBodies(t *testing.T) {
	w := newWorld(t, Options{MaxBody: 1 << 20, MaxUpload: 1 << 20})
	form, kind := fileForm("a.txt", "content of the file")
	wrong, wrongKind := fileForm("b.txt", strings.Repeat("x", 3<<20))
	for _, tt := range []struct {
		name, path, body string
		headers          []string
		status           int
		want             string
	}{
		{"gzip", "executions", gzipped(t, `{"code":"1"}`), []string{"Content-Encoding", "gzip"},
			200, "Succeeded"},
		{"a form in gzip", "files", gzipped(t, form), []string{"Content-Encoding", "gzip",
			"Content-Type", kind}, 200, `"name":"a.txt"`},
		{"no gzip", "executions", `{"code":"1"}`, []string{"Content-Encoding", "gzip"}, 400,
			"content coding gzip"},
		{"a form that is no gzip", "files", form, []string{"Content-Encoding", "gzip",
			"Content-Type", kind}, 400, "content coding gzip"},
		{"half", "executions", gzipped(t, `{"code":"1"}`)[:20], []string{"Content-Encoding",
			"gzip"}, 400, "content coding gzip"},
		{"brotli", "executions", `{"code":"1"}`, []string{"Content-Encoding", "br"}, 415,
			`"code":"UnsupportedMediaType"`},
		{"a form in zstd", "files", form, []string{"Content-Encoding", "zstd", "Content-Type",
			kind}, 415, "gzip, deflate"},
		{"a bomb", "executions", gzipped(t, `{"code":"`+strings.Repeat(" ", 64<<20)+`"}`),
			[]string{"Content-Encoding", "gzip"}, 413, "larger"},
		{"a form too large", "files", gzipped(t, wrong), []string{"Content-Encoding", "gzip",
			"Content-Type", wrongKind}, 413, ""},
		{"a byte order mark", "executions", "\ufeff" + `{"code":"1"}`, nil, 200, "Succeeded"},
		{"latin 1", "executions", "{\"code\":\"'\xfc'\"}",
			[]string{"Content-Type", "application/json; charset=ISO-8859-1"}, 200, "Succeeded"},
		{"not UTF-8", "executions", "{\"code\":\"'\xfc'\"}",
			[]string{"Content-Type", "application/json"}, 400, "not UTF-8"},
		{"UTF-16", "executions",
			"\xff\xfe{\x00\"\x00c\x00o\x00d\x00e\x00\"\x00:\x00\"\x001\x00\"\x00}\x00", nil, 200,
			"Succeeded"},
	} {
		got := w.do("POST", tt.path+"?identifier=abcd", tt.body, tt.headers...)
		if got.status != tt.status || !strings.Contains(got.body, tt.want) {
			t.Errorf("%s: %d %.300s, want %d with %s", tt.name, got.status, got.body, tt.status,
				tt.want)
		}
		if accepts := got.header.Get("Accept-Encoding"); (accepts == "gzip, deflate") !=
			(tt.status == 415) {
			t.Errorf("%s: Accept-Encoding %q", tt.name, accepts)
		}
	}
}

// TestNumbersAsText: each number and truth value of an execute call may be text.
func TestNumbersAsText(t *testing.T) {
	w := newWorld(t, Options{})
	for field, texts := range map[string][]string{
		"timeoutInSeconds":                   {`"30"`, `30.0`, `"30.0"`, `3e1`, `null`, `"600"`},
		"outputStreamsMaxLength":             {`"4096"`, `4096.0`, `null`},
		"useEmptyKernel":                     {`"false"`, `"False"`, `null`},
		"returnJupyterFormatExecutionResult": {`"FALSE"`, `null`},
	} {
		for _, text := range texts {
			for _, form := range []string{`{"code":"1","%s":%s}`,
				`{"properties":{"code":"1","%s":%s}}`} {
				if got := w.do("POST", "executions?identifier=abcd",
					fmt.Sprintf(form, field, text)); got.status != 200 {
					t.Errorf("%s of %s: %d %s", text, field, got.status, got.body)
				}
			}
		}
		for _, text := range []string{`"x"`, `[]`, `"\u0000"`, `""`} {
			got := w.do("POST", "executions?identifier=abcd", fmt.Sprintf(`{"code":"1","%s":%s}`,
				field, text))
			if got.status != 400 || !strings.Contains(got.body, field) {
				t.Errorf("%s of %s: %d %s", text, field, got.status, got.body)
			}
		}
	}
}
