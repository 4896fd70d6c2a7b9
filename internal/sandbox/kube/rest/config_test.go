package rest

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// authority is a certificate in PEM.
func authority(t *testing.T) string {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE",
		Bytes: s.Certificate().Raw}))
}

const file = `
current-context: one
contexts:
- {name: one, context: {cluster: c, user: %s, namespace: boxes}}
- {name: other, context: {cluster: insecure, user: token}}
- {name: lost, context: {cluster: none, user: token}}
clusters:
- {name: c, cluster: {server: "https://127.0.0.1:6443/", certificate-authority-data: %s}}
- {name: insecure, cluster: {server: "https://127.0.0.1:6443", insecure-skip-tls-verify: true}}
users:
- {name: token, user: {token: hunter2}}
- {name: file, user: {tokenFile: token}}
- {name: plugin, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: %s}}}
- {name: cert, user: {client-certificate: none.crt, client-key: none.key}}
`

func TestKubeconfig(t *testing.T) {
	dir := t.TempDir()
	ca := base64.StdEncoding.EncodeToString([]byte(authority(t)))
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("hunter3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	plugin := filepath.Join(dir, "plugin")
	if err := os.WriteFile(plugin, []byte(`#!/bin/sh
case "$KUBERNETES_EXEC_INFO" in *ExecCredential*) ;; *) exit 1;; esac
echo >> "$0.runs"
echo '{"status":{"token":"hunter4"}}'
`), 0o700); err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]string{"token": "hunter2", "file": "hunter3",
		"plugin": "hunter4"} {
		cfg, err := parseKubeconfig(fmt.Appendf(nil, file, user, ca, plugin), dir, "")
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Host != "https://127.0.0.1:6443" || cfg.Namespace != "boxes" ||
			cfg.TLS.RootCAs == nil {
			t.Errorf("it says %+v", cfg)
		}
		for range 2 {
			if got, err := cfg.Token(t.Context()); err != nil || got != want {
				t.Errorf("the token of %s is %q, %v; want %q", user, got, err, want)
			}
		}
	}
	if runs, err := os.ReadFile(plugin + ".runs"); err != nil || len(runs) != 1 {
		t.Errorf("the plugin ran %d times, %v; want once for a token that does not end",
			len(runs), err)
	}
	for context, want := range map[string]string{"other": "insecure-skip-tls-verify",
		"lost": `no cluster "none"`, "nowhere": `no context "nowhere"`} {
		_, err := parseKubeconfig(fmt.Appendf(nil, file, "token", ca, plugin), dir, context)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("context %s: %v, want %q", context, err, want)
		}
	}
	if _, err := parseKubeconfig(fmt.Appendf(nil, file, "cert", ca, plugin), dir, ""); err == nil ||
		!strings.Contains(err.Error(), "none.crt") {
		t.Errorf("a certificate that is not there: %v", err)
	}
}

func TestInCluster(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"ca.crt": authority(t), "namespace": "boxes\n",
		"token": "hunter2\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := map[string]string{"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
	cfg, err := inCluster(dir, func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Host != "https://[fd00::1]:443" || cfg.Namespace != "boxes" {
		t.Errorf("it says %+v", cfg)
	}
	// The cluster renews it in place.
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("hunter3"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := cfg.Token(t.Context()); err != nil || got != "hunter3" {
		t.Errorf("the token is %q, %v", got, err)
	}
	if _, err := inCluster(dir, func(string) string { return "" }); err == nil ||
		!strings.Contains(err.Error(), "kubeconfig") {
		t.Errorf("outside of a cluster: %v", err)
	}
}
