package custom_test

import (
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
)

// dressed is the application's image with users, and a configuration in which everything is said.
func dressed(t *testing.T, hub *ocitest.Hub) string {
	t.Helper()
	image := goImage(t)
	image.Layers = append(image.Layers, ocitest.Layer(t,
		ocitest.File("etc/passwd", 0o644,
			"root:x:0:0::/:/bin/sh\nfred:x:1234:1234::/home:/bin/sh\n"),
		ocitest.File("etc/group", 0o644, "root:x:0:\nfred:x:1234:\nstaff:x:50:fred\n"),
		folder("srv/work", 1234), ocitest.File("tmp/of-the-image", 0o644, "kept")))
	image.Config = v1.Config{Entrypoint: []string{"/app"}, Cmd: []string{"of-the-image"},
		User: "fred", WorkingDir: "/srv/work", Env: []string{"FROM=image", "BOTH=image"}, StopSignal: "SIGUSR1",
		Healthcheck: &v1.HealthConfig{Test: []string{"CMD", "/no/such/check"}, Interval: 1,
			Retries: 1}}
	hub.Push("dressed:1", image)
	return hub.Host() + "/dressed:1"
}

// TestInside: a container has what its image and its pool say, and what containers take for
// granted.
func TestInside(t *testing.T) {
	hub := ocitest.NewHub(t)
	k := newKit(t)
	image := dressed(t, hub)
	for _, mode := range []string{"boot", "snapshot"} {
		t.Run(mode, func(t *testing.T) {
			p := container(image)
			c := &p.Properties.CustomContainerTemplate.Containers[0]
			own := "pool"
			c.Env = []api.EnvironmentVar{{Name: "BOTH", Value: &own}}
			c.Args = []string{"of", "the", "pool"}
			if mode == "boot" {
				secret := "hush"
				p.Properties.Secrets = []api.PoolSecret{{Name: "key", Value: &secret}}
				c.Env = append(c.Env, api.EnvironmentVar{Name: "KEY", SecretRef: "key"})
			}
			p.Properties.Sandpool = &api.SandpoolSettings{WarmStart: mode}
			k.makePool(t, mode, p)
			if got := k.get(t, mode, "alice", "/who"); !strings.HasPrefix(got,
				"1234 1234 [50] /srv/work ") || !strings.HasSuffix(got, " [of the pool]") {
				t.Errorf("user, groups, directory and arguments are %q", got)
			}
			env := k.get(t, mode, "alice", "/env")
			for _, want := range []string{"FROM=image", "BOTH=pool", "PATH=/usr/local/sbin:"} {
				if !strings.Contains(env, want) {
					t.Errorf("the environment has no %s: %s", want, env)
				}
			}
			if mode == "boot" && !strings.Contains(env, "KEY=hush") {
				t.Error("the environment lacks the secret")
			}
			for path, want := range map[string]string{
				"/proc/1/cmdline": "/app\x00of\x00the\x00pool\x00", "/sys/kernel": "folder",
				"/dev/shm": "folder", "/proc/self/status": "CapEff:\t0000000000000000",
				"/etc/hosts": "127.0.0.1", "/tmp/of-the-image": "kept",
			} {
				if got := k.get(t, mode, "alice", "/look?path="+path); !strings.Contains(got,
					strings.TrimSpace(want)) {
					t.Errorf("%s has %q, want %q", path, got, want)
				}
			}
			for _, path := range []string{"/srv/work/a", "/dev/shm/a"} {
				if got := k.get(t, mode, "alice", "/write?path="+path); got != "<nil>" {
					t.Errorf("write %s: %s", path, got)
				}
			}
			if got := k.get(t, mode, "bobby", "/look?path=/srv/work/a"); !strings.Contains(got,
				"no such file") {
				t.Errorf("bobby sees alice's file: %q", got)
			}
			// HEALTHCHECK is no check of ours: the container with a broken one is ready and stays.
			if status, err := k.PoolStatus(t.Context(), mode); err != nil || status.Crashes != 0 {
				t.Errorf("crashes: %d, %v", status.Crashes, err)
			}
			if mode == "boot" {
				k.stopsBySignal(t, image)
			}
		})
	}
}

// stopsBySignal: the image's stop signal is what a session's container gets, and its pool says for
// how long it may take to end.
func (k *kit) stopsBySignal(t *testing.T, image string) {
	t.Helper()
	p, one := container(image), 1
	c := &p.Properties.CustomContainerTemplate.Containers[0]
	c.Args = []string{"orderly"}
	port := 8080
	c.Probes = []api.ContainerProbe{{Type: "Liveness", TCPSocket: &api.TCPSocket{Port: &port},
		TerminationGracePeriodSeconds: &one}}
	k.makePool(t, "signal", p)
	k.get(t, "signal", "carol", "/count")
	if err := k.DeleteSession(t.Context(), "signal", "carol"); err != nil {
		t.Fatal(err)
	}
	var all []string
	err := k.SessionLogs(t.Context(), "signal", "carol", client.Logs{Follow: true},
		func(l api.LogLine) error {
			all = append(all, l.Text)
			return nil
		})
	said := strings.Join(all, "\n")
	if err != nil || !strings.Contains(said, "asked to end by user defined signal 1") ||
		strings.Contains(said, "in order") { // which it would have said after 2 s
		t.Errorf("the container's last words are %q, %v", said, err)
	}
	if got := k.get(t, "signal", "carol", "/count"); got != "1" {
		t.Errorf("the next session begins with %q", got)
	}
}
