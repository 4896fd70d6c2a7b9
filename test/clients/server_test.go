package clients_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
)

// The pools of the server.
const (
	ample = "ample" // has more sessions than all scripts together take
	full  = "full"  // has one, which is taken
)

// server is a running server, which serves HTTPS because a client insists on it,
// and an administrator's client of it.
type server struct {
	*client.Client
	authority string            // the file that clients are to trust
	program   string            // sandpool
	config    string            // the client configuration that leads to the server
	endpoints map[string]string // of the pools, as the server says them
}

// startServer builds the program and starts it as a user would, with settings from its environment.
// It stops, with all its sandboxes, when the test ends.
func startServer(t *testing.T, images string, settings ...string) *server {
	t.Helper()
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", dir, "../../cmd/sandpool",
		"../../cmd/sandpool-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	authority, cert, key := certify(t, dir)
	config := filepath.Join(dir, "client.yaml")
	var log bytes.Buffer
	// Not bound to the test's context, whose end would kill it: it is to stop in order.
	cmd := exec.Command(filepath.Join(dir, "sandpool"), "serve", "--data-dir",
		filepath.Join(dir, "data"), "--listen", "127.0.0.1:0")
	cmd.Env = append(append(os.Environ(), settings...), "SANDPOOL_CONFIG="+config, "SANDPOOL_IMAGE_DIR="+images,
		"SANDPOOL_ON_EXIT=stop",
		"SANDPOOL_TLS_CERT="+cert, "SANDPOOL_TLS_KEY="+key)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("server: %v", err)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", log.Bytes())
		}
	})
	return &server{Client: connect(t, config, authority), authority: authority,
		program: cmd.Path, config: config, endpoints: map[string]string{}}
}

// connect waits until the server answers.
func connect(t *testing.T, config, authority string) *client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cfg, err := client.LoadConfig(config)
	for err != nil {
		select {
		case <-ctx.Done():
			t.Fatalf("the server wrote no client configuration: %v", err)
		case <-time.After(20 * time.Millisecond):
			cfg, err = client.LoadConfig(config)
		}
	}
	text, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	cfg.HTTPClient = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: roots}}}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	if err := c.WaitHealthy(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

// makePools makes the pools and takes the only session of the pool full, which its
// cooldown keeps beyond the test.
func (s *server) makePools(t *testing.T) {
	t.Helper()
	s.makePool(t, ample, 3, 40)
	s.makePool(t, full, 0, 1)
	s.makePoolOf(t, sandpool.Shell, shell, 1, 10)
	s.enableMCP(t, ample)
	if _, err := s.Execute(t.Context(), full, "holder", client.Run{Code: "1"}); err != nil {
		t.Fatal(err)
	}
}

func (s *server) makePool(t *testing.T, name string, ready, most int) {
	t.Helper()
	s.makePoolOf(t, sandpool.PythonLTS, name, ready, most)
}

func (s *server) makePoolOf(t *testing.T, kind sandpool.ContainerType, name string, ready,
	most int) {
	t.Helper()
	cooldown := 3600
	p, err := s.PutPool(t.Context(), name, api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{
			ContainerType: string(kind),
			ScaleConfiguration: &api.ScaleConfiguration{MaxConcurrentSessions: &most,
				ReadySessionInstances: &ready},
			DynamicPoolConfiguration: &api.DynamicPoolConfiguration{
				LifecycleConfiguration: &api.LifecycleConfiguration{
					CooldownPeriodInSeconds: &cooldown}},
		}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.WaitReady(t.Context(), name, nil); err != nil {
		t.Fatal(err)
	}
	s.endpoints[name] = p.Properties.PoolManagementEndpoint
}

// token makes a token that allows what role says and no more.
func (s *server) token(t *testing.T, role string) string {
	t.Helper()
	return s.identity(t, role).Text
}

// identity makes a token and returns it with its id, which is that of a service principal.
func (s *server) identity(t *testing.T, role string) api.NewToken {
	t.Helper()
	made, err := s.CreateToken(t.Context(), api.TokenRequest{Name: t.Name(), Role: role})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// certify makes a private authority and a certificate of it for loopback, and returns their files.
func certify(t *testing.T, dir string) (authority, cert, key string) {
	t.Helper()
	ca, caKey := issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	leaf, leafKey := issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{
			x509.ExtKeyUsageServerAuth},
	}, ca, caKey)
	secret, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	authority, cert, key = filepath.Join(dir, "authority.pem"), filepath.Join(dir, "cert.pem"),
		filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{
		authority: {Type: "CERTIFICATE", Bytes: ca.Raw},
		cert:      {Type: "CERTIFICATE", Bytes: leaf.Raw},
		key:       {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return authority, cert, key
}

// issue makes a certificate that the parent signs, or itself if there is none.
func issue(t *testing.T, c, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate,
	*ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, signer = c, key
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	raw, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return made, key
}
