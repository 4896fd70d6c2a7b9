// Package azure is the commands that lead the az command and Azure's SDKs of a machine to a server.
package azure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// Cmd groups the commands.
type Cmd struct {
	Setup setupCmd `cmd:"" help:"Register the server with az, and write what az and the SDKs need to a file to source."`
}

type setupCmd struct {
	Undo   bool   `help:"Undo it: az leads to Azure again, and the service principal ends."`
	Cloud  string `default:"sandpool" help:"Name of the server as a cloud of az."`
	Bundle string `hidden:"" default:"/etc/ssl/certs/ca-certificates.crt" type:"path"`
}

// The files of a set-up, beside the client configuration.
const (
	envFile    = "azure.env"
	bundleFile = "azure-ca.pem"
)

// Run sets up, or takes it back.
func (c *setupCmd) Run(ctx context.Context, a *console.App) error {
	config, err := client.ConfigPath(os.Getenv)
	if err != nil {
		return err
	}
	cl, err := a.Client()
	if err != nil {
		return err
	}
	dir := filepath.Dir(config)
	if c.Undo {
		return c.undo(ctx, a, cl, dir)
	}
	if !strings.HasPrefix(cl.Endpoint(), "https://") {
		return console.UsageError("az and the SDKs send tokens by HTTPS alone, and the " +
			"server is at " + cl.Endpoint() + "; start it with 'sandpool serve --tls auto'")
	}
	made, err := cl.CreateToken(ctx, api.TokenRequest{Name: "az setup", Grants: []api.Grant{
		{Role: "pool-contributor", Scope: "/"}, {Role: "session-executor", Scope: "/"}}})
	if err != nil {
		return err
	}
	path := filepath.Join(dir, envFile)
	earlier, err := principals(path)
	if err != nil {
		return err
	}
	env, err := c.write(cl, made, dir)
	if err != nil { // nobody would know of it
		return errors.Join(err, end(context.WithoutCancel(ctx), cl, made.ID))
	}
	if err := end(ctx, cl, earlier...); err != nil {
		return err
	}
	steps := [][]string{{"cloud", "register", "--name", c.Cloud, "--endpoint-resource-manager",
		cl.Endpoint()}, {"cloud", "set", "--name", c.Cloud}}
	if err := c.az(ctx, a, env, steps); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.Stdout, ". %s\naz login --service-principal --tenant adfs --username "+
		"\"$AZURE_CLIENT_ID\" --password \"$AZURE_CLIENT_SECRET\"\n", path)
	return err
}

// write writes the file to source, and returns what is in it.
func (c *setupCmd) write(cl *client.Client, made api.NewToken, dir string) ([]string, error) {
	env := variables(cl.Endpoint(), made.ID, made.Text)
	if cl.CA() != "" {
		bundle, err := c.bundle(cl.CA(), dir)
		if err != nil {
			return nil, err
		}
		env = append(env, "REQUESTS_CA_BUNDLE="+bundle, "SSL_CERT_FILE="+bundle,
			"NODE_EXTRA_CA_CERTS="+cl.CA())
	}
	var text strings.Builder
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		fmt.Fprintf(&text, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
	}
	path := filepath.Join(dir, envFile)
	// A file that is there may be one that others can read, and writing keeps that.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return env, os.WriteFile(path, []byte(text.String()), 0o600)
}

// principals returns the ids of the service principals in the file of a set-up, none if there is no
// such file.
func principals(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var ids []string
	for line := range strings.Lines(string(text)) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "export AZURE_CLIENT_ID="); ok {
			ids = append(ids, strings.Trim(id, "'"))
		}
	}
	return ids, nil
}

// end ends service principals; one that there is no more is no error.
func end(ctx context.Context, cl *client.Client, ids ...string) error {
	for _, id := range ids {
		if err := cl.RevokeToken(ctx, id); err != nil &&
			sandpool.ClassOf(err) != sandpool.NotFound {
			return err
		}
	}
	return nil
}

// variables are what Azure's SDKs read: a client and its secret, and the identity endpoint, which
// DefaultAzureCredential tries too.
func variables(endpoint, id, secret string) []string {
	return []string{"AZURE_AUTHORITY_HOST=" + endpoint, "AZURE_TENANT_ID=adfs",
		"AZURE_CLIENT_ID=" + id, "AZURE_CLIENT_SECRET=" + secret,
		"AZURE_SUBSCRIPTION_ID=" + sandpool.DefaultSubscription,
		"IDENTITY_ENDPOINT=" + endpoint + "/metadata/identity/oauth2/token",
		"IDENTITY_HEADER=" + secret, "SANDPOOL_AZURE_ENDPOINT=" + endpoint}
}

// bundle writes the machine's authorities and the server's into one file: az reads one alone.
func (c *setupCmd) bundle(ca, dir string) (string, error) {
	own, err := os.ReadFile(ca)
	if err != nil {
		return "", err
	}
	all, err := os.ReadFile(c.Bundle)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	path := filepath.Join(dir, bundleFile)
	return path, os.WriteFile(path, append(append(all, '\n'), own...), 0o644)
}

// az runs commands of az; where there is no az they are shown.
func (c *setupCmd) az(ctx context.Context, a *console.App, env []string, steps [][]string) error {
	program, err := exec.LookPath("az")
	if err != nil {
		a.Say("there is no az on this machine's PATH; where it is, run:")
		for _, s := range steps {
			a.Say("  az %s", strings.Join(s, " "))
		}
		return nil
	}
	for _, s := range steps {
		cmd := exec.CommandContext(ctx, program, s...)
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if err != nil && !strings.Contains(string(out), "already registered") &&
			!strings.Contains(string(out), "not registered") {
			return fmt.Errorf("az %s: %w\n%s", strings.Join(s, " "), err, out)
		}
	}
	return nil
}

// undo takes back what setup did, as far as it is there.
func (c *setupCmd) undo(ctx context.Context, a *console.App, cl *client.Client, dir string) error {
	path := filepath.Join(dir, envFile)
	ids, err := principals(path)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		a.Say("nothing is set up")
		return nil
	}
	if err := end(ctx, cl, ids...); err != nil {
		return err
	}
	if err := c.az(ctx, a, nil, [][]string{{"cloud", "set", "--name", "AzureCloud"},
		{"cloud", "unregister", "--name", c.Cloud}}); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, bundleFile)); err != nil && !errors.Is(err,
		os.ErrNotExist) {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	a.Say("az leads to Azure again, and the service principal has ended")
	return nil
}
