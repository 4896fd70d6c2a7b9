package jupyter

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What one end signs the other reads; anything else is refused.
func TestMessages(t *testing.T) {
	s := newSigner()
	parent := header{ID: "p", Type: "input_request"}
	parts, id, err := s.encode("input_reply", &parent, map[string]string{"value": "x"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.decode(append([][]byte{[]byte("identity")}, parts...))
	if err != nil || m.header.ID != id || m.header.Type != "input_reply" || m.parent.ID != "p" ||
		string(m.content) != `{"value":"x"}` {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := newSigner().decode(parts); err == nil {
		t.Error("a message under another key is read")
	}
	forged := slices.Clone(parts)
	forged[len(forged)-1] = []byte(`{"value":"y"}`)
	for name, parts := range map[string][][]byte{"forged": forged, "empty": nil, "short": parts[:4],
		"no delimiter": parts[1:]} {
		if m, err := s.decode(parts); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

// Kernelspecs are found where Jupyter looks for them, the first of a name, and nothing that is in
// their place holds up who looks.
func TestKernelspecs(t *testing.T) {
	root := t.TempDir()
	put := func(path, text string) {
		t.Helper()
		file := filepath.Join(root, path, "kernel.json")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("home/.local/share/jupyter/kernels/R", `{"argv":["mine"],"display_name":"My R"}`)
	put("opt/share/jupyter/kernels/r", `{"argv":["other"]}`)
	put("opt/share/jupyter/kernels/c",
		`{"argv":["none-such","{connection_file}","{resource_dir}"],"env":{"A":"${B}/${NONE}"}}`)
	put("opt/share/jupyter/kernels/.hidden", `{"argv":["x"]}`)
	put("opt/share/jupyter/kernels/large", `{"argv":["`+strings.Repeat("x", maxSpec)+`"]}`)
	put("opt/share/jupyter/kernels/empty", `{"argv":[]}`)
	put("opt/share/jupyter/kernels/mode", `{"argv":["x"],"interrupt_mode":"never"}`)
	put("extra/kernels/more", `{"argv":["x"],"interrupt_mode":"message"}`)
	pipe := filepath.Join(root, "opt/share/jupyter/kernels/pipe")
	if err := os.Mkdir(pipe, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(pipe, "kernel.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "held/share/jupyter"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(root, "held/share/jupyter/kernels"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"HOME=" + root + "/home", "PATH=/bin:" + root + "/held/bin:" + root + "/opt/bin:relative", "B=b",
		"JUPYTER_PATH=" + root + "/extra:"}
	dirs := Dirs(env)
	dirs = dirs[:slices.Index(dirs, "/usr/local/share/jupyter/kernels")] // what this machine has
	var names []string
	for _, k := range List(dirs) {
		names = append(names, k.Name)
	}
	if want := []string{"R", "c", "more"}; !slices.Equal(names, want) {
		t.Errorf("in %q are %q, want %q", dirs, names, want)
	}
	if k, err := Find(dirs, "r"); err != nil || k.Argv[0] != "mine" || k.InterruptMode != "signal" {
		t.Errorf("%+v, %v", k, err)
	}
	k, err := Find(dirs, "c")
	if err != nil {
		t.Fatal(err)
	}
	argv, environ := k.command("/tmp/c.json", env)
	if want := []string{"none-such", "/tmp/c.json", k.Dir}; !slices.Equal(argv, want) {
		t.Errorf("the command is %q, want %q", argv, want)
	}
	for _, want := range []string{"A=b/${NONE}", "PATH=" + root + "/opt/bin:" + env[1][5:]} {
		if !slices.Contains(environ, want) {
			t.Errorf("the environment is %q, without %q", environ, want)
		}
	}
	for _, name := range []string{"pipe", "large", "empty", "mode", "none", ".hidden", "../c"} {
		if k, err := Find(dirs, name); err == nil {
			t.Errorf("%s: %+v", name, k)
		}
	}
}

// A bundle is strings: text as it is, JSON as its text, and no more than there is room for.
func TestFlatten(t *testing.T) {
	var data map[string]json.RawMessage
	if err := json.Unmarshal([]byte(`{"text/plain":["a\n","b"],"text/html":"<b>","image/png":"aQ==",
		"application/json":{"a":"b"},"application/vnd.vega.v5+json":"{\"c\":1}","x/json":"word"}`),
		&data); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"text/plain": "a\nb", "text/html": "<b>", "image/png": "aQ==",
		"application/json": `{"a":"b"}`, "application/vnd.vega.v5+json": `{"c":1}`,
		"x/json": `"word"`}
	got := flatten(data)
	for mime, text := range want {
		if got[mime] != text || len(got) != len(want) {
			t.Errorf("%s: %q of %q, want %q", mime, got[mime], got, text)
		}
	}
	data["image/png"] = json.RawMessage(`"` + strings.Repeat("x", maxBundle) + `"`)
	if got := flatten(data); len(got["image/png"]) > 0 || got["text/plain"] != "a\nb" {
		t.Error("a picture that is too large is not left out, or more than it is")
	}
	if got := flatten(map[string]json.RawMessage{"image/png": data["image/png"]}); len(got) != 1 ||
		!strings.Contains(got["text/plain"], "more than") {
		t.Errorf("of nothing that fits: %q", got)
	}
}

// A bundle of very many representations is no work without end.
func TestManyForms(t *testing.T) {
	data := map[string]json.RawMessage{"text/plain": json.RawMessage(`"a"`)}
	for i := range 200_000 {
		data[fmt.Sprintf("application/x-%0200d", i)] = json.RawMessage(`"b"`)
	}
	if got := flatten(data); len(got) > maxForms || got["text/plain"] != "a" {
		t.Errorf("%d representations are kept, with the text %q", len(got), got["text/plain"])
	}
}

// Of what waits counts all that a kernel may make large, and how many messages there are.
func TestWeigh(t *testing.T) {
	s := newSigner()
	for name, h := range map[string]header{"large": {ID: strings.Repeat("x", 1<<20)}, "small": {}} {
		parts, _, err := s.encode("status", &h, struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		if n := weigh(parts); n < len(h.ID)+1<<10 {
			t.Errorf("a %s message weighs %d bytes", name, n)
		}
	}
}

// FuzzPlain: text without a sequence is left as it is, and none gets longer.
func FuzzPlain(f *testing.F) {
	for _, s := range []string{"\x1b[0;31mred\x1b[0m", "\x1b[", "\x1b[31", "a\x1b[31mb\x1b[", "\x1b[\x1b[m"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := plain(s); len(got) > len(s) || !strings.Contains(s, "\x1b[") && got != s {
			t.Errorf("%q becomes %q", s, got)
		}
	})
}

// Colours go, text stays.
func TestPlain(t *testing.T) {
	for s, want := range map[string]string{"\x1b[0;31mred\x1b[0m!": "red!", "a\x1b[31": "a",
		"\x1b[38;5;1mé\x1b[K": "é", "no": "no"} {
		if got := plain(s); got != want {
			t.Errorf("%q becomes %q, want %q", s, got, want)
		}
	}
}
