package custom_test

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
)

// Applications as people have them, in images of Debian packages that come from registries with a
// login, serve their own clients from containers that were booted and from clones of a snapshot,
// and each identifier has one of its own.
func TestApplications(t *testing.T) {
	basic, token := ocitest.NewHub(t), ocitest.NewHub(t)
	basic.BasicAuth("me", "open-sesame")
	token.TokenAuth("me", "open-sesame")
	k := newKit(t)
	for i, a := range applications() {
		hub := []*ocitest.Hub{basic, token}[i%2]
		hub.Push(a.name+":1.0", a.image(t))
		for _, start := range []string{"boot", "snapshot"} {
			t.Run(a.name+" by "+start, func(t *testing.T) {
				pool := a.name + "-" + start
				k.makePool(t, pool, a.pool(hub, start))
				if p, err := k.Pool(t.Context(), pool); err != nil || problem(p) != "" {
					t.Errorf("the pool has a problem: %s, %v", problem(p), err)
				}
				a.use(t, k, pool, "alice")
				a.use(t, k, pool, "bobby") // who finds nothing of alice's
				if _, err := k.DeletePool(t.Context(), pool); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// pool is the body of a pool of the application, from a registry with a login.
func (a application) pool(hub *ocitest.Hub, start string) api.SessionPool {
	p := container(hub.Host() + "/" + a.name + ":1.0")
	password := "open-sesame"
	p.Properties.Secrets = []api.PoolSecret{{Name: "registry", Value: &password}}
	t := p.Properties.CustomContainerTemplate
	t.RegistryCredentials = &api.RegistryCredentials{Server: hub.Host(), Username: "me",
		PasswordSecretRef: "registry"}
	t.Ingress.TargetPort = &a.port
	p.Properties.Sandpool = &api.SandpoolSettings{WarmStart: start}
	return p
}

func useNginx(t *testing.T, k *kit, pool, session string) {
	if got := k.get(t, pool, session, "/index.html"); got != "from nginx" {
		t.Errorf("it serves %q", got)
	}
	if status, _ := k.do(t, http.MethodGet, pool, session, "/nothing",
		nil); status != http.StatusNotFound {
		t.Errorf("what is not there: %d", status)
	}
}

// useCounter uses an application that counts its requests, and answers want to "abc" at path.
func useCounter(path, want string) func(t *testing.T, k *kit, pool, session string) {
	return func(t *testing.T, k *kit, pool, session string) {
		for _, want := range []string{"1", "2"} {
			if got := k.get(t, pool, session, "/count"); got != want {
				t.Errorf("the count is %q, want %q", got, want)
			}
		}
		status, got := k.do(t, http.MethodPost, pool, session, path, strings.NewReader("abc"))
		if status != http.StatusOK || got != want {
			t.Errorf("it answers %d %q, want %q", status, got, want)
		}
	}
}

func useRedis(t *testing.T, k *kit, pool, session string) {
	port := k.forward(t, pool, session, "6379")
	redis := func(args ...string) string {
		return command(t, "redis-cli", append([]string{"-h", "127.0.0.1", "-p", port}, args...)...)
	}
	if got := redis("get", "who"); got != "" {
		t.Errorf("a fresh session holds %q", got)
	}
	if got := redis("set", "who", session); got != "OK" {
		t.Errorf("set: %q", got)
	}
	if got := redis("get", "who"); got != session {
		t.Errorf("get: %q", got)
	}
}

func usePostgres(t *testing.T, k *kit, pool, session string) {
	port := k.forward(t, pool, session, "5432")
	psql := func(query string) string {
		return command(t, "psql", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "-X", "-A", "-t",
			"-q", "-c", query)
	}
	psql("create table who as select '" + session + "' as name, n from generate_series(1, 10000) n")
	if got := psql("select name, sum(n) from who group by name"); got != session+"|50005000" {
		t.Errorf("it answers %q", got)
	}
}

// command runs a client and returns what it prints.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v; make test-deps installs the clients\n%s", name, err, out)
	}
	return strings.TrimSpace(string(out))
}

// forward runs `sandpool session forward` until the test ends, and returns its port on this
// machine.
func (k *kit) forward(t *testing.T, pool, session, to string) (port string) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "client.yaml")
	if err := client.SaveConfig(config, client.Config{Endpoint: k.Endpoint(),
		Token: k.token}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(k.program(t), "session", "forward", "-o", "json",
		"--pool", pool, "--session", session, "0:"+to)
	cmd.Env = append(os.Environ(), "SANDPOOL_CONFIG="+config)
	var said bytes.Buffer
	cmd.Stderr = &said
	answer, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("session forward: %v\n%s", err, said.String())
		}
	})
	var at struct {
		Address string `json:"address"`
	}
	if err := json.NewDecoder(answer).Decode(&at); err != nil {
		t.Fatalf("session forward says no address: %v", err)
	}
	_, port, err = net.SplitHostPort(at.Address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// program builds the command line once for each kit.
func (k *kit) program(t *testing.T) string {
	t.Helper()
	if k.bin == "" {
		k.bin = filepath.Join(k.dir, "sandpool")
		compile(t, k.bin, "../../cmd/sandpool")
	}
	return k.bin
}

// problem is what the pool's owner should know.
func problem(p api.SessionPool) string {
	if p.Properties == nil || p.Properties.Sandpool == nil {
		return "it has no settings"
	}
	return p.Properties.Sandpool.Problem
}
