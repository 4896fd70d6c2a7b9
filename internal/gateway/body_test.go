package gateway

import (
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

func TestParseExecution(t *testing.T) {
	o := Options{}.withDefaults()
	for _, tt := range []struct {
		name, body string
		want       execution
	}{
		{"flat", `{"code":"1"}`, execution{ExecuteRequest: agent.ExecuteRequest{Code: "1"}}},
		{"wrapped", `{"properties":{"code":"1","timeoutInSeconds":100}}`,
			execution{ExecuteRequest: agent.ExecuteRequest{Code: "1", Timeout: 100 * time.Second}}},
		{"wrapped goes first", `{"code":"2","properties":{"code":"1"}}`,
			execution{ExecuteRequest: agent.ExecuteRequest{Code: "1"}}},
		{"null wrapper", `{"properties":null,"code":"1"}`,
			execution{ExecuteRequest: agent.ExecuteRequest{Code: "1"}}},
		{"any case", `{"Code":"1","CodeInputType":"INLINE","executiontype":"Synchronous"}`,
			execution{ExecuteRequest: agent.ExecuteRequest{Code: "1"}}},
		{"inline text", `{"code":"1","codeInputType":"InlineText"}`,
			execution{ExecuteRequest: agent.ExecuteRequest{Code: "1"}}},
		{"base64", `{"code":"MSsx","codeInputType":"inlineBase64"}`,
			execution{ExecuteRequest: agent.ExecuteRequest{Code: "1+1"}}},
		{"base64 without padding, URL alphabet",
			`{"code":"J-KCrD8_Jw","codeInputType":"InlineBase64"}`, execution{
				ExecuteRequest: agent.ExecuteRequest{Code: "'€??'"}}},
		{"legacy", `{"properties":{"pythonCode":"1","identifier":"abcd"}}`,
			execution{ExecuteRequest: agent.ExecuteRequest{Code: "1"}, identifier: "abcd"}},
		{"empty code", `{"code":""}`, execution{}},
		{"unknown fields", `{"code":"1","networkStatus":"EgressEnabled","x":{"y":[1]}}`,
			execution{ExecuteRequest: agent.ExecuteRequest{Code: "1"}}},
		{"float timeout", `{"code":"1","timeoutInSeconds":60.0}`,
			execution{ExecuteRequest: agent.ExecuteRequest{Code: "1", Timeout: time.Minute}}},
		{"longest timeout", `{"code":"1","timeoutInSeconds":220}`,
			execution{ExecuteRequest: agent.ExecuteRequest{Code: "1", Timeout: 220 * time.Second}}},
		{"beyond the longest", `{"code":"1","timeoutInSeconds":221}`,
			execution{ExecuteRequest: agent.ExecuteRequest{Code: "1", Timeout: 220 * time.Second}}},
		{"far beyond", `{"code":"1","timeoutInSeconds":1e30}`,
			execution{ExecuteRequest: agent.ExecuteRequest{Code: "1", Timeout: 220 * time.Second}}},
		{"output limit", `{"code":"1","outputStreamsMaxLength":4096}`,
			execution{ExecuteRequest: agent.ExecuteRequest{Code: "1", MaxOutput: 4096}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want.Timeout == 0 {
				tt.want.Timeout = 220 * time.Second
			}
			if tt.want.MaxOutput == 0 {
				tt.want.MaxOutput = 1 << 20
			}
			got, err := o.parseExecution([]byte(tt.body))
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

// TestRefusedBodies checks that every refusal names the field.
func TestRefusedBodies(t *testing.T) {
	o := Options{}.withDefaults()
	for _, tt := range []struct{ body, target, code string }{
		{``, "body", codeMissing},
		{`  `, "body", codeMissing},
		{`{}`, "code", codeMissing},
		{`{"properties":{}}`, "code", codeMissing},
		{`{"code":null}`, "code", codeMissing},
		{`{"shellCommand":"ls"}`, "code", codeMissing},
		{`{"execCommandAndArgs":["ls"]}`, "code", codeMissing},
		{`{"code":"1"`, "body", codeValidation},
		{`{"code":"1"} {}`, "body", codeValidation},
		{`[1]`, "body", codeValidation},
		{`"x"`, "body", codeValidation},
		{`{"code":1}`, "code", codeValidation},
		{`{"properties":{"code":["1"]}}`, "code", codeValidation},
		{`{"code":"1","codeInputType":"file"}`, "codeInputType", codeValidation},
		{`{"code":"%%%","codeInputType":"inlineBase64"}`, "code", codeValidation},
		{`{"code":"/w==","codeInputType":"inlineBase64"}`, "code", codeValidation},
		{`{"code":"1","executionType":"later"}`, "executionType", codeValidation},
		{`{"code":"1","timeoutInSeconds":0}`, "timeoutInSeconds", codeValidation},
		{`{"code":"1","timeoutInSeconds":-1}`, "timeoutInSeconds", codeValidation},
		{`{"code":"1","timeoutInSeconds":1.5}`, "timeoutInSeconds", codeValidation},
		{`{"code":"1","timeoutInSeconds":1e400}`, "timeoutInSeconds", codeValidation},
		{`{"code":"1","timeoutInSeconds":-99999999999999999999}`, "timeoutInSeconds",
			codeValidation},
		{`{"code":"1","timeoutInSeconds":"soon"}`, "body", codeValidation},
		{`{"code":"1","timeoutInSeconds":true}`, "timeoutInSeconds", codeValidation},
		{`{"code":"1","outputStreamsMaxLength":0}`, "outputStreamsMaxLength", codeValidation},
		{`{"code":"1","outputStreamsMaxLength":16777217}`, "outputStreamsMaxLength",
			codeValidation},
		{`{"code":"1","useEmptyKernel":true}`, "useEmptyKernel", codeUnsupported},
		{`{"code":"1","returnJupyterFormatExecutionResult":true}`,
			"returnJupyterFormatExecutionResult", codeUnsupported},
		{strings.Repeat(`{"a":`, 20000) + `1` + strings.Repeat(`}`, 20000), "body", codeValidation},
	} {
		name := tt.body
		if len(name) > 60 {
			name = name[:60]
		}
		t.Run(name, func(t *testing.T) {
			_, err := o.parseExecution([]byte(tt.body))
			e := asError(err)
			if e == nil || e.Target != tt.target || e.Code != tt.code || len(e.Message) > 300 {
				t.Errorf("got %+v, want target %q and code %q", e, tt.target, tt.code)
			}
		})
	}
}

func TestLargeBody(t *testing.T) {
	w := newWorld(t, Options{MaxBody: 1000})
	body := `{"code":"` + strings.Repeat("#", 1000) + `"}`
	if got := w.do("POST", "executions?identifier=abcd", body); got.status != 413 {
		t.Errorf("announced: %d %s", got.status, got.body)
	}
	o := Options{MaxBody: 1000}.withDefaults()
	r := httptest.NewRequest("POST", "/", strings.NewReader(body))
	r.ContentLength = -1
	if _, err := o.readExecution(httptest.NewRecorder(), r, &hold{},
		o.parseExecution); sandpool.ClassOf(err) != sandpool.TooLarge {
		t.Errorf("chunked: %v", err)
	}
	if acquired, _ := w.counts(); acquired != 0 {
		t.Errorf("a refused body acquired %d leases", acquired)
	}
}

func FuzzParseExecution(f *testing.F) {
	f.Add([]byte(
		`{"properties":{"code":"1","timeoutInSeconds":1e2,"codeInputType":"inlineBase64"}}`))
	f.Add([]byte(`{"code":"1","outputStreamsMaxLength":"7"}`))
	o := Options{}.withDefaults()
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := o.parseExecution(data)
		if err != nil {
			if e := asError(err); e == nil || e.Target == "" || e.Message == "" ||
				len(e.Message) > 500 {
				t.Errorf("%q: error %#v", data, err)
			}
			return
		}
		if x.Timeout < time.Second || x.Timeout > o.MaxTimeout || x.MaxOutput < 1 ||
			x.MaxOutput > o.MaxOutput {
			t.Errorf("%q: out of range: %+v", data, x)
		}
	})
}
