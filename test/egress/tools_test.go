package egress_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/need"
)

// The tools by which people fetch things work through a policy that names where from, in sessions
// of every language, and fetch nothing from elsewhere.
func TestTools(t *testing.T) {
	need.Data(t)
	newWorld(t)
	c := newServer(t)
	for kind, name := range map[sandpool.ContainerType]string{sandpool.NodeLTS: "node",
		sandpool.Shell: "shell"} {
		p := pool("EgressEnabled", &api.Egress{Allow: []string{"index.example.com:80"}})
		p.Properties.ContainerType = string(kind)
		_, err := c.PutPool(t.Context(), name, p)
		must(t, err)
	}
	js := func(code string) string { t.Helper(); return prints(t, c, "node", "node-1", code) }
	sh := func(code string) string { t.Helper(); return prints(t, c, "shell", "shell-1", code) }
	run := func(command string) string {
		return fmt.Sprintf(
			"console.log(require('child_process').spawnSync('sh', ['-c', %q], {encoding: 'utf8'}).output.join(''))", command)
	}
	t.Run("npm install", func(t *testing.T) {
		got := js(run(
			"mkdir -p /mnt/data/p && cd /mnt/data/p && echo {} > package.json && npm install --no-audit --no-fund --no-update-notifier --registry http://index.example.com/npm tiny-js && cat node_modules/tiny-js/package.json"))
		if !strings.Contains(got, `"name":"tiny-js"`) {
			t.Errorf("npm says %q", got)
		}
		got = js(run(
			"cd /mnt/data && npm view --fetch-retries 0 --registry http://other.example.org/npm tiny-js name 2>&1 | grep -o ENOTFOUND | head -1"))
		if got != "ENOTFOUND" {
			t.Errorf("another registry: %q", got)
		}
	})
	t.Run("fetch in JavaScript", func(t *testing.T) {
		if got := js(
			"console.log(await (await fetch('http://index.example.com/hello')).text())"); got != "hello "+hostAddr {
			t.Errorf("fetch says %q", got)
		}
		for _, url := range []string{"http://other.example.org/hello", "http://" + elsewhere +
			"/hello", "http://index.example.com/redirect", "http://" + metadata + "/"} {
			if got := js(fmt.Sprintf(
				"try { console.log(await (await fetch(%q)).text()) } catch (e) { console.log('no') }",
				url)); got != "no" {
				t.Errorf("%s says %q", url, got)
			}
		}
	})
	t.Run("git clone", func(t *testing.T) {
		if got := sh(
			"cd /mnt/data && git clone -q http://index.example.com/tiny.git 2>&1; cat tiny/file"); got != "the file" {
			t.Errorf("git says %q", got)
		}
		if got := sh(
			"git ls-remote http://other.example.org/tiny.git 2>&1 | grep -c 'Could not resolve'"); got != "1" {
			t.Errorf("another host: %q", got)
		}
	})
	t.Run("an archive of packages", func(t *testing.T) {
		// The image has no apt; this is what apt does with a flat archive.
		got := sh(`cd /tmp && curl -sf http://index.example.com/apt/Packages -o Packages
name=$(awk '/^Filename:/ {print $2}' Packages); sum=$(awk '/^SHA256:/ {print $2}' Packages)
curl -sf -C - "http://index.example.com/apt/$name" -o tiny.deb; echo "$sum  tiny.deb" | sha256sum -c -`)
		if got != "tiny.deb: OK" {
			t.Errorf("the archive gives %q", got)
		}
	})
	t.Run("a large download", func(t *testing.T) {
		if got := sh("curl -s http://index.example.com/large | wc -c"); got != fmt.Sprint(
			largeSize) {
			t.Errorf("%s bytes arrive", got)
		}
		if got := sh(
			"head -c 67108864 /dev/zero | curl -s -T - http://index.example.com/large"); got != fmt.Sprint(64<<20) {
			t.Errorf("%s bytes are sent", got)
		}
	})
	t.Run("what is not allowed", func(t *testing.T) {
		for _, command := range []string{
			"curl -s -m 20 http://" + elsewhere + "/hello",
			"curl -s -m 20 http://" + metadata + "/", "curl -s -m 20 http://2852039166/",
			"curl -s -m 20 -L http://index.example.com/redirect | grep hello",
			"curl -s -m 20 --resolve index.example.com:80:" + elsewhere +
				" http://index.example.com/hello",
			"timeout 20 bash -c 'echo hi > /dev/udp/198.18.0.1/80; echo > /dev/tcp/" + hostAddr +
				"/80'", "curl -s -m 20 https://" + index + "/",
			"timeout 5 ssh -o BatchMode=yes -p 80 " + elsewhere} {
			if got := sh(command + " > /tmp/out 2>/dev/null && echo reached; true"); got != "" {
				t.Errorf("%s: %s", command, got)
			}
		}
	})
}
