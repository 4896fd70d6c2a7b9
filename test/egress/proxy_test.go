package egress_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/need"
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
		"shell": sandpool.Shell} {
		e := lending()
		yes := true
		e.Proxy = &yes
		p := withKey(pool("EgressEnabled", e), apiKey)
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

func shellPool(e *api.Egress) api.SessionPool {
	p := pool("EgressEnabled", e)
	p.Properties.ContainerType = string(sandpool.Shell)
	return p
}
