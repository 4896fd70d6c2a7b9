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
	for _, row := range []struct {
		name    string
		env     []string
		command []string
	}{
		{"Python, a service principal", principal, []string{python, "python/credentials.py",
			"environment"}},
		{"Python, a managed identity", managed, []string{python, "python/credentials.py", "managed"}},
		{"Python, whichever is there", both, []string{python, "python/credentials.py", "default"}},
		{"JavaScript", both, []string{m.node(), script, pool, "@azure/arm-appcontainers"}},
		{"JavaScript, the major before", both, []string{m.node(), script, pool,
			"@azure/arm-appcontainers-3"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), scriptTime)
			defer cancel()
			cmd := exec.CommandContext(ctx, row.command[0], row.command[1:]...)
			cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
				"LANG=C.UTF-8", "PYTHONPYCACHEPREFIX=" + pycache(python),
				"SSL_CERT_FILE=" + s.authority, "REQUESTS_CA_BUNDLE=" + s.authority,
				"NODE_EXTRA_CA_CERTS=" + s.authority,
				"AZURE_SUBSCRIPTION_ID=" + sandpool.DefaultSubscription,
				"SANDPOOL_AZURE_ENDPOINT=" + at,
				"SANDPOOL_ENDPOINT=" + s.endpoints[ample],
				"SANDPOOL_FULL_ENDPOINT=" + s.endpoints[full],
				"SANDPOOL_ABSENT_ENDPOINT=" + s.PoolEndpoint("absent"), "SANDPOOL_TOKEN=none"},
				row.env...)
			out, err := cmd.CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Fatalf("%q: %v", row.command, err)
			}
		})
	}
}
