package clustertest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/need"
)

// Where things are. All addresses are the room's own.
const (
	// Node is the name of the node.
	Node       = "node-1"
	nodeIP     = "10.246.0.1"
	podRange   = "10.244.0.0/16"
	services   = "10.96.0.0/16"
	apiService = "10.96.0.1" // the Service "kubernetes", at which the API server itself listens
	etcdAt     = "http://127.0.0.1:2379"
	// API is the address of the API server.
	API = "https://" + nodeIP + ":443"
	// Registry is where a test's registry must be for the node to pull from it without TLS.
	Registry = nodeIP + ":5000"
)

// upTime bounds the start of the cluster.
const upTime = 3 * time.Minute

// Programs, as they are called in the cluster's folder.
const (
	admin     = "admin"
	apiServer = "kube-apiserver"
	manager   = "kube-controller-manager"
	scheduler = "kube-scheduler"
	node      = "kubelet"
)

// Cluster is the cluster of a room.
type Cluster struct {
	dir string // of everything that it is made of
	bin string // its programs
}

// At returns the cluster that Main has brought up. A test that asks for it is skipped without.
func At(t testing.TB) *Cluster {
	t.Helper()
	if os.Getenv(stage) != inside {
		need.Except(t, need.OnRequest, "make test-kube brings a real cluster up")
	}
	return &Cluster{dir: os.Getenv(folder), bin: os.Getenv(programs)}
}

func (c *Cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

// Kubeconfig is the file by which an administrator reaches the cluster.
func (c *Cluster) Kubeconfig() string { return c.path(admin + ".kubeconfig") }

// AdminUser is how a kubeconfig file names an administrator.
func (c *Cluster) AdminUser() string {
	return fmt.Sprintf("{client-certificate: %s, client-key: %s}",
		c.path("pki", admin+".crt"), c.path("pki", admin+".key"))
}

// CA is the file with the certificate of the cluster's authority.
func (c *Cluster) CA() string { return c.path("pki", "ca.crt") }

// logDir is where logs are: in the cluster's folder, or where somebody wants to have them.
func (c *Cluster) logDir() string { return cmp.Or(os.Getenv(logs), c.path("log")) }

// start starts a program of the cluster, whose log is in the cluster's folder.
func (c *Cluster) start(name, program string, args ...string) error {
	log, err := os.OpenFile(filepath.Join(c.logDir(), name),
		os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	if !filepath.IsAbs(program) {
		program = filepath.Join(c.bin, program)
	}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "PATH="+c.bin+":"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	go func() { _ = cmd.Wait() }() // how it ended is in its log
	text, err := json.Marshal(append([]string{program}, args...))
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(c.path(name+".pid"), []byte(strconv.Itoa(cmd.Process.Pid)),
		0o600), os.WriteFile(c.path(name+".json"), text, 0o600))
}

// restart kills a program of the cluster, starts it again, and waits until it answers.
func (c *Cluster) restart(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, upTime)
	defer cancel()
	var command []string
	text, err := os.ReadFile(c.path(name + ".json"))
	if err == nil {
		err = json.Unmarshal(text, &command)
	}
	if err != nil {
		return err
	}
	err = await(ctx, name+" does not end", func() error {
		switch err := c.kill(name, unix.SIGKILL); {
		case err == nil:
			return errors.New("it is there")
		case errors.Is(err, unix.ESRCH):
			return nil
		default:
			return err
		}
	})
	if err == nil {
		err = c.start(name, command[0], command[1:]...)
	}
	if err == nil {
		err = c.answers(ctx, name)
	}
	return err
}

// answers waits until a program answers that was started.
func (c *Cluster) answers(ctx context.Context, name string) error {
	return await(ctx, name+" does not answer", func() (err error) {
		switch name {
		case apiServer:
			_, err = c.TryKubectl(ctx, "", "get", "--raw", "/readyz")
		case "containerd":
			_, err = c.ctr(ctx, "version")
		case node:
			var resp *http.Response
			if resp, err = http.Get("http://127.0.0.1:10248/healthz"); err == nil {
				err = resp.Body.Close()
			}
		}
		return err
	})
}

// Upgrade replaces the programs of the cluster in turn, as an upgrade does. Pods stay.
func (c *Cluster) Upgrade(t testing.TB) {
	t.Helper()
	for _, name := range []string{apiServer, manager, scheduler, "containerd", node} {
		if err := c.restart(t.Context(), name); err != nil {
			t.Fatalf("restart %s: %v", name, err)
		}
	}
}

// signal sends a signal to a program of the cluster.
func (c *Cluster) signal(t testing.TB, name string, s unix.Signal) {
	t.Helper()
	if err := c.kill(name, s); err != nil {
		t.Fatalf("signal %v to %s: %v", s, name, err)
	}
}

func (c *Cluster) kill(name string, s unix.Signal) error {
	text, err := os.ReadFile(c.path(name + ".pid"))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		return err
	}
	return unix.Kill(pid, s)
}

// Silence stops the kubelet in its tracks until the test ends, or until the returned function is
// called: to the cluster the node is away, while its pods run.
func (c *Cluster) Silence(t testing.TB) (back func()) {
	t.Helper()
	return c.pause(t, node)
}

// Outage stops the API server in its tracks, as Silence does the kubelet.
func (c *Cluster) Outage(t testing.TB) (back func()) {
	t.Helper()
	return c.pause(t, apiServer)
}

func (c *Cluster) pause(t testing.TB, name string) (back func()) {
	t.Helper()
	c.signal(t, name, unix.SIGSTOP)
	back = func() { c.signal(t, name, unix.SIGCONT) }
	t.Cleanup(back)
	return back
}

// Kubectl runs kubectl as an administrator, with input, and returns what it printed.
func (c *Cluster) Kubectl(t testing.TB, input string, args ...string) string {
	t.Helper()
	out, err := c.TryKubectl(t.Context(), input, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TryKubectl is Kubectl for what may fail.
func (c *Cluster) TryKubectl(ctx context.Context, input string, args ...string) (string, error) {
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "HOME="+c.dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err,
			strings.TrimSpace(said.String()))
	}
	return out.String(), nil
}

// await asks until there is no error.
func await(ctx context.Context, what string, ask func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s: %w", what, context.Cause(ctx)), err)
		}
	}
}

// logTail is how much of each log is shown.
const logTail = 4 << 10

// logs writes the ends of all logs.
func (c *Cluster) logs(w io.Writer) {
	files, err := filepath.Glob(filepath.Join(c.logDir(), "*"))
	if err != nil {
		return
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		fmt.Fprintf(w, "--- the end of %s\n%s\n", filepath.Base(name),
			text[max(0, len(text)-logTail):])
	}
}
