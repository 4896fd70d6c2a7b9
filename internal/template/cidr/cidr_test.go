package cidr

import (
	"encoding/json"
	"testing"
)

// TestParse: the examples of Azure's documentation, and the edges.
func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"10.144.0.0/20": `{"broadcast":"10.144.15.255","cidr":20,"firstUsable":"10.144.0.1",` +
			`"lastUsable":"10.144.15.254","netmask":"255.255.240.0","network":"10.144.0.0"}`,
		"10.144.3.7/31": `{"broadcast":"10.144.3.7","cidr":31,"firstUsable":"10.144.3.6",` +
			`"lastUsable":"10.144.3.7","netmask":"255.255.255.254","network":"10.144.3.6"}`,
		"0.0.0.0/0": `{"broadcast":"255.255.255.255","cidr":0,"firstUsable":"0.0.0.1",` +
			`"lastUsable":"255.255.255.254","netmask":"0.0.0.0","network":"0.0.0.0"}`,
		"fdad:3236:5555::/48": `{"cidr":48,"firstUsable":"fdad:3236:5555::",` +
			`"lastUsable":"fdad:3236:5555:ffff:ffff:ffff:ffff:ffff","netmask":"ffff:ffff:ffff::",` +
			`"network":"fdad:3236:5555::"}`,
	} {
		v, err := Parse(text)
		if got, _ := json.Marshal(v); string(got) != want || err != nil {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "x/8", "::1%lo/64",
		"::ffff:10.0.0.0/104"} {
		if v, err := Parse(bad); err == nil {
			t.Errorf("%q is taken: %v", bad, v)
		}
	}
}

// TestParts: the examples of Azure's documentation, and what lies outside.
func TestParts(t *testing.T) {
	for _, row := range []struct {
		text        string
		bits, index int64
		want        string
	}{
		{"10.144.0.0/20", 24, 0, "10.144.0.0/24"}, {"10.144.0.0/20", 24, 4, "10.144.4.0/24"},
		{"10.144.0.0/20", 24, 15, "10.144.15.0/24"}, {"10.144.0.0/20", 24, 16, ""},
		{"10.144.0.0/20", 19, 0, ""}, {"10.144.0.0/20", 33, 0, ""}, {"10.144.0.0/20", 24, -1, ""},
		{"fdad:3236:5555::/48", 52, 0, "fdad:3236:5555::/52"},
		{"fdad:3236:5555::/48", 52, 4, "fdad:3236:5555:4000::/52"},
		{"::/0", 128, 1<<63 - 1, "::7fff:ffff:ffff:ffff/128"},
	} {
		got, err := Subnet(row.text, row.bits, row.index)
		if got != row.want || (err == nil) != (row.want != "") {
			t.Errorf("%+v: %q, %v", row, got, err)
		}
	}
	for _, row := range []struct {
		text  string
		index int64
		want  string
	}{
		{"10.144.3.0/24", 0, "10.144.3.1"}, {"10.144.3.0/24", 4, "10.144.3.5"},
		{"10.144.3.0/24", 253, "10.144.3.254"}, {"10.144.3.0/24", 254, ""},
		{"10.144.3.0/24", -1, ""}, {"10.144.3.0/32", 0, "10.144.3.0"}, {"10.144.3.0/31", 1, "10.144.3.1"},
		{"fdad:3236:5555:3000::/52", 0, "fdad:3236:5555:3000::1"},
		{"fdad:3236:5555:3000::/52", 4, "fdad:3236:5555:3000::5"},
	} {
		got, err := Host(row.text, row.index)
		if got != row.want || (err == nil) != (row.want != "") {
			t.Errorf("%+v: %q, %v", row, got, err)
		}
	}
}

func FuzzCIDR(f *testing.F) {
	f.Add("10.0.0.0/8", int64(24), int64(1))
	f.Add("fd00::/8", int64(128), int64(1)<<62)
	f.Fuzz(func(t *testing.T, text string, bits, index int64) {
		_, whole := Parse(text)
		_, part := Subnet(text, bits, index)
		_, host := Host(text, index)
		if whole != nil && (part == nil || host == nil) {
			t.Errorf("%q is no range, and has parts", text)
		}
	})
}
