package arm

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
)

// packed returns text in a content coding.
func packed(t *testing.T, coding, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch coding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "zlib":
		w = zlib.NewWriter(&b)
	case "flate":
		w, _ = flate.NewWriter(&b, 9)
	default:
		return []byte(text)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func request(body io.Reader, coding ...string) *http.Request {
	r := httptest.NewRequest("PUT", "/", body)
	for _, c := range coding {
		r.Header.Add("Content-Encoding", c)
	}
	return r
}

func TestContentCodings(t *testing.T) {
	const text = `{"properties":{"maxSessions":7}}`
	for name, c := range map[string]struct {
		header []string
		coding string
		class  sandpool.Class // Internal: none
		says   string
	}{
		"none":         {nil, "", 0, ""},
		"empty":        {[]string{""}, "", 0, ""},
		"identity":     {[]string{"identity"}, "", 0, ""},
		"gzip":         {[]string{"gzip"}, "gzip", 0, ""},
		"capitals":     {[]string{" GZIP "}, "gzip", 0, ""},
		"x-gzip":       {[]string{"x-gzip"}, "gzip", 0, ""},
		"and identity": {[]string{"identity", "gzip"}, "gzip", 0, ""},
		"deflate":      {[]string{"deflate"}, "zlib", 0, ""},
		"bare deflate": {[]string{"deflate"}, "flate", 0, ""},
		"brotli":       {[]string{"br"}, "", sandpool.Unsupported, "br"},
		"zstd":         {[]string{"zstd"}, "", sandpool.Unsupported, "gzip, deflate"},
		"twice":        {[]string{"gzip, gzip"}, "gzip", sandpool.Unsupported, "gzip, gzip"},
		"in two headers": {[]string{"gzip", "deflate"}, "gzip", sandpool.Unsupported,
			"gzip, deflate"},
		"long": {[]string{strings.Repeat("x", 1<<16)}, "", sandpool.Unsupported, "xxx"},
		"no gzip": {[]string{"gzip"}, "", sandpool.Invalid,
			"not in the content coding gzip"},
		"no deflate": {[]string{"deflate"}, "", sandpool.Invalid,
			"not in the content coding deflate"},
		"gzip for deflate": {[]string{"deflate"}, "gzip", sandpool.Invalid, "deflate"},
	} {
		rec := httptest.NewRecorder()
		var got sample
		err := DecodeJSON(rec, request(bytes.NewReader(packed(t, c.coding, text)), c.header...),
			1<<10, &got)
		if c.says == "" {
			if err != nil || got.Properties.Max == nil || *got.Properties.Max != 7 {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
			continue
		}
		if err == nil || sandpool.ClassOf(err) != c.class ||
			!strings.Contains(err.Error(), c.says) || len(err.Error()) > 500 {
			t.Errorf("%s: %v", name, err)
		}
		if accepts := rec.Header().Get("Accept-Encoding"); (accepts != "") !=
			(c.class == sandpool.Unsupported) {
			t.Errorf("%s: Accept-Encoding %q", name, accepts)
		}
	}
}

// TestBomb: what a body decodes to is bounded as a plain one is, and an early end is told.
func TestBomb(t *testing.T) {
	bomb := packed(t, "gzip", strings.Repeat(" ", 64<<20))
	var into any
	if err := DecodeJSON(httptest.NewRecorder(), request(bytes.NewReader(bomb), "gzip"), 1<<20,
		&into); sandpool.ClassOf(err) != sandpool.TooLarge {
		t.Errorf("a bomb of %d bytes: %v", len(bomb), err)
	}
	half := packed(t, "gzip", `{"a":"`+strings.Repeat("abc", 100)+`"}`)
	if err := DecodeJSON(httptest.NewRecorder(), request(bytes.NewReader(half[:len(half)/2]),
		"gzip"), 1<<20, &into); sandpool.ClassOf(err) != sandpool.Invalid || err == nil {
		t.Errorf("half of it: %v", err)
	}
	broken := io.MultiReader(bytes.NewReader(half[:len(half)/2]), failing{})
	if err := DecodeJSON(httptest.NewRecorder(), request(broken, "gzip"), 1<<20,
		&into); err == nil || strings.Contains(err.Error(), "content coding") {
		t.Errorf("a connection that breaks: %v", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

func TestUTF8(t *testing.T) {
	for _, c := range []struct{ data, contentType, want string }{
		{`{"ü":1}`, "", `{"ü":1}`},
		{"\xef\xbb\xbf{}", "application/json", `{}`},
		{`{}`, "application/json; charset=UTF-8", `{}`},
		{`{}`, "charset", `{}`},
		{"{\"\xfc\":1}", "application/json; charset=iso-8859-1", `{"ü":1}`},
		{"\xff\xfe{\x00}\x00", "application/json", `{}`},
		{"\xfe\xff\x00{\x00}", "", `{}`},
		{"{\x00}\x00", "application/json; charset=utf-16le", `{}`},
		{"\x00{\x00}", "application/json; charset=utf-16", `{}`},
		{"\xff\xfe\x3d\xd8\x00\xde", "", "😀"},
		{"\xfc", "", ""},
		{"\xff\xfe{", "", ""},
		{"{}", "application/json; charset=koi8-r", ""},
	} {
		got, err := UTF8([]byte(c.data), c.contentType)
		if string(got) != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q as %q: %q, %v; want %q", c.data, c.contentType, got, err, c.want)
		}
	}
}

// inner and outer have every kind of field that requests have.
type inner struct {
	Flag  bool    `json:"flag"`
	Count *int    `json:"count"`
	Ratio float64 `json:"ratio"`
}

type outer struct {
	inner2
	Nested *inner           `json:"nested"`
	List   []inner          `json:"list"`
	ByName map[string]int64 `json:"byName"`
	Number json.Number      `json:"number"`
	Raw    json.RawMessage  `json:"raw"`
	Text   string           `json:"text"`
	Bare   uint16
}

type inner2 struct {
	Inlined *bool `json:"inlined"`
}

// TestUnmarshalTakesText: numbers and truth values, in every place, may be text.
func TestUnmarshalTakesText(t *testing.T) {
	strict := `{"inlined":true,"nested":{"flag":true,"count":300,"ratio":0.25},"list":[{"flag":false,"count":-1,"ratio":2}],` +
		`"byName":{"a":1},"number":7,"raw":{"count":"1"},"text":"5","Bare":9}`
	lenient := `{"INLINED":"True","Nested":{"FLAG":" true ","count":"300","ratio":"0.25"},"list":[{"flag":"FALSE","count":"-1","ratio":"2"}],` +
		`"byname":{"a":"1"},"number":"7","raw":{"count":"1"},"text":"5","bare":"9"}`
	var want, got outer
	if err := json.Unmarshal([]byte(strict), &want); err != nil {
		t.Fatal(err)
	}
	if err := Unmarshal([]byte(lenient), &got); err != nil ||
		!cmp.Equal(got, want, cmp.AllowUnexported(outer{}, inner2{})) {
		t.Errorf("%v: %s", err, cmp.Diff(want, got, cmp.AllowUnexported(outer{}, inner2{})))
	}
	for text, value := range map[string]int{`300`: 300, `"300"`: 300, `300.0`: 300, `"300.0"`: 300,
		`3e2`: 300, `"3E2"`: 300, `"+5"`: 5, `" 5 "`: 5, `"-5"`: -5, `5.`: -99, `null`: 0,
		`"0"`: 0} {
		var v inner
		err := Unmarshal([]byte(`{"count":`+text+`}`), &v)
		switch {
		case value == -99:
			if err == nil {
				t.Errorf("%s is taken as %v", text, v)
			}
		case text == "null":
			if err != nil || v.Count != nil {
				t.Errorf("null: %v, %v", v, err)
			}
		case err != nil || v.Count == nil || *v.Count != value:
			t.Errorf("%s: %v, %v", text, v, err)
		}
	}
	for _, bad := range []string{`"x"`, `""`, `"1_000"`, `"0x10"`, `"1 2"`, `"NaN"`, `"Infinity"`,
		`"1e999"`, `1.5`, `"1.5"`, `"` + strings.Repeat("9", 1<<20) + `"`,
		`"99999999999999999999"`, `true`, `"true"`, `[]`, `{}`, `"--1"`, `"++1"`, `"٣"`, `"９"`,
		`[300]`} {
		var v inner
		var typ *json.UnmarshalTypeError
		if err := Unmarshal([]byte(`{"count":`+bad+`}`), &v); !errors.As(err, &typ) ||
			typ.Field != "count" {
			t.Errorf("%.40s is taken as %v: %.100v", bad, v.Count, err)
		}
	}
	for _, bad := range []string{`"yes"`, `"1"`, `1`, `""`, `"truе"`} {
		var v inner
		if err := Unmarshal([]byte(`{"flag":`+bad+`}`), &v); err == nil {
			t.Errorf("%s is taken as %v", bad, v.Flag)
		}
	}
}

// FuzzUnmarshal: what json.Unmarshal takes is taken the same.
func FuzzUnmarshal(f *testing.F) {
	f.Add(`{"nested":{"flag":true,"count":300}}`)
	f.Add(`{"nested":{"flag":"true","count":"300"},"number":"7"}`)
	f.Fuzz(func(t *testing.T, text string) {
		var strict, lenient outer
		if err := json.Unmarshal([]byte(text), &strict); err != nil {
			_ = Unmarshal([]byte(text), &lenient)
			return
		}
		if err := Unmarshal([]byte(text), &lenient); err != nil ||
			!cmp.Equal(strict, lenient, cmp.AllowUnexported(outer{}, inner2{})) {
			t.Fatalf("%q: %v: %s", text, err, cmp.Diff(strict, lenient, cmp.AllowUnexported(outer{},
				inner2{})))
		}
	})
}
