package keyring_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/internal/keyring"
)

func ring(t *testing.T, keys ...string) *keyring.Ring {
	t.Helper()
	r, err := keyring.Parse(strings.Join(keys, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestPlaces: an envelope opens with its key and in its place, and nowhere else.
func TestPlaces(t *testing.T) {
	one, oneID := keyring.NewKey()
	two, twoID := keyring.NewKey()
	a, b, both := ring(t, one), ring(t, two), ring(t, "# both", two, "", one)
	sealed := a.Seal("hush", "secret", "pool", "name")
	if strings.Contains(sealed, "hush") || !strings.HasPrefix(sealed, "v1."+oneID+".") {
		t.Errorf("the envelope is %s", sealed)
	}
	if again := a.Seal("hush", "secret", "pool", "name"); again == sealed {
		t.Error("two envelopes of one value are the same")
	}
	for _, r := range []*keyring.Ring{a, both} {
		if got, err := r.Open(sealed, "secret", "pool", "name"); err != nil || got != "hush" {
			t.Errorf("Open = %q, %v", got, err)
		}
	}
	if both.Current() != twoID || !strings.Contains(both.Seal("x", "y"), twoID) {
		t.Errorf("the first key is not the one that seals: %v", both.IDs())
	}
	for what, try := range map[string]func() (string, error){
		"another key":     func() (string, error) { return b.Open(sealed, "secret", "pool", "name") },
		"another place":   func() (string, error) { return a.Open(sealed, "secret", "pool", "other") },
		"a split place":   func() (string, error) { return a.Open(sealed, "secret", "poolname") },
		"a joined place":  func() (string, error) { return a.Open(sealed, "secret", "pool\" \"name") },
		"no place":        func() (string, error) { return a.Open(sealed) },
		"a plain value":   func() (string, error) { return a.Open("hush", "secret", "pool", "name") },
		"an empty value":  func() (string, error) { return a.Open("", "secret", "pool", "name") },
		"a key's id only": func() (string, error) { return a.Open("v1." + oneID + ".") },
		"another id": func() (string, error) {
			return both.Open(strings.Replace(sealed, oneID, twoID, 1), "secret", "pool", "name")
		},
		"another version": func() (string, error) {
			return a.Open("v2"+sealed[2:], "secret", "pool", "name")
		},
	} {
		got, err := try()
		if !errors.Is(err, keyring.ErrSealed) || got != "" {
			t.Errorf("%s: %q, %v", what, got, err)
		}
		if text := fmt.Sprint(err); strings.Contains(text, sealed) || strings.Contains(text, one) {
			t.Errorf("%s: the error repeats what it was given: %v", what, err)
		}
	}
}

// TestBits: no changed bit goes unnoticed.
func TestBits(t *testing.T) {
	text, _ := keyring.NewKey()
	r := ring(t, text)
	sealed := r.Seal("hush", "p")
	for i := range len(sealed) {
		for bit := range 7 {
			changed := []byte(sealed)
			changed[i] ^= 1 << bit
			if got, err := r.Open(string(changed), "p"); err == nil {
				t.Fatalf("with bit %d of byte %d changed it opens as %q", bit, i, got)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	text := base64.StdEncoding.EncodeToString(make([]byte, 32))
	r, err := keyring.Parse(text)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.Seal("x", "p"))
	f.Add("v1..")
	f.Fuzz(func(t *testing.T, envelope string) {
		if got, err := r.Open(envelope, "q"); err == nil {
			t.Errorf("%q opens as %q", envelope, got)
		}
	})
}

func TestParse(t *testing.T) {
	text, id := keyring.NewKey()
	url := strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(text)
	if got := ring(t, "  "+url+"\r", text).IDs(); len(got) != 1 || got[0] != id {
		t.Errorf("the same key in two forms has the ids %v, want %s", got, id)
	}
	for _, bad := range []string{"", "# none", "short", text + text, text[:30], "sp_" + text} {
		_, err := keyring.Parse(bad)
		if err == nil || bad != "" && strings.Contains(err.Error(), bad) && len(bad) > 10 {
			t.Errorf("Parse(%q): %v", bad, err)
		}
	}
	if _, err := ring(t, text).With("0000000000000000"); err == nil {
		t.Error("a ring seals with a key that it does not have")
	}
}

func TestSources(t *testing.T) {
	text, id := keyring.NewKey()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("STORE_KEY_OF_TEST", text)
	for _, s := range []keyring.Settings{{File: path}, {Variable: "STORE_KEY_OF_TEST"},
		{Command: []string{"cat", path}}} {
		r, err := keyring.Source{Settings: s, Default: "/none"}.Read(t.Context())
		if err != nil || r.Current() != id || len(s.Validate()) > 0 {
			t.Errorf("%+v: %v, %v", s, err, s.Validate())
		}
	}
	for _, c := range []struct {
		settings keyring.Settings
		want     []string
		none     bool
	}{
		{keyring.Settings{}, []string{"/none/store-key", "no setting store_key"}, true},
		{keyring.Settings{File: "/none/x"}, []string{"/none/x", "store_key.file"}, true},
		{keyring.Settings{Variable: "NOT_SET_X"}, []string{"NOT_SET_X", "store_key.variable"}, true},
		{keyring.Settings{Command: []string{"sh", "-c", "echo sealed vault >&2; exit 3"}},
			[]string{"store_key.command", "exit status 3", "sealed vault"}, false},
		{keyring.Settings{Command: []string{"head", "-c", "1000000", "/dev/zero"}},
			[]string{"store_key.command", "more than"}, false},
		{keyring.Settings{Command: []string{"echo", "not a key"}}, []string{"line 1"}, false},
	} {
		_, err := keyring.Source{Settings: c.settings, Default: "/none/store-key"}.Read(t.Context())
		if err == nil || errors.Is(err, keyring.ErrNone) != c.none {
			t.Errorf("%+v: %v", c.settings, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %v, want %q in it", c.settings, err, want)
			}
		}
	}
	for _, bad := range []keyring.Settings{{File: "x"}, {File: "/x", Variable: "Y"},
		{Variable: "SANDPOOL_KEY"}} {
		if len(bad.Validate()) == 0 {
			t.Errorf("%+v is valid", bad)
		}
	}
	text = strings.Replace(text, text[:1], "a", 1) // for the path of a file it would have to be /
	for _, mistaken := range []keyring.Settings{{File: text}, {Variable: text}} {
		problems := mistaken.Validate()
		if len(problems) == 0 || strings.Contains(errors.Join(problems...).Error(), text[:20]) {
			t.Errorf("a key in place of where it is: %v", problems)
		}
	}
}

// TestAdd: a new key comes first, and none is lost.
func TestAdd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store-key")
	var want []string
	for range 3 {
		id, err := keyring.Add(path)
		if err != nil {
			t.Fatal(err)
		}
		want = append([]string{id}, want...)
	}
	r, err := keyring.Source{Default: path}.Read(t.Context())
	if err != nil || strings.Join(r.IDs(), " ") != strings.Join(want, " ") {
		t.Errorf("the keys are %v, want %v: %v", r.IDs(), want, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func BenchmarkSealOpen(b *testing.B) {
	text, _ := keyring.NewKey()
	r, err := keyring.Parse(text)
	if err != nil {
		b.Fatal(err)
	}
	value := strings.Repeat("x", 26)
	for b.Loop() {
		if _, err := r.Open(r.Seal(value, "sandbox", "id"), "sandbox", "id"); err != nil {
			b.Fatal(err)
		}
	}
}
