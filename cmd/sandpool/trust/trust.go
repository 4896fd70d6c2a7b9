// Package trust is the command that has programs trust a server's private certificate authority, or
// says how.
package trust

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// Cmd trusts an authority.
type Cmd struct {
	For  string `arg:"" optional:"" enum:"print,system,python,node,java,go,curl" default:"print" help:"Who is to trust it: system installs the certificate for the machine; python, node, java, go and curl print what to set; print shows the certificate."`
	CA   string `name:"ca" help:"The authority's certificate; without it that of the server in use." type:"path" placeholder:"FILE"`
	Undo bool   `help:"Undo it: system removes the certificate, the others print what to unset."`

	Anchors string   `hidden:"" default:"/usr/local/share/ca-certificates" type:"path"`
	Update  []string `hidden:"" default:"update-ca-certificates"`
}

// anchor is the file that the machine's store gets.
const anchor = "sandpool-private-authority.crt"

// Run trusts the authority, or prints how.
func (c *Cmd) Run(ctx context.Context, a *console.App) error {
	if c.For == "system" && c.Undo {
		return c.install(ctx, a, nil)
	}
	path, text, err := c.certificate(a)
	if err != nil {
		return err
	}
	if c.For == "system" {
		return c.install(ctx, a, text)
	}
	lines, undo := settings(c.For, path, string(text))
	if c.Undo {
		lines = undo
	}
	_, err = fmt.Fprintln(a.Stdout, lines)
	return err
}

// certificate finds the authority's certificate and checks that it is one.
func (c *Cmd) certificate(a *console.App) (path string, text []byte, err error) {
	if path = c.CA; path == "" {
		cl, err := a.Client()
		if err != nil {
			return "", nil, err
		}
		if path = cl.CA(); path == "" {
			return "", nil, console.UsageError("the server in use has no private authority " +
				"('sandpool serve --tls auto' makes one); give its certificate with --ca")
		}
	}
	if text, err = os.ReadFile(path); err != nil {
		return "", nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return "", nil, fmt.Errorf("%q holds no certificate in PEM", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || !cert.IsCA {
		return "", nil, fmt.Errorf("%q holds no certificate of an authority", path)
	}
	return path, text, nil
}

// settings is what has a kind of program trust the certificate at path, and what takes it back.
func settings(program, path, text string) (do, undo string) {
	export := func(name, value string) (string, string) {
		return "export " + name + "=" + quote(value), "unset " + name
	}
	bundle := "/etc/ssl/certs/ca-certificates.crt"
	switch program {
	case "python": // requests and the az command read one file, which must hold all
		both := strings.TrimSuffix(path, ".pem") + "-bundle.pem"
		do, undo = export("REQUESTS_CA_BUNDLE", both)
		ssl, unssl := export("SSL_CERT_FILE", both)
		return fmt.Sprintf("cat %s %s > %s\n%s\n%s", bundle, quote(path), quote(both), do, ssl),
			undo + "\n" + unssl + "\nrm -f " + quote(both)
	case "node":
		return export("NODE_EXTRA_CA_CERTS", path)
	case "java":
		store := "keytool -%s -cacerts -storepass changeit -noprompt -alias sandpool"
		return fmt.Sprintf(store+" -file %s", "importcert", quote(path)), fmt.Sprintf(store, "delete")
	case "go":
		do, undo = export("SSL_CERT_DIR", "/etc/ssl/certs:"+filepath.Dir(path))
		return do, undo
	case "curl":
		return fmt.Sprintf("printf 'cacert = %%s\\n' %s >> ~/.curlrc", quote(path)),
			"sed -i '\\|cacert = " + path + "|d' ~/.curlrc"
	}
	return strings.TrimSpace(text), ""
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// install puts the certificate into the machine's store, or takes it out if text is nil.
func (c *Cmd) install(ctx context.Context, a *console.App, text []byte) error {
	path := filepath.Join(c.Anchors, anchor)
	switch err := os.Remove(path); {
	case text != nil:
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return fmt.Errorf("install the certificate: %w (run it with sudo)", err)
		}
	case errors.Is(err, fs.ErrNotExist):
		a.Say("the machine trusts no authority of sandpool's")
		return nil
	case err != nil:
		return fmt.Errorf("remove the certificate: %w (run it with sudo)", err)
	}
	args := c.Update[1:]
	if text == nil && c.Update[0] == "update-ca-certificates" {
		args = append(args, "--fresh")
	}
	if out, err := exec.CommandContext(ctx, c.Update[0], args...).CombinedOutput(); err != nil {
		return fmt.Errorf("update the machine's certificates: %w\n%s", err, out)
	}
	if text == nil {
		a.Say("the machine trusts the authority no more")
		return nil
	}
	a.Say("the machine trusts the authority: %s; 'sandpool trust system --undo' takes it back",
		path)
	return nil
}
