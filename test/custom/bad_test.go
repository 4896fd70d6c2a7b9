package custom_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
)

// as returns a client with a token of the role.
func (k *kit) as(t *testing.T, role string) *client.Client {
	t.Helper()
	token, err := k.CreateToken(t.Context(), api.TokenRequest{Name: role, Role: role})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{Endpoint: k.Endpoint(), Token: token.Text})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return c
}

// TestBadImages: what is wrong with an image is said to those who may change the pool, with what
// the container wrote, and without secrets; to others only that something is wrong.
func TestBadImages(t *testing.T) {
	k := newKit(t)
	owner, user := k.as(t, "pool-contributor"), k.as(t, "session-executor")
	good := k.push(t, "app:1", app(t))
	other := app(t)
	cfg, err := other.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.Architecture = "arm64"
	if other, err = mutate.ConfigFile(other, cfg); err != nil {
		t.Fatal(err)
	}
	locked := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="locked"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(locked.Close)
	secret := "hush-hush"
	one := 1
	for name, c := range map[string]struct {
		change func(p *api.SessionPoolProperties, c *api.Container)
		want   []string
	}{
		"missing": {func(_ *api.SessionPoolProperties, c *api.Container) {
			c.Image = k.host + "/none:1"
		}, []string{"has no image", "none:1"}},
		"locked": {func(p *api.SessionPoolProperties, c *api.Container) {
			c.Image = strings.TrimPrefix(locked.URL, "http://") + "/app:1"
			p.CustomContainerTemplate.RegistryCredentials = &api.RegistryCredentials{
				Server: strings.TrimPrefix(locked.URL, "http://"), Username: "me",
				PasswordSecretRef: "key"}
		}, []string{"refuses the credentials"}},
		"platform": {func(_ *api.SessionPoolProperties, c *api.Container) {
			c.Image = k.push(t, "other:1", other)
		}, []string{"linux/amd64"}},
		"command": {func(_ *api.SessionPoolProperties, c *api.Container) {
			c.Command = []string{"/nothing-here"}
		}, []string{"/nothing-here"}},
		"directory": {func(p *api.SessionPoolProperties, _ *api.Container) {
			p.Sandpool = &api.SandpoolSettings{WorkingDir: "/app"}
		}, []string{"something else where a directory must be", "/app"}},
		"exits": {func(_ *api.SessionPoolProperties, c *api.Container) {
			c.Args = []string{"fail"}
		},
			[]string{"exited with code 9", "last lines", "giving up\nkey=***"}},
		"exits-by-snapshot": {func(p *api.SessionPoolProperties, c *api.Container) {
			p.Sandpool, c.Env, c.Args = &api.SandpoolSettings{WarmStart: "snapshot"}, nil, []string{
				"fail"}
		}, []string{"exited with code 9", "last lines", "giving up\nkey="}},
		"deaf": {func(_ *api.SessionPoolProperties, c *api.Container) {
			c.Args = []string{"deaf"}
			c.Probes = []api.ContainerProbe{{Type: "Startup", TCPSocket: &api.TCPSocket{Port: &one},
				PeriodSeconds: &one, FailureThreshold: &one}}
		}, []string{"did not pass", "nothing listens at port 1", "last lines", "not listening"}},
		"deaf-and-orderly": {func(_ *api.SessionPoolProperties, c *api.Container) {
			c.Args = []string{"orderly", "deaf"}
			c.Probes = []api.ContainerProbe{{Type: "Startup", TCPSocket: &api.TCPSocket{Port: &one},
				PeriodSeconds: &one, FailureThreshold: &one}}
		}, []string{"did not pass", "not listening", "asked to end by terminated", "in order"}},
	} {
		t.Run(name, func(t *testing.T) {
			body := container(good)
			p := body.Properties
			p.Secrets = []api.PoolSecret{{Name: "key", Value: &secret}}
			p.CustomContainerTemplate.Containers[0].Env = []api.EnvironmentVar{
				{Name: "KEY", SecretRef: "key"}}
			c.change(p, &p.CustomContainerTemplate.Containers[0])
			_, err := owner.PutPool(t.Context(), name, body)
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("the owner learns %v, want %q", err, want)
				}
			}
			for _, c := range []*client.Client{owner, user, k.Client} {
				got, err := c.Pool(t.Context(), name)
				if err != nil || got.Properties.ProvisioningState != "Failed" {
					t.Fatalf("the pool is %+v, %v", got.Properties, err)
				}
				status, err := c.PoolStatus(t.Context(), name)
				if err != nil {
					t.Fatal(err)
				}
				events, err := c.Events(t.Context(), client.Events{Pool: name})
				if err != nil {
					t.Fatal(err)
				}
				said := []string{got.Properties.Sandpool.Problem, status.Problem}
				for _, e := range events.Value {
					said = append(said, e.Message, e.Error)
				}
				for _, text := range said {
					if strings.Contains(text, secret) || c != k.Client &&
						strings.Contains(text, "/data/") {
						t.Errorf("a text holds a secret, or a path of the host: %q", text)
					}
					if c == user && strings.Contains(text, "last lines") {
						t.Errorf("who may not change the pool reads what its containers wrote: %q",
							text)
					}
				}
				if strings.Contains(said[0], "last lines") && c == user {
					t.Errorf("the problem is %q", said[0])
				}
			}
			if _, err := k.DeletePool(t.Context(), name); err != nil {
				t.Error(err)
			}
		})
	}
}
