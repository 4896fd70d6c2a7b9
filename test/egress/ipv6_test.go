package egress_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/internal/server"
)

// With IPv6 sessions reach by it what the pool's policy allows and nothing else, also while it
// changes under an open connection.
func TestIPv6(t *testing.T) {
	newWorld(t)
	dir := t.TempDir()
	c := containers{Client: newServer(t, func(cfg *server.Config) {
		cfg.ImageDir, cfg.Network.IPv6 = filepath.Join(dir, "images"), true
	})}
	text, err := c.CreateToken(t.Context(), api.TokenRequest{Name: "user", Role: "session-executor"})
	must(t, err)
	c.token = text.Text
	image := pushApp(t, ocitest.NewHub(t), "1000:1000")[0]
	for name, e := range map[string]*api.Egress{"public": nil,
		"named": {Allow: []string{"*.example.com:80"}},
		"entry": {Allow: []string{"[2a00:1450::/32]:80"}, Deny: []string{"2a00:1450::35"}}} {
		_, err := c.PutPool(t.Context(), name, container(image, "snapshot", "EgressEnabled", e))
		must(t, err)
		_, err = c.WaitReady(t.Context(), name, nil)
		must(t, err)
	}
	reached := func(pool, to string) string {
		t.Helper()
		return c.ask(t, pool, "session-1", "/tcp", "to", to)
	}
	t.Run("everything public", func(t *testing.T) {
		for _, host := range []string{"[" + index6 + "]", "six.example.com"} {
			if got := c.ask(t, "public", "session-1", "/get", "url",
				"http://"+host+"/hello"); got != "hello "+hostAddr6 {
				t.Errorf("%s answers %q", host, got)
			}
		}
		for _, to := range []string{hostAddr6, worldAddr6, metadata6, private6, "::1", "::",
			"fe80::1%eth0", "ff02::1%eth0", "fd5b:1d9e:5ec4::1", "fd5b:1d9e:5ec4::11",
			"fd5b:1d9e:5ec4::12", "fd5b:1d9e:5ec4::13", "::ffff:" + metadata, "::" + metadata,
			"64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1",
			"2001:0:5db8:d822::5601:5601", "2001:10::1", "fec0::1"} {
			if got := reached("public", "["+to+"]:80"); got != "false" {
				t.Errorf("%s: reached is %s", to, got)
			}
		}
		for _, name := range []string{"inner.example.com", "meta.example.com", "mapped.example.com",
			"nat64.example.com", "to4.example.com"} {
			if got := reached("public", name+":80"); got != "false" {
				t.Errorf("%s: reached is %s", name, got)
			}
		}
	})
	t.Run("names", func(t *testing.T) {
		if got := reached("named", "["+index6+"]:80"); got != "false" {
			t.Errorf("before its name was asked for, reached is %s", got)
		}
		if got := c.ask(t, "named", "session-1", "/hold", "to", "six.example.com:80") +
			c.ask(t, "named", "session-1", "/use"); got != "truetrue" {
			t.Errorf("a connection to an allowed name carries: %s", got)
		}
		for _, to := range []string{"[" + elsewhere6 + "]:80", "other.example.org:80",
			"[" + index6 + "]:81"} {
			if got := reached("named", to); got != "false" {
				t.Errorf("%s: reached is %s", to, got)
			}
		}
		_, err := c.PatchPool(t.Context(), "named", api.SessionPool{
			Properties: &api.SessionPoolProperties{Sandpool: &api.SandpoolSettings{
				Egress: &api.Egress{Allow: []string{"other.example.org"}}}}})
		must(t, err)
		if got := c.ask(t, "named", "session-1", "/use"); got != "false" {
			t.Error("a connection carries whose name was taken back")
		}
	})
	t.Run("entries", func(t *testing.T) {
		for to, want := range map[string]bool{"[" + index6 + "]:80": true,
			"[" + index6 + "]:81": false, "[2a00:1450::35]:80": false,
			"[" + elsewhere6 + "]:80": false, "[" + metadata6 + "]:80": false,
			"[64:ff9b::808:808]:80": false, index + ":80": false} {
			if got := reached("entry", to); got != fmt.Sprint(want) {
				t.Errorf("%s: reached is %s", to, got)
			}
			p, err := c.Egress(t.Context(), "entry", to, "tcp")
			if err != nil || p.Test.Allowed != want || strings.Contains(p.Test.Reason, "no IPv6") {
				t.Errorf("%s: %+v, %v", to, p.Test, err)
			}
		}
	})
}
