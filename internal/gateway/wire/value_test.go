package wire

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/internal/agent"
)

// TestValues is the table of section b.5 of the compatibility reference.
func TestValues(t *testing.T) {
	zeros := strings.Repeat("0", 400)
	nested := func(depth int) string {
		return strings.Repeat("[", depth) + strings.Repeat("]", depth)
	}
	value := func(text string) agent.ExecuteResult {
		return agent.ExecuteResult{Outcome: agent.OK, HasValue: true, Text: text}
	}
	for _, tt := range []struct {
		name string
		res  agent.ExecuteResult
		want string
	}{
		{"statement", agent.ExecuteResult{Outcome: agent.OK}, `""`},
		{"int", value("2"), `2`},
		{"float", value("1.5"), `1.5`},
		{"huge int", value("123456789012345678901234567890"), `123456789012345678901234567890`},
		{"negative exponent", value("1e-07"), `1e-07`},
		{"True", value("True"), `"True"`},
		{"repr None", value("None"), `"None"`},
		{"repr null", value("null"), `"null"`},
		{"repr null in space", value(" null\n"), `" null\n"`},
		{"list of null", value("[null]"), `[null]`},
		{"beyond a float64", value("1" + zeros), `"1` + zeros + `"`},
		{"as long within one", value("0." + zeros + "1"), `0.` + zeros + `1`},
		{"exponent beyond", value(`{"a":[-1e309]}`), `"{\"a\":[-1e309]}"`},
		{"exponent within", value(`{"a":[-1E+308,2]}`), `{"a":[-1E+308,2]}`},
		{"exponent in a string", value(`["1e999 \" [[ \\"]`), `["1e999 \" [[ \\"]`},
		{"as deep as may be", value(nested(50)), nested(50)},
		{"deeper", value(nested(51)), `"` + nested(51) + `"`},
		{"deep beside each other", value("[" + nested(49) + "," + nested(49) + "]"),
			"[" + nested(49) + "," + nested(49) + "]"},
		{"a pair of surrogates", value(`"\ud83d\ude00"`), `"\ud83d\ude00"`},
		{"half a pair", value(`["\ud83d"]`), `"[\"\\ud83d\"]"`},
		{"the other half", value(`["\uDE00 "]`), `"[\"\\uDE00 \"]"`},
		{"half a pair in a key", value(`{"\ud83dx\ude00":1}`), `"{\"\\ud83dx\\ude00\":1}"`},
		{"str", value("'abc'"), `"'abc'"`},
		{"str nan", value("'nan'"), `"'nan'"`},
		{"nan", value("nan"), `"nan"`},
		{"infinity", value("inf"), `"inf"`},
		{"list", value("[1, 2]"), `[1,2]`},
		{"list of str", value("['a',\n 'b']"), `"['a',\n 'b']"`},
		{"dict", value("{'a': 1}"), `"{'a': 1}"`},
		{"int keys", value("{1: 2}"), `"{1: 2}"`},
		{"empty dict", value("{}"), `{}`},
		{"DataFrame", value("   a  b\n0  1  2"), `"   a  b\n0  1  2"`},
		{"own empty repr", value(""), `""`},
		{"octal-like", value("007"), `"007"`},
		{"tuple", value("(1, 2)"), `"(1, 2)"`},
		{"figure", agent.ExecuteResult{Outcome: agent.OK, Displays: []agent.Display{
			{Data: map[string]string{"image/png": "iVBORw==\n", "text/plain": "<Figure>"}}}},
			`{"type":"image","format":"png","base64_data":"iVBORw=="}`},
		{"figure beside a value", agent.ExecuteResult{Outcome: agent.OK, HasValue: true,
			Text: "[<Line2D>]", Displays: []agent.Display{
				{Data: map[string]string{"image/png": "iVBORw=="}}}},
			`{"type":"image","format":"png","base64_data":"iVBORw=="}`},
		{"svg", agent.ExecuteResult{Outcome: agent.OK, Displays: []agent.Display{
			{Data: map[string]string{"image/svg+xml": "<svg/>"}}}},
			`{"type":"image","format":"svg","base64_data":"PHN2Zy8+"}`},
		{"html display", agent.ExecuteResult{Outcome: agent.OK, Displays: []agent.Display{
			{Data: map[string]string{"text/html": "<b>"}}}}, `""`},
		{"raised after a figure", agent.ExecuteResult{Outcome: agent.Failed,
			Displays: []agent.Display{{Data: map[string]string{"image/png": "iVBORw=="}}}}, `""`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := encode(AnswerOf(tt.res, 0).result)
			if string(got) != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// TestSeveralFigures checks that no figure and no value is lost.
func TestSeveralFigures(t *testing.T) {
	a := AnswerOf(agent.ExecuteResult{Outcome: agent.OK, HasValue: true, Text: "7",
		Displays: []agent.Display{
			{Data: map[string]string{"image/png": "AAAA"}}, {
				Data: map[string]string{"text/html": "<i>"}},
			{Data: map[string]string{"image/jpeg": "BBBB"}}}}, 0)
	if got, want := string(encode(a.result)),
		`{"type":"image","format":"png","base64_data":"AAAA"}`; got != want {
		t.Errorf("result %s, want %s", got, want)
	}
	if got, want := string(encode(a.extras)),
		`{"images":[{"type":"image","format":"png","base64_data":"AAAA"},{"type":"image","format":"jpeg","base64_data":"BBBB"}],`+
			`"displayData":[{"text/html":"\u003ci\u003e"},{"text/plain":"7"}]}`; got != want {
		t.Errorf("extras %s, want %s", got, want)
	}
}

// TestFigureBeforeFailure checks that what was drawn before an exception is kept.
func TestFigureBeforeFailure(t *testing.T) {
	a := AnswerOf(agent.ExecuteResult{Outcome: agent.Failed, Displays: []agent.Display{
		{Data: map[string]string{"image/png": "AAAA"}}},
		Error: &agent.ExecutionError{Name: "ValueError", Message: "no",
			Traceback: "ValueError: no"}}, 0)
	if len(a.extras.Images) != 1 || a.extras.Images[0].Data != "AAAA" {
		t.Errorf("images %v", a.extras.Images)
	}
}

// TestFacesOfAValue: what a value has besides its text is displayed, as display() would.
func TestFacesOfAValue(t *testing.T) {
	table := agent.Bundle{"text/plain": "   a", "text/html": "a table"}
	figure := agent.Display{Data: agent.Bundle{"image/png": "aGk=", "text/plain": "Figure()"}}
	for _, tt := range []struct {
		name   string
		res    agent.ExecuteResult
		result string
		want   string // displayData
	}{
		{"a table", agent.ExecuteResult{HasValue: true, Text: "   a", Value: table}, `"   a"`,
			`[{"text/html":"a table","text/plain":"   a"}]`},
		{"HTML alone", agent.ExecuteResult{HasValue: true,
			Value: agent.Bundle{"text/html": "bold"}}, `""`, `[{"text/html":"bold"}]`},
		{"text", agent.ExecuteResult{HasValue: true, Text: "1",
			Value: agent.Bundle{"text/plain": "1"}}, `1`, `null`},
		{"a table beside a figure", agent.ExecuteResult{HasValue: true, Text: "   a", Value: table,
			Displays: agent.Displays{figure}},
			`{"type":"image","format":"png","base64_data":"aGk="}`,
			`[{"text/html":"a table","text/plain":"   a"}]`},
		{"a table after a display", agent.ExecuteResult{HasValue: true, Text: "   a", Value: table,
			Displays: agent.Displays{{Data: agent.Bundle{"text/markdown": "*m*"}}}},
			`"   a"`, `[{"text/markdown":"*m*"},{"text/html":"a table","text/plain":"   a"}]`},
		{"an image with HTML", agent.ExecuteResult{HasValue: true, Text: "Image()",
			Value: agent.Bundle{"image/png": "aGk=", "text/html": "img", "text/plain": "Image()"}},
			`{"type":"image","format":"png","base64_data":"aGk="}`,
			`[{"text/html":"img","text/plain":"Image()"}]`},
		{"an image", agent.ExecuteResult{HasValue: true, Text: "Image()",
			Value: agent.Bundle{"image/png": "aGk=", "text/plain": "Image()"}},
			`{"type":"image","format":"png","base64_data":"aGk="}`, `null`},
		{"nothing", agent.ExecuteResult{}, `""`, `null`},
	} {
		tt.res.Outcome = agent.OK
		a := AnswerOf(tt.res, 0)
		if got := string(encode(a.extras.DisplayData)); got != tt.want ||
			string(a.result) != tt.result {
			t.Errorf("%s: result %s, displays %s; want %s, %s", tt.name, a.result, got, tt.result,
				tt.want)
		}
	}
}

// TestNotice: why variables are lost is said before what the code wrote.
func TestNotice(t *testing.T) {
	a := AnswerOf(agent.ExecuteResult{Outcome: agent.OK, KernelRestarted: true,
		Notice: "It was restarted.", Stderr: "warned"}, 0)
	if a.stderr != "It was restarted.\nwarned" || !a.extras.StateLost || !a.ok {
		t.Errorf("%+v", a)
	}
}

// FuzzTextValue checks that every printed value becomes valid JSON.
func FuzzTextValue(f *testing.F) {
	for _, s := range []string{"1", "nan", "None", "\xff", "{", "[1, 2]", "\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v := textValue(s); !json.Valid(v) {
			t.Errorf("%q became %q", s, v)
		}
		if v := stringify(textValue(s)); len(v) == 0 || v[0] != '"' || !json.Valid(v) {
			t.Errorf("%q became %q as a string", s, v)
		}
	})
}
