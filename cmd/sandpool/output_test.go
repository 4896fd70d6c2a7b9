package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestProgress(t *testing.T) {
	for _, tt := range []struct {
		terminal bool
		want     string
	}{
		{false, "a  1  (0s)\nb  2  (0s)\nb  4  (6s)\nend  (6s)\n"},
		{true, "\ra  1  (0s)\rb  2  (0s)\rb  4  (6s)\rend  (6s) \n"},
	} {
		var out bytes.Buffer
		now := time.Unix(0, 0)
		p := startProgress(&out, tt.terminal, func() time.Time { return now })
		p.update("a", "1")
		p.update("b", "2") // a new step is shown at once
		p.update("b", "3") // too soon
		now = now.Add(6 * time.Second)
		p.update("b", "4")
		p.done("end")
		if got := out.String(); strings.TrimRight(got, " ") != tt.want {
			t.Errorf("terminal %v:\n%q\nwant\n%q", tt.terminal, got, tt.want)
		}
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{"/a/b-c.d": "/a/b-c.d", "/a b": "'/a b'", "it's": `'it'\''s'`, "$x": "'$x'"} {
		if got := shellQuote(in); got != want {
			t.Errorf("shellQuote(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestReachable(t *testing.T) {
	for in, want := range map[string]string{
		"http://0.0.0.0:80": "http://127.0.0.1:80", "http://[::]:80": "http://[::1]:80",
		"http://127.0.0.1:80": "http://127.0.0.1:80", "https://pool.example": "https://pool.example",
	} {
		if got := reachable(in); got != want {
			t.Errorf("reachable(%q) = %q, want %q", in, got, want)
		}
	}
}
