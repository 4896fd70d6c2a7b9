package egress_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/internal/server"
)

// containers sends requests to sessions of custom containers.
type containers struct {
	*client.Client
	token string
}

// ask sends one request to testdata/app in a session.
func (c containers) ask(t *testing.T, pool, session, path string, query ...string) string {
	t.Helper()
	values := url.Values{"identifier": {session}}
	for i := 0; i < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
		c.PoolEndpoint(pool)+path+"?"+values.Encode(), nil)
	must(t, err)
	r.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := http.DefaultClient.Do(r)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s", path, resp.Status, body)
	}
	return string(body)
}

// container is a pool of testdata/app.
func container(image, start, status string, e *api.Egress) api.SessionPool {
	p, port := pool(status, e), 8080
	p.Properties.ContainerType = string(sandpool.CustomContainer)
	p.Properties.CustomContainerTemplate = &api.CustomContainerTemplate{
		Containers: []api.Container{{Image: image}}, Ingress: &api.Ingress{TargetPort: &port}}
	p.Properties.Sandpool.WarmStart = start
	return p
}

// hammering is a pool of testdata/app that tries to reach hosts, at port 80, all the time.
func hammering(p api.SessionPool, hosts ...string) api.SessionPool {
	list := strings.Join(hosts, ":80 ") + ":80"
	p.Properties.CustomContainerTemplate.Containers[0].Env =
		[]api.EnvironmentVar{{Name: "HAMMER", Value: &list}}
	return p
}

// buildApp compiles testdata/app.
func buildApp(t testing.TB) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "app")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./testdata/app")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the application: %v\n%s", err, out)
	}
	return program
}

// pushApp makes images of testdata/app for each user.
func pushApp(t *testing.T, hub *ocitest.Hub, users ...string) (images []string) {
	t.Helper()
	text, err := os.ReadFile(buildApp(t))
	must(t, err)
	layer := ocitest.Layer(t, ocitest.File("app", 0o755, string(text)))
	for i, user := range users {
		tag := fmt.Sprintf("app:%d", i)
		hub.Push(tag, ocitest.Image{Layers: []string{layer},
			Config: v1.Config{Entrypoint: []string{"/app"}, User: user}})
		images = append(images, hub.Host()+"/"+tag)
	}
	return images
}

// Custom containers, booted and restored, run as root and as another user, reach what the pool's
// policy allows and nothing else, also while it changes under an open connection.
func TestContainers(t *testing.T) {
	newWorld(t)
	dir := t.TempDir()
	c := containers{Client: newServer(t, func(cfg *server.Config) {
		cfg.ImageDir = filepath.Join(dir, "images")
	})}
	text, err := c.CreateToken(t.Context(), api.TokenRequest{Name: "user", Role: "session-executor"})
	must(t, err)
	c.token = text.Text
	hub := ocitest.NewHub(t)
	for i, image := range pushApp(t, hub, "0:0", "1000:1000") {
		uid := []string{"0", "1000"}[i]
		for _, start := range []string{"boot", "snapshot"} {
			t.Run(start+" as user "+uid, func(t *testing.T) {
				open, named, none := start+uid+"-public", start+uid+"-named", start+uid+"-none"
				for name, p := range map[string]api.SessionPool{
					open:  container(image, start, "EgressEnabled", nil),
					named: container(image, start, "EgressEnabled", &api.Egress{Allow: []string{"*.example.com:80"}}),
					none:  container(image, start, "EgressDisabled", nil),
				} {
					_, err := c.PutPool(t.Context(), name, hammering(p, elsewhere, metadata))
					must(t, err)
					_, err = c.WaitReady(t.Context(), name, nil)
					must(t, err)
					got, err := c.Pool(t.Context(), name)
					must(t, err)
					if got.Properties.Sandpool.Problem != "" {
						t.Fatalf("%s: %s", name, got.Properties.Sandpool.Problem)
					}
				}
				c.public(t, open, uid)
				c.named(t, named)
				if got := c.ask(t, none, "session-1", "/hammered"); got != "true []" {
					t.Errorf("without a network it has reached %s", got)
				}
				for _, to := range []string{index + ":80", "index.example.com:80", "198.18.0.1:53", hostAddr + ":80"} {
					if got := c.ask(t, none, "session-1", "/tcp", "to", to); got != "false" {
						t.Errorf("without a network %s is reached: %s", to, got)
					}
				}
				for _, name := range []string{open, named, none} {
					_, err := c.DeletePool(t.Context(), name)
					must(t, err)
				}
			})
		}
	}
}

// public tries a pool that may reach everything public.
func (c containers) public(t *testing.T, pool, uid string) {
	t.Helper()
	if got := c.ask(t, pool, "session-1", "/get", "url", "http://index.example.com/hello"); got != "hello "+hostAddr {
		t.Errorf("a public server answers %q", got)
	}
	for _, to := range []string{hostAddr, worldAddr, metadata, private, "198.18.0.1", "inner.example.com", "meta.example.com",
		"168.63.129.16", "[::ffff:" + metadata + "]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "[fd00:ec2::254]"} {
		if got := c.ask(t, pool, "session-1", "/tcp", "to", to+":80"); got != "false" {
			t.Errorf("%s: reached is %s", to, got)
		}
	}
	if got := c.ask(t, pool, "session-1", "/get", "url", "http://index.example.com/redirect"); !strings.HasPrefix(got, "no: ") {
		t.Errorf("a redirect to the metadata service is followed: %q", got)
	}
	// What tries from its first moment on finds what is open, and that alone.
	want := "true [" + elsewhere + ":80]"
	for end := time.Now().Add(time.Minute); c.ask(t, pool, "session-1", "/hammered") != want; {
		if time.Now().After(end) {
			t.Errorf("since it began it has reached %s, want %s",
				c.ask(t, pool, "session-1", "/hammered"), want)
			break
		}
	}
	if got := c.ask(t, pool, "session-1", "/raw"); got != uid+" []" {
		t.Errorf("the user and open raw sockets are %q", got)
	}
}

// named tries one that may reach names, and takes them back.
func (c containers) named(t *testing.T, pool string) {
	t.Helper()
	if got := c.ask(t, pool, "session-1", "/get", "url", "http://index.example.com/hello"); got != "hello "+hostAddr {
		t.Errorf("an allowed name answers %q", got)
	}
	for _, to := range []string{elsewhere + ":80", "other.example.org:80", "inner.example.com:80", metadata + ":80", "index.example.com:81"} {
		if got := c.ask(t, pool, "session-1", "/tcp", "to", to); got != "false" {
			t.Errorf("%s: reached is %s", to, got)
		}
	}
	if got := c.ask(t, pool, "session-1", "/hold", "to", "index.example.com:80") + c.ask(t, pool, "session-1", "/use"); got != "truetrue" {
		t.Errorf("a connection to an allowed name carries: %s", got)
	}
	if got := c.ask(t, pool, "session-1", "/hammered"); got != "true []" {
		t.Errorf("since it began it has reached %s", got)
	}
	_, err := c.PatchPool(t.Context(), pool, api.SessionPool{Properties: &api.SessionPoolProperties{
		Sandpool: &api.SandpoolSettings{Egress: &api.Egress{Allow: []string{"other.example.org"}}}}})
	must(t, err)
	if got := c.ask(t, pool, "session-1", "/use"); got != "false" {
		t.Error("a connection carries whose name was taken back")
	}
	if got := c.ask(t, pool, "session-1", "/get", "url", "http://other.example.org/hello"); got != "hello "+hostAddr {
		t.Errorf("a name that was added answers %q", got)
	}
}
