package arm

import (
	"net/http/httptest"
	"strings"
	"testing"

	"errors"

	"github.com/sandpool/sandpool"
)

type sample struct {
	Properties struct {
		Max  *int     `json:"maxSessions"`
		Tags []string `json:"tags"`
	} `json:"properties"`
}

func decode(body string) (sample, error) {
	var s sample
	err := DecodeJSON(httptest.NewRecorder(), httptest.NewRequest("PUT", "/",
		strings.NewReader(body)), 200, &s)
	return s, err
}

func TestDecodeJSON(t *testing.T) {
	s, err := decode(`{"PROPERTIES":{"maxsessions":7,"unknown":{}}, "id": "x"}` + "\n")
	if err != nil || s.Properties.Max == nil || *s.Properties.Max != 7 {
		t.Fatalf("%+v, %v", s, err)
	}
	for _, c := range []struct {
		body, target, says string
		class              sandpool.Class
	}{
		{"", "", "empty", sandpool.Invalid},
		{"{", "", "ends in the middle", sandpool.Invalid},
		{"{}{}", "", "after the JSON value", sandpool.Invalid},
		{"{} x", "", "after the JSON value", sandpool.Invalid},
		{"[]", "", "send a JSON object", sandpool.Invalid},
		{"nope", "", "not JSON", sandpool.Invalid},
		{`{"properties":{"maxSessions":"seven"}}`, "properties.maxSessions",
			"must be of type integer", sandpool.Invalid},
		{"\"\xff\"", "", "not UTF-8", sandpool.Invalid},
		{`{"properties":{"maxSessions":1.5}}`, "properties.maxSessions", "must be of type integer",
			sandpool.Invalid},
		{`{"properties":{"maxSessions":99999999999999999999}}`, "properties.maxSessions", "integer",
			sandpool.Invalid},
		{`{"properties":{"tags":{}}}`, "properties.tags", "must be of type array",
			sandpool.Invalid},
		{`{"x":"` + strings.Repeat("a", 300) + `"}`, "", "200 bytes", sandpool.TooLarge},
		{`{}` + strings.Repeat(" ", 300), "", "200 bytes", sandpool.TooLarge},
	} {
		_, err := decode(c.body)
		var e *sandpool.Error
		if !errors.As(err, &e) || e.Class != c.class || e.Target != c.target ||
			!strings.Contains(e.Message, c.says) {
			t.Errorf("%.40q: %+v", c.body, err)
		}
	}
}

func FuzzDecodeJSON(f *testing.F) {
	f.Add(`{"properties":{"maxSessions":1}}`)
	f.Add(`{"properties":null}`)
	f.Fuzz(func(t *testing.T, body string) {
		_, err := decode(body)
		if err == nil {
			return
		}
		if c := sandpool.ClassOf(err); c != sandpool.Invalid && c != sandpool.TooLarge {
			t.Fatalf("%q: class %v: %v", body, c, err)
		}
	})
}
