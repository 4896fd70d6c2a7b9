package kube_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/postgres/pgtest"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
	"github.com/sandpool/sandpool/test/kube/clustertest"
)

// fleet is servers that share a store and a cluster, in processes of their own.
type fleet struct {
	*world
	program, store, key, kubeconfig string
	kubernetes, settings            string // further ones, in YAML
	servers                         []*member
}

// member is one of them.
type member struct {
	name, address, dir string
	cmd                *exec.Cmd
	log                *os.File
}

func newFleet(t *testing.T, name string, addresses ...string) *fleet {
	t.Helper()
	f := &fleet{}
	f.open(t, name, addresses...)
	return f
}

// open makes what the fleet shares, and starts its servers.
func (f *fleet) open(t *testing.T, name string, addresses ...string) {
	t.Helper()
	f.world, f.program, f.key = newWorld(t, name), build(t), filepath.Join(t.TempDir(), "key")
	f.kubeconfig = f.release.kubeconfig(t, f.cluster, f.release.boxes(), strings.TrimSpace(
		f.cluster.Kubectl(t, "", "create", "token", name, "--namespace", name)))
	f.store = pgtest.New(t)
	key, err := exec.CommandContext(t.Context(), f.program, "store", "key").Output()
	if err == nil {
		err = os.WriteFile(f.key, key, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, address := range addresses {
		m := &member{name: fmt.Sprintf("%s-%d", name, i), address: address, dir: t.TempDir()}
		if m.log, err = os.Create(filepath.Join(m.dir, "log")); err != nil {
			t.Fatal(err)
		}
		f.servers = append(f.servers, m)
		f.begin(t, m)
		t.Cleanup(func() {
			m.end(t, syscall.SIGKILL)
			text, _ := os.ReadFile(m.log.Name())
			if t.Failed() {
				t.Logf("the log of %s ends with\n%s", m.name, text[max(0, len(text)-16<<10):])
			}
		})
	}
}

// begin starts a member and waits until it serves.
func (f *fleet) begin(t *testing.T, m *member) {
	t.Helper()
	config := filepath.Join(m.dir, "sandpool.yaml")
	text := fmt.Sprintf(`
engine: kubernetes
data_dir: %s/data
listen: %s
name: %s
store: %s
store_key: {file: %s}
peers: {listen: "127.0.0.1:0"}
registries: {plain_http: ["%s"]}
%s
kubernetes:
  kubeconfig: %s
  isolation: elsewhere
  network: unverified
  cpu_overcommit: 10
%s
`, m.dir, m.address, m.name, f.store, f.key, strings.SplitN(f.reference, "/", 2)[0], f.settings,
		f.kubeconfig, f.kubernetes)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m.cmd = exec.Command(f.program, "serve", "--config", config, "--log-level", "debug")
	m.cmd.Env = append(os.Environ(), "HOME="+m.dir)
	m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, m.name+" serves", func() bool {
		resp, err := http.Get("http://" + m.address + "/healthz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// end ends a member that runs and waits until it has ended.
func (m *member) end(t *testing.T, s syscall.Signal) {
	t.Helper()
	if m.cmd == nil {
		return
	}
	if err := m.cmd.Process.Signal(s); err != nil {
		t.Errorf("signal %v to %s: %v", s, m.name, err)
	}
	var exit *exec.ExitError
	if err := m.cmd.Wait(); err != nil && (!errors.As(err, &exit) || s != syscall.SIGKILL) {
		t.Errorf("%s ends with %v", m.name, err)
	}
	m.cmd = nil
}

// at is a member as its callers see it.
func (f *fleet) at(t *testing.T, m *member) *instance {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(f.servers[0].dir, "data", "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	s := &instance{token: strings.TrimSpace(string(token))}
	s.Client, err = client.New(client.Config{Endpoint: "http://" + m.address, Token: s.token})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// load asks for sessions over and over, by turns of the fleet's servers. One that cannot be reached
// is passed over, as a load balancer does.
type load struct {
	answered, passed atomic.Int64
	longest          atomic.Int64 // of all answers, in nanoseconds
	wait             sync.WaitGroup
	stop             context.CancelFunc
}

// start asks for each session that has a pod, and fails the test if anything else answers.
func (l *load) start(t *testing.T, servers []*instance, pods map[string]string) {
	ctx, cancel := context.WithCancel(t.Context())
	l.stop = cancel
	for identifier, pod := range pods {
		l.wait.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				s := servers[i%len(servers)]
				began := time.Now()
				got, err := ask(ctx, s, identifier)
				switch took := int64(time.Since(began)); {
				case ctx.Err() != nil:
				case errors.Is(err, syscall.ECONNREFUSED):
					l.passed.Add(1)
				case err != nil || got != pod:
					t.Errorf("%s is answered by %q, want %s: %v", identifier, got, pod, err)
					return
				default:
					l.answered.Add(1)
					for old := l.longest.Load(); took > old &&
						!l.longest.CompareAndSwap(old, took); old = l.longest.Load() {
					}
				}
			}
		})
	}
}

func (l *load) end(t *testing.T) {
	l.stop()
	l.wait.Wait()
	t.Logf("%d answers, the longest after %v, and a server that was away %d times",
		l.answered.Load(), time.Duration(l.longest.Load()).Round(time.Millisecond),
		l.passed.Load())
	if l.answered.Load() == 0 {
		t.Error("nothing was answered")
	}
}

// ask returns the name of the pod that answers a session.
func ask(ctx context.Context, s *instance, identifier string) (pod string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.PoolEndpoint("pool")+
		"/self?identifier="+url.QueryEscape(identifier), nil)
	if err != nil {
		return "", err
	}
	r.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var self sandboxtest.Self
	if err := json.Unmarshal(text, &self); err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%d %s", resp.StatusCode, text)
	}
	return self.Hostname, nil
}

// Servers that are updated one after the other, under load, lose no session and refuse no request.
// One that is killed loses none either.
func TestClusterRollingUpdate(t *testing.T) {
	f := newFleet(t, "rolling", "127.0.0.1:8720", "127.0.0.1:8721")
	var servers []*instance
	for _, m := range f.servers {
		servers = append(servers, f.at(t, m))
	}
	servers[0].customPool(t, f.reference, 3)
	pods := map[string]string{}
	for i := range 4 {
		identifier := fmt.Sprintf("caller-%d", i)
		pods[identifier] = servers[i%2].pod(t, identifier)
	}
	l := &load{}
	l.start(t, servers, pods)
	for _, m := range f.servers {
		began := time.Now()
		m.end(t, syscall.SIGTERM)
		t.Logf("%s ended after %v", m.name, time.Since(began).Round(time.Millisecond))
		f.begin(t, m)
		for identifier, pod := range pods {
			for _, s := range servers {
				if got := s.pod(t, identifier); got != pod {
					t.Errorf("after the update of %s, %s is answered by %s, want %s", m.name,
						identifier, got, pod)
				}
			}
		}
	}
	l.end(t)
	f.servers[0].end(t, syscall.SIGKILL)
	for identifier, pod := range pods {
		if got := servers[1].pod(t, identifier); got != pod {
			t.Errorf("after a kill %s is answered by %s, want %s", identifier, got, pod)
		}
	}
	if _, err := servers[1].DeletePool(t.Context(), "pool"); err != nil {
		t.Fatal(err)
	}
	until(t, "no pod is left", func() bool {
		return len(podsOf(t, f.cluster, f.release.boxes())) == 0
	})
}

// While the API server is away, sessions go on and ready ones are claimed. When it is back, they
// are made up for, and a session whose pod a drain took gets another.
func TestClusterOutage(t *testing.T) {
	f := newFleet(t, "outage", "127.0.0.1:8720")
	s := f.at(t, f.servers[0])
	s.customPool(t, f.reference, 2)
	alice := s.pod(t, "alice")
	until(t, "two sessions are ready", func() bool { return f.running(t) == 3 })
	back := f.cluster.Outage(t)
	for range 3 {
		if got := s.pod(t, "alice"); got != alice {
			t.Errorf("alice is answered by %s, want %s", got, alice)
		}
	}
	bobby := s.pod(t, "bobby")
	back()
	if bobby == alice {
		t.Errorf("bobby and alice are both answered by %s", bobby)
	}
	until(t, "two sessions are ready again", func() bool { return f.running(t) == 4 })
	f.cluster.Kubectl(t, "", "drain", clustertest.Node, "--force", "--delete-emptydir-data",
		"--pod-selector=sandpool/instance=sandpool")
	f.cluster.Kubectl(t, "", "uncordon", clustertest.Node)
	until(t, "alice has another sandbox", func() bool {
		got, err := ask(t.Context(), s, "alice")
		t.Logf("after the drain alice is answered %q, %v", got, err)
		return err == nil && got != alice
	})
}

// A cluster that is upgraded, each of its programs in turn, ends no session. All are answered
// meanwhile, by the same pods; ready ones are claimed, and made up for.
func TestClusterUpgrade(t *testing.T) {
	f := newFleet(t, "upgrade", "127.0.0.1:8720")
	s := f.at(t, f.servers[0])
	s.customPoolOf(t, f.reference, 2, 10)
	pods := map[string]string{"alice": s.pod(t, "alice"), "bobby": s.pod(t, "bobby")}
	until(t, "two sessions are ready", func() bool { return f.running(t) == 4 })
	l := &load{}
	l.start(t, []*instance{s}, pods)
	f.cluster.Upgrade(t)
	for i := range 3 {
		pods[fmt.Sprint("later-", i)] = s.pod(t, fmt.Sprint("later-", i))
	}
	until(t, "two sessions are ready again", func() bool { return f.running(t) == 7 })
	l.end(t)
	for identifier, pod := range pods {
		if got := s.pod(t, identifier); got != pod {
			t.Errorf("after the upgrade %s is answered by %s, want %s", identifier, got, pod)
		}
	}
	if _, err := s.DeletePool(t.Context(), "pool"); err != nil {
		t.Fatal(err)
	}
	until(t, "no pod is left", func() bool {
		return len(podsOf(t, f.cluster, f.release.boxes())) == 0
	})
}

// running counts the sandboxes that run.
func (f *fleet) running(t *testing.T) int {
	t.Helper()
	return len(strings.Fields(f.cluster.Kubectl(t, "", "get", "pods", "--namespace",
		f.release.boxes(), "-o", `jsonpath={.items[?(@.status.phase=="Running")].metadata.name}`)))
}
