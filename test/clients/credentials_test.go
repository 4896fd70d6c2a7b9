package clients_test

import (
	"context"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"testing"

	"github.com/sandpool/sandpool"
)

// credentials has Azure's SDKs find the server, and who they are, by environment variables alone:
// those that 'sandpool az setup' writes.
func (s *server) credentials(t *testing.T, python string, m modules) {
	made := s.identity(t, "admin")
	at := s.Endpoint()
	principal := []string{"AZURE_AUTHORITY_HOST=" + at, "AZURE_TENANT_ID=adfs",
		"AZURE_CLIENT_ID=" + made.ID, "AZURE_CLIENT_SECRET=" + made.Text}
	managed := []string{"IDENTITY_ENDPOINT=" + at + "/metadata/identity/oauth2/token",
		"IDENTITY_HEADER=" + made.Text}
	script := filepath.Join(m.dir, "azure.mjs")
	pool := path.Base(s.endpoints[ample])
	both := append(append([]string{}, principal...), managed...)
	envs := map[string][]string{"principal": principal, "managed": managed, "both": both}
	for _, row := range credentialed() {
		command := []string{python, "python/credentials.py", row.argument}
		if row.argument == "" {
			command = []string{m.node(), script, pool, row.module}
		}
		t.Run(row.client, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), scriptTime)
			defer cancel()
			cmd := exec.CommandContext(ctx, command[0], command[1:]...)
			cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
				"LANG=C.UTF-8", "PYTHONPYCACHEPREFIX=" + pycache(python),
				"SSL_CERT_FILE=" + s.authority, "REQUESTS_CA_BUNDLE=" + s.authority,
				"NODE_EXTRA_CA_CERTS=" + s.authority,
				"AZURE_SUBSCRIPTION_ID=" + sandpool.DefaultSubscription,
				"SANDPOOL_AZURE_ENDPOINT=" + at,
				"SANDPOOL_ENDPOINT=" + s.endpoints[ample],
				"SANDPOOL_FULL_ENDPOINT=" + s.endpoints[full],
				"SANDPOOL_ABSENT_ENDPOINT=" + s.PoolEndpoint("absent"), "SANDPOOL_TOKEN=none"},
				envs[row.env]...)
			out, err := cmd.CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Fatalf("%q: %v", command, err)
			}
			y := newTally(t, row.client, row.module, row.lock)
			y.read(out)
			y.hold(t)
		})
	}
}

// credentialed are the clients that find the server by environment variables, and which of those.
func credentialed() []struct{ client, module, lock, env, argument string } {
	const python, node = "python/requirements.lock", "mcp/package.json"
	return []struct{ client, module, lock, env, argument string }{
		{"Azure SDK for Python, EnvironmentCredential", "azure-identity", python, "principal",
			"environment"},
		{"Azure SDK for Python, ManagedIdentityCredential", "azure-identity", python, "managed",
			"managed"},
		{"Azure SDK for Python, DefaultAzureCredential", "azure-identity", python, "both", "default"},
		{"Azure SDK for JavaScript", "@azure/arm-appcontainers", node, "both", ""},
		{"Azure SDK for JavaScript, the major before", "@azure/arm-appcontainers-3", node, "both",
			""},
	}
}
