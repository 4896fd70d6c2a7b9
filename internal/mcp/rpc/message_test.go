package rpc

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	deep := strings.Repeat("[", 100_000)
	for text, code := range map[string]int{
		`{"jsonrpc":"2.0","id":1,"method":"ping"}`:                 0,
		`{"jsonrpc":"2.0","id":"a","method":"ping","params":null}`: 0,
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`:   0,
		`{"jsonrpc":"2.0","id":1,"result":{}}`:                     0,
		`[{"jsonrpc":"2.0","id":-1,"method":"ping"}]`:              0,
		``:    CodeParse,
		`{`:   CodeParse,
		`[]`:  CodeRequest,
		`[1]`: CodeParse,
		`"x"`: CodeParse,
		`{"jsonrpc":"1.0","id":1,"method":"ping"}`:                                 CodeRequest,
		`{"jsonrpc":"2.0","id":1}`:                                                 CodeRequest,
		`{"jsonrpc":"2.0","id":null,"method":"ping"}`:                              CodeRequest,
		`{"jsonrpc":"2.0","id":{},"method":"ping"}`:                                CodeRequest,
		`{"jsonrpc":"2.0","id":"` + strings.Repeat("x", 300) + `","method":"a"}`:   CodeRequest,
		`{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}`:                    CodeParams,
		`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":` + deep + `}}`:     CodeParse,
		`{"a":"` + strings.Repeat(`[\"`, 1000) + `","jsonrpc":"2.0","method":"x"}`: 0,
		`[` + strings.Repeat(`{"jsonrpc":"2.0","method":"x"},`, maxBatch) + `{}]`:  CodeRequest,
	} {
		all, _, bad := Decode([]byte(text))
		switch {
		case code == 0 && (bad != nil || len(all) == 0):
			t.Errorf("%.80s: %v", text, bad)
		case code != 0 && (bad == nil || bad.Code != code || bad.Status != 400):
			t.Errorf("%.80s: %+v, want the code %d", text, bad, code)
		}
	}
}

// FuzzDecode checks that whatever is let in is JSON within the bounds, and can be answered.
func FuzzDecode(f *testing.F) {
	f.Add(
		[]byte(
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{}}}`,
		),
	)
	f.Add(
		[]byte(`[{"jsonrpc":"2.0","id":"\u0061","method":"ping"},{"jsonrpc":"2.0","method":"y"}]`),
	)
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":"\\","b":[[[]]]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, batch, bad := Decode(data)
		if bad != nil {
			if bad.Status != 400 || bad.Message == "" {
				t.Errorf("%q: %+v", data, bad)
			}
			return
		}
		if !json.Valid(data) || len(all) == 0 || len(all) > maxBatch || !batch && len(all) != 1 {
			t.Errorf("%q gives %d messages", data, len(all))
		}
		if depth := depthOf(data); depth > maxDepth {
			t.Errorf("%q nests %d deep", data, depth)
		}
		for _, m := range all {
			if !m.IsCall() {
				continue
			}
			if _, err := json.Marshal(Response{JSONRPC: Version, ID: m.ID}); err != nil {
				t.Errorf("%q: %v", data, err)
			}
			if m.Params != nil && m.Params[0] != '{' {
				t.Errorf("%q has the params %q", data, m.Params)
			}
		}
	})
}

// depthOf is how deep valid JSON nests, by the library's own reading.
func depthOf(data []byte) (most int) {
	dec, depth := json.NewDecoder(strings.NewReader(string(data))), 0
	for {
		token, err := dec.Token()
		if err != nil {
			return most
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		most = max(most, depth)
	}
}
