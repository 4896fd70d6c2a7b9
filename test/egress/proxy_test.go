package egress_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/internal/server"
)

// Programs of a session that has nothing but a proxy use it by themselves, credentials included,
// and reach nothing past it.
func TestProxy(t *testing.T) {
	need.Data(t)
	authority, serve := serveTLS(t)
	newWorld(t, serve)
	c := newServer(t, func(cfg *server.Config) { cfg.Network.Authorities = authority })
	for name, kind := range map[string]sandpool.ContainerType{"python": sandpool.PythonLTS,
		"shell": sandpool.Shell, "node": sandpool.NodeLTS} {
		p := withKey(pool("EgressEnabled", lendingByProxy()), apiKey)
		p.Properties.ContainerType = string(kind)
		_, err := c.PutPool(t.Context(), name, p)
		must(t, err)
	}
	python := func(code string) string { return prints(t, c, "python", "python-1", code) }
	shell := func(code string) string { return prints(t, c, "shell", "shell-1", code) }

	if got := python(try + "print(get('http://index.example.com/hello'), " +
		"get('https://api.example.com/key'), get('http://other.example.org/hello')[:20])"); !strings.HasPrefix(got,
		"hello "+hostAddr+" api.example.com [Bearer "+apiKey+"] no: ") {
		t.Errorf("Python gets %q", got)
	}
	proxyNode(t, func(code string) string { return prints(t, c, "node", "node-1", code) })
	if got := python("%pip install --quiet --disable-pip-version-check " +
		"--index-url http://index.example.com/simple --trusted-host index.example.com tiny\n" +
		"import tiny\nprint('the answer is', tiny.answer)"); !strings.Contains(got, "the answer is 42") {
		t.Errorf("pip says %q", got)
	}
	if got := python(fmt.Sprintf("print(tcp(%q), tcp('index.example.com'), tcp('198.18.0.1', 53), "+
		"tcp('198.18.0.1', 3129), tcp(%q), tcp(%q))", index, metadata, hostAddr)); got !=
		"False False False False False False" {
		t.Errorf("past the proxy: reached is %s", got)
	}
	for command, want := range map[string]string{
		"http://index.example.com/hello":                     "200",
		"https://api.example.com/key":                        "200",
		"http://other.example.org/hello":                     "403",
		"https://other.example.org/hello":                    "000",
		"http://" + index + "/hello":                         "403",
		"http://" + metadata + "/":                           "403",
		"http://inner.example.com/":                          "403",
		"--noproxy '*' http://index.example.com/hello":       "000",
		"--noproxy '*' http://" + index + "/hello":           "000",
		"--noproxy '*' http://" + metadata + "/":             "000",
		"-p http://index.example.com:22/":                    "000",
		"-k -p https://other.example.org/hello":              "000",
		"-H 'Host: other.example.org' http://" + index + "/": "403",
	} {
		if got := shell("curl -s -m 30 -o /dev/null -w '%{http_code}' " + command +
			"; true"); got != want {
			t.Errorf("curl %s: %s, want %s", command, got, want)
		}
	}
	if got := shell("cd /mnt/data && git clone -q http://index.example.com/tiny.git 2>&1; " +
		"cat tiny/file; env | grep -ic '^no_proxy=localhost'"); got != "the file2" &&
		got != "the file\n2" {
		t.Errorf("git says %q", got)
	}
	for to, want := range map[string]bool{"api.example.com:443": true, index + ":80": false,
		"other.example.org:80": false} {
		if p, err := c.Egress(t.Context(), "python", to, "tcp"); err != nil ||
			p.Test.Allowed != want || p.Test.Reason == "" || p.Proxy == nil {
			t.Errorf("%s: %+v, %v", to, p.Test, err)
		}
	}

	// A pool that is the same but for the proxy has none in its environment, nor in its snapshot.
	_, err := c.PutPool(t.Context(), "direct", withKey(shellPool(lending()), apiKey))
	must(t, err)
	if got := prints(t, c, "direct", "direct-1", "env | grep -ic proxy; "+
		"curl -s -m 30 http://index.example.com/hello"); got != "0\nhello "+hostAddr {
		t.Errorf("without the proxy: %q", got)
	}
}

// lendingByProxy is lending for sessions that have nothing but a proxy.
func lendingByProxy() *api.Egress {
	e, yes := lending(), true
	e.Proxy = &yes
	return e
}

// proxyNode tries what JavaScript in a session uses to fetch things.
func proxyNode(t *testing.T, js func(code string) string) {
	t.Helper()
	const get = `const get = async url => {
	try { const r = await fetch(url); return r.status + ' ' + (await r.text()).trim() }
	catch (e) { return 'no' } }
const old = url => new Promise(done => require(url.split(':')[0]).get(url, r => {
	let text = ''; r.on('data', d => text += d).on('end', () => done(r.statusCode + ' ' + text.trim()))
}).on('error', () => done('no')))
`
	// fetch goes to hosts of http:// by CONNECT as well, so that a refusal is no answer to it.
	const other = "403 The pool's policy does not allow this host."
	const address = "403 The pool's proxy takes host names alone, and no addresses."
	for _, test := range []struct{ url, fetch, get string }{
		{"http://index.example.com/hello", "200 hello " + hostAddr, "200 hello " + hostAddr},
		{"https://api.example.com/key", "200 api.example.com [Bearer " + apiKey + "]",
			"200 api.example.com [Bearer " + apiKey + "]"},
		{"http://other.example.org/hello", "no", other},
		{"https://other.example.org/hello", "no", "no"},
		{"http://" + metadata + "/", "no", address},
		{"http://" + index + "/hello", "no", address},
	} {
		code := fmt.Sprintf("{ %s; console.log(await get(%q)); console.log(await old(%q)) }", get,
			test.url, test.url)
		if got, want := js(code), test.fetch+"\n"+test.get; got != want {
			t.Errorf("JavaScript gets %q from %s, want %q", got, test.url, want)
		}
	}
	got := js(`console.log(require('child_process').spawnSync('sh', ['-c', "mkdir -p /mnt/data/p && ` +
		`cd /mnt/data/p && echo {} > package.json && npm install --no-audit --no-fund ` +
		`--no-update-notifier --registry http://index.example.com/npm tiny-js && ` +
		`cat node_modules/tiny-js/package.json"], {encoding: 'utf8'}).output.join(''))`)
	if !strings.Contains(got, `"name":"tiny-js"`) {
		t.Errorf("npm says %q", got)
	}
}

// Custom containers that have nothing but a proxy, booted and restored, use it by themselves if
// their programs look where programs look, and reach nothing past it.
func TestProxyContainers(t *testing.T) {
	authority, serve := serveTLS(t)
	newWorld(t, serve)
	dir := t.TempDir()
	c := containers{Client: newServer(t, func(cfg *server.Config) {
		cfg.ImageDir, cfg.Network.Authorities = filepath.Join(dir, "images"), authority
	})}
	text, err := c.CreateToken(t.Context(), api.TokenRequest{Name: "user", Role: "session-executor"})
	must(t, err)
	c.token = text.Text
	image := pushApp(t, ocitest.NewHub(t), "1000:1000")[0]
	for _, start := range []string{"boot", "snapshot"} {
		p := withKey(container(image, start, "EgressEnabled", lendingByProxy()), apiKey)
		_, err := c.PutPool(t.Context(), start, hammering(p, index, elsewhere, hostAddr))
		must(t, err)
		const address = "The pool's proxy takes host names alone, and no addresses.\n"
		for url, want := range map[string]string{
			"http://index.example.com/hello":    "hello " + hostAddr,
			"https://api.example.com/key":       "api.example.com [Bearer " + apiKey + "]",
			"http://other.example.org/hello":    "The pool's policy does not allow this host.\n",
			"http://" + index + "/hello":        address,
			"http://2852039166/":                address,
			"http://0251.0376.0251.0376/":       address,
			"http://[::ffff:" + metadata + "]/": address,
		} {
			if got := c.ask(t, start, "session-1", "/get", "url", url); got != want {
				t.Errorf("%s: %s answers %q, want %q", start, url, got, want)
			}
		}
		for to, want := range map[string]string{index + ":80": "false",
			"index.example.com:80": "false",
			"198.18.0.1:53":        "false", "198.18.0.1:3129": "false", "198.18.0.1:3128": "true"} {
			if got := c.ask(t, start, "session-1", "/tcp", "to", to); got != want {
				t.Errorf("%s: %s is reached: %s", start, to, got)
			}
		}
		if got := c.ask(t, start, "session-1", "/hammered"); got != "true []" {
			t.Errorf("%s: since it began it has reached %s", start, got)
		}
	}
}

func shellPool(e *api.Egress) api.SessionPool {
	p := pool("EgressEnabled", e)
	p.Properties.ContainerType = string(sandpool.Shell)
	return p
}
