package request

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/gateway/wire"
)

// testLimits are the server's own.
func testLimits() Limits {
	return Limits{MaxTimeout: 220 * time.Second, DefaultOutput: 1 << 20, MaxOutput: 4 << 20}
}

// errorOf returns the first sandpool.Error in err's chain, or nil.
func errorOf(err error) *sandpool.Error {
	var e *sandpool.Error
	errors.As(err, &e)
	return e
}

func TestCode(t *testing.T) {
	o := testLimits()
	for _, tt := range []struct {
		name, body string
		want       Execution
	}{
		{"flat", `{"code":"1"}`, Execution{ExecuteRequest: agent.ExecuteRequest{Code: "1"}}},
		{"wrapped", `{"properties":{"code":"1","timeoutInSeconds":100}}`,
			Execution{ExecuteRequest: agent.ExecuteRequest{Code: "1", Timeout: 100 * time.Second}}},
		{"wrapped goes first", `{"code":"2","properties":{"code":"1"}}`,
			Execution{ExecuteRequest: agent.ExecuteRequest{Code: "1"}}},
		{"null wrapper", `{"properties":null,"code":"1"}`,
			Execution{ExecuteRequest: agent.ExecuteRequest{Code: "1"}}},
		{"any case", `{"Code":"1","CodeInputType":"INLINE","executiontype":"Synchronous"}`,
			Execution{ExecuteRequest: agent.ExecuteRequest{Code: "1"}}},
		{"inline text", `{"code":"1","codeInputType":"InlineText"}`,
			Execution{ExecuteRequest: agent.ExecuteRequest{Code: "1"}}},
		{"base64", `{"code":"MSsx","codeInputType":"inlineBase64"}`,
			Execution{ExecuteRequest: agent.ExecuteRequest{Code: "1+1"}}},
		{"base64 without padding, URL alphabet",
			`{"code":"J-KCrD8_Jw","codeInputType":"InlineBase64"}`, Execution{
				ExecuteRequest: agent.ExecuteRequest{Code: "'€??'"}}},
		{"legacy", `{"properties":{"pythonCode":"1","identifier":"abcd"}}`,
			Execution{ExecuteRequest: agent.ExecuteRequest{Code: "1"}, Identifier: "abcd"}},
		{"empty code", `{"code":""}`, Execution{}},
		{"unknown fields", `{"code":"1","networkStatus":"EgressEnabled","x":{"y":[1]}}`,
			Execution{ExecuteRequest: agent.ExecuteRequest{Code: "1"}}},
		{"float timeout", `{"code":"1","timeoutInSeconds":60.0}`,
			Execution{ExecuteRequest: agent.ExecuteRequest{Code: "1", Timeout: time.Minute}}},
		{"longest timeout", `{"code":"1","timeoutInSeconds":220}`,
			Execution{ExecuteRequest: agent.ExecuteRequest{Code: "1", Timeout: 220 * time.Second}}},
		{"beyond the longest", `{"code":"1","timeoutInSeconds":221}`,
			Execution{ExecuteRequest: agent.ExecuteRequest{Code: "1", Timeout: 220 * time.Second}}},
		{"far beyond", `{"code":"1","timeoutInSeconds":1e30}`,
			Execution{ExecuteRequest: agent.ExecuteRequest{Code: "1", Timeout: 220 * time.Second}}},
		{"output limit", `{"code":"1","outputStreamsMaxLength":4096}`,
			Execution{ExecuteRequest: agent.ExecuteRequest{Code: "1", MaxOutput: 4096}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want.Timeout == 0 {
				tt.want.Timeout = 220 * time.Second
			}
			if tt.want.MaxOutput == 0 {
				tt.want.MaxOutput = 1 << 20
			}
			got, err := o.Code([]byte(tt.body))
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

// TestRefusedBodies checks that every refusal names the field.
func TestRefusedBodies(t *testing.T) {
	o := testLimits()
	for _, tt := range []struct{ body, target, code string }{
		{``, "body", wire.CodeMissing},
		{`  `, "body", wire.CodeMissing},
		{`{}`, "code", wire.CodeMissing},
		{`{"properties":{}}`, "code", wire.CodeMissing},
		{`{"code":null}`, "code", wire.CodeMissing},
		{`{"shellCommand":"ls"}`, "code", wire.CodeMissing},
		{`{"execCommandAndArgs":["ls"]}`, "code", wire.CodeMissing},
		{`{"code":"1"`, "body", wire.CodeValidation},
		{`{"code":"1"} {}`, "body", wire.CodeValidation},
		{`[1]`, "body", wire.CodeValidation},
		{`"x"`, "body", wire.CodeValidation},
		{`{"code":1}`, "code", wire.CodeValidation},
		{`{"properties":{"code":["1"]}}`, "code", wire.CodeValidation},
		{`{"code":"1","codeInputType":"file"}`, "codeInputType", wire.CodeValidation},
		{`{"code":"%%%","codeInputType":"inlineBase64"}`, "code", wire.CodeValidation},
		{`{"code":"/w==","codeInputType":"inlineBase64"}`, "code", wire.CodeValidation},
		{`{"code":"1","executionType":"later"}`, "executionType", wire.CodeValidation},
		{`{"code":"1","timeoutInSeconds":0}`, "timeoutInSeconds", wire.CodeValidation},
		{`{"code":"1","timeoutInSeconds":-1}`, "timeoutInSeconds", wire.CodeValidation},
		{`{"code":"1","timeoutInSeconds":1.5}`, "timeoutInSeconds", wire.CodeValidation},
		{`{"code":"1","timeoutInSeconds":1e400}`, "timeoutInSeconds", wire.CodeValidation},
		{`{"code":"1","timeoutInSeconds":-99999999999999999999}`, "timeoutInSeconds",
			wire.CodeValidation},
		{`{"code":"1","timeoutInSeconds":"soon"}`, "body", wire.CodeValidation},
		{`{"code":"1","timeoutInSeconds":true}`, "timeoutInSeconds", wire.CodeValidation},
		{`{"code":"1","outputStreamsMaxLength":0}`, "outputStreamsMaxLength", wire.CodeValidation},
		{`{"code":"1","outputStreamsMaxLength":16777217}`, "outputStreamsMaxLength",
			wire.CodeValidation},
		{`{"code":"1","useEmptyKernel":true}`, "useEmptyKernel", wire.CodeUnsupported},
		{`{"code":"1","returnJupyterFormatExecutionResult":true}`,
			"returnJupyterFormatExecutionResult", wire.CodeUnsupported},
		{`{"code":"1","env":["A"]}`, "env", wire.CodeValidation},
		{`{"code":"1","env":{"A":1}}`, "env", wire.CodeValidation},
		{strings.Repeat(`{"a":`, 20000) + `1` + strings.Repeat(`}`, 20000), "body", wire.CodeValidation},
	} {
		name := tt.body
		if len(name) > 60 {
			name = name[:60]
		}
		t.Run(name, func(t *testing.T) {
			_, err := o.Code([]byte(tt.body))
			e := errorOf(err)
			if e == nil || e.Target != tt.target || e.Code != tt.code ||
				len(e.Message) > 300 || strings.Contains(e.Message, "Fields") {
				t.Errorf("got %+v, want target %q and code %q", e, tt.target, tt.code)
			}
		})
	}
}

func FuzzCode(f *testing.F) {
	f.Add([]byte(
		`{"properties":{"code":"1","timeoutInSeconds":1e2,"codeInputType":"inlineBase64"}}`))
	f.Add([]byte(`{"code":"1","outputStreamsMaxLength":"7"}`))
	o := testLimits()
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := o.Code(data)
		if err != nil {
			if e := errorOf(err); e == nil || e.Target == "" || e.Message == "" ||
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
