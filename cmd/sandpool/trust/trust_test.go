package trust

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/cmd/sandpool/console"
	"github.com/sandpool/sandpool/internal/authority"
)

// TestTrust: the machine's store gets the certificate and gives it back, and each kind of program
// is told what it needs.
func TestTrust(t *testing.T) {
	dir, anchors := t.TempDir(), t.TempDir()
	if _, _, err := authority.Open(dir, []string{"localhost"}, nil); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(dir, authority.CertFile)
	run := func(program string, undo bool) (string, error) {
		var out, errs bytes.Buffer
		c := Cmd{For: program, CA: ca, Undo: undo, Anchors: anchors, Update: []string{"true"}}
		err := c.Run(t.Context(), &console.App{Stdout: &out, Stderr: &errs})
		return out.String(), err
	}
	installed := filepath.Join(anchors, anchor)
	if _, err := run("system", false); err != nil {
		t.Fatal(err)
	}
	want, _ := os.ReadFile(ca)
	if got, err := os.ReadFile(installed); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the store has %q, %v", got, err)
	}
	for range 2 {
		if _, err := run("system", true); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(installed); err == nil {
		t.Error("the store has it still")
	}
	for program, says := range map[string]string{"print": "BEGIN CERTIFICATE",
		"python": "REQUESTS_CA_BUNDLE=", "node": "NODE_EXTRA_CA_CERTS=", "java": "-importcert",
		"go": "SSL_CERT_DIR", "curl": "cacert = "} {
		if out, err := run(program, false); err != nil || !strings.Contains(out, says) {
			t.Errorf("%s: %q, %v; want %q", program, out, err, says)
		}
		if out, err := run(program, true); err != nil || strings.Contains(out, "export ") {
			t.Errorf("%s, taken back: %q, %v", program, out, err)
		}
	}
	ca = filepath.Join(dir, "ca-key.pem")
	if _, err := run("print", false); err == nil {
		t.Error("a key was taken for a certificate")
	}
}
