package escape_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
)

// password is a secret of the pools of containers: no container may see it.
const password = "open-sesame-of-the-registry"

// TestEscapeCustom starts one server whose pools run a hostile image, as root, and runs every
// attack on it: from inside the containers, by what they answer, and by who calls them.
func TestEscapeCustom(t *testing.T) {
	need.Data(t)
	k := newServer(t, "")
	hub := ocitest.NewHub(t)
	hub.BasicAuth("me", password)
	hub.Push("hostile:1", hostileImage(t))
	for name, ready := range map[string]int{mine: 4, theirs: 1} {
		k.makeCustom(t, name, hub.Host(), ready)
	}
	t.Run("attacks", func(t *testing.T) {
		for name, attack := range map[string]func(*target, *testing.T){
			"network":       (*target).customNetwork,
			"rights":        (*target).customRights,
			"secrets":       (*target).customSecrets,
			"neighbours":    (*target).customNeighbours,
			"bombs":         (*target).customBombs,
			"answers":       (*target).customAnswers,
			"no token":      (*target).customNoToken,
			"scoped token":  (*target).customScoped,
			"identifiers":   (*target).customIdentifiers,
			"routes":        (*target).customRoutes,
			"authorization": (*target).customAuthorization,
			"smuggling":     (*target).customSmuggling,
			"slow callers":  (*target).customSlow,
			"tunnels":       (*target).customTunnels,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				attack(k, t)
				refused(t, k.box(t, "next").verdicts(t, "try_('healthy', lambda: 1 / 0)"))
			})
		}
	})
}

// hostileImage runs testdata/hostile.py as root.
func hostileImage(t *testing.T) ocitest.Image {
	t.Helper()
	program, err := os.ReadFile("testdata/hostile.py")
	if err != nil {
		t.Fatal(err)
	}
	return ocitest.Image{
		// The same packages as those of an application of test/custom: they are made once.
		Layers: []string{ocitest.Unpacked(t, "python3-uvicorn", "base-files", "coreutils", "dash"),
			ocitest.Layer(t, ocitest.File("hostile.py", 0o644, string(program)),
				ocitest.File("etc/passwd", 0o644, "root:x:0:0::/:/bin/sh\n"))},
		Config: v1.Config{Entrypoint: []string{"python3", "-u", "/hostile.py"}, WorkingDir: "/tmp",
			Env: []string{"PATH=/usr/bin:/bin"}},
	}
}

// makeCustom makes a pool of the hostile image.
func (k *target) makeCustom(t *testing.T, name, host string, ready int) {
	t.Helper()
	p := customPool(host + "/hostile:1")
	p.Properties.ScaleConfiguration.ReadySessionInstances = &ready
	secret, pids := password, int64(256)
	p.Properties.Secrets = []api.PoolSecret{{Name: "registry", Value: &secret}}
	p.Properties.CustomContainerTemplate.RegistryCredentials = &api.RegistryCredentials{
		Server:   host,
		Username: "me", PasswordSecretRef: "registry"}
	p.Properties.CustomContainerTemplate.Containers[0].Resources = &api.ContainerResources{
		Memory: "0.5Gi"}
	p.Properties.Sandpool = &api.SandpoolSettings{Disk: "64Mi", PIDs: &pids}
	if _, err := k.PutPool(t.Context(), name, p); err != nil {
		t.Fatal(err)
	}
	if _, err := k.WaitReady(t.Context(), name, nil); err != nil {
		t.Fatal(err)
	}
}

func customPool(image string) api.SessionPool {
	most, ready, port := 60, 1, 8080
	return api.SessionPool{Location: "local", Properties: &api.SessionPoolProperties{
		ContainerType: string(sandpool.CustomContainer),
		ScaleConfiguration: &api.ScaleConfiguration{MaxConcurrentSessions: &most,
			ReadySessionInstances: &ready},
		CustomContainerTemplate: &api.CustomContainerTemplate{
			Containers: []api.Container{{Image: image}}, Ingress: &api.Ingress{TargetPort: &port}},
	}}
}

// A box is a session of a hostile container, under an identifier of one test.
type box struct{ session }

func (k *target) box(t *testing.T, name string) box {
	t.Helper()
	return box{k.session(t, name)}
}

// at is a path of the box as it goes over the wire.
func (b box) at(path string) string {
	return endpoint(b.pool) + path + "?identifier=" + url.QueryEscape(b.id)
}

// verdicts runs code as session.verdicts does.
func (b box) verdicts(t *testing.T, code string) map[string]string {
	t.Helper()
	var out map[string]string
	b.ask(t, http.MethodPost, "/run", strings.NewReader(code), &out)
	return out
}

// seen are the heads of the requests that the container got.
func (b box) seen(t *testing.T) string {
	t.Helper()
	var heads []string
	b.ask(t, http.MethodGet, "/seen", nil, &heads)
	return strings.Join(heads, "")
}

func (b box) ask(t *testing.T, method, path string, body io.Reader, out any) {
	t.Helper()
	status, _, text := b.k.send(t, request{method, b.at(path), bearer(b.k.token), body})
	if err := json.Unmarshal([]byte(text), out); err != nil {
		t.Fatalf("%s: %s: %d %.300q: %v", b.id, path, status, text, err)
	}
}
