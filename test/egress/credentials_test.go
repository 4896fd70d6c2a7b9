package egress_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/egress/ca"
	"github.com/sandpool/sandpool/internal/egress/front"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/internal/server"
)

var _ front.Authority = (*ca.Authority)(nil)

// serveTLS serves HTTPS in the world, at every address of it. Its certificates are those of the
// name that a client asks for, by an authority whose file it returns.
func serveTLS(t testing.TB) (authority string, serve func() error) {
	t.Helper()
	world, err := ca.Open(t.TempDir(), nil)
	must(t, err)
	authority = filepath.Join(t.TempDir(), "world.pem")
	must(t, os.WriteFile(authority, []byte(world.PEM()), 0o600))
	return authority, func() error {
		l, err := net.Listen("tcp4", ":443")
		if err != nil {
			return err
		}
		mux := http.NewServeMux()
		mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "hello ", r.Host)
		})
		mux.HandleFunc("/key", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %v", r.TLS.ServerName, r.Header["Authorization"])
		})
		mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://index.example.com/key", http.StatusTemporaryRedirect)
		})
		s := &http.Server{Handler: mux, ErrorLog: log.New(io.Discard, "", 0),
			TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12,
				GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
					return world.Certificate(h.ServerName)
				}}}
		t.Cleanup(func() { s.Close() })
		go func() { _ = s.ServeTLS(l, "", "") }()
		return nil
	}
}

const apiKey = "sk-that-no-session-sees"

func withKey(p api.SessionPool, key string) api.SessionPool {
	p.Properties.Secrets = []api.PoolSecret{{Name: "key", Value: &key}}
	return p
}

func lending() *api.Egress {
	return &api.Egress{Allow: []string{"api.example.com", "index.example.com"},
		Credentials: []api.EgressCredential{
			{URL: "https://api.example.com", Header: "Authorization", Prefix: "Bearer ",
				SecretRef: "key"}}}
}

// Code in sessions of every language uses an API whose key it never sees, with the programs that
// people use for that, while a new key reaches the sessions that run.
func TestCredentials(t *testing.T) {
	need.Data(t)
	authority, serve := serveTLS(t)
	newWorld(t, serve)
	c := newServer(t, func(cfg *server.Config) {
		cfg.Network.Authorities = authority
	})
	for name, kind := range map[string]sandpool.ContainerType{"python": sandpool.PythonLTS,
		"node": sandpool.NodeLTS, "shell": sandpool.Shell} {
		p := withKey(pool("EgressEnabled", lending()), apiKey)
		p.Properties.ContainerType = string(kind)
		_, err := c.PutPool(t.Context(), name, p)
		must(t, err)
	}
	const url = "https://api.example.com/key"
	runs := map[string][]string{
		"python": {try + "print(get('" + url + "'))", `
import importlib.util, urllib.request
if importlib.util.find_spec('requests'):
    import requests
    print(requests.get('` + url + `', headers={'Authorization': 'mine'}, timeout=30).text)
else: print(get('` + url + `'))`},
		"node": {"console.log(await (await fetch('" + url +
			"', {headers: {Authorization: 'mine'}})).text())"},
		"shell": {"curl -sS -m 30 -H 'Authorization: mine' " + url,
			"curl -sS -m 30 --connect-to ::" + elsewhere + ": " + url},
	}
	uses := func(key string) {
		t.Helper()
		for name, codes := range runs {
			for _, code := range codes {
				if got := prints(t, c, name, name+"-1", code); got !=
					"api.example.com [Bearer "+key+"]" {
					t.Errorf("%s: %s says %q", name, code, got)
				}
			}
		}
	}
	uses(apiKey)
	t.Run("nobody else gets it", func(t *testing.T) {
		const sees = "curl -sS -m 30 -L https://api.example.com/away 2>&1 | grep -c 'sk-'; " +
			"curl -sSk -m 30 https://index.example.com/key; " +
			"curl -sS -m 30 -X TRACE " + url + "; curl -sS -m 30 -H 'Host: index.example.com' " + url
		got := prints(t, c, "shell", "shell-1", sees)
		if !strings.HasPrefix(got, "0\nindex.example.com []") || strings.Contains(got, "sk-") {
			t.Errorf("another host answers %q", got)
		}
		// Nothing in the sandbox has it.
		got = prints(t, c, "shell", "shell-1", "(env; cat /proc/*/environ /proc/*/cmdline; "+
			"cat /etc/ssl/certs/ca-certificates.crt; grep -rs that-no-ses /etc /run /tmp /mnt"+
			" --exclude-dir=proc) 2>/dev/null | grep -ac 'sk-that-no-session-see[s]'; true")
		if got != "0" {
			t.Errorf("the sandbox has the key %s times", got)
		}
	})
	t.Run("a new key", func(t *testing.T) {
		for name := range runs {
			_, err := c.PatchPool(t.Context(), name,
				withKey(api.SessionPool{Properties: &api.SessionPoolProperties{}}, "sk-rotated"))
			must(t, err)
		}
		uses("sk-rotated")
	})
}

// A custom container that trusts what its system does uses the key too, booted and restored, also
// from an image that has no certificates at all.
func TestCredentialsContainer(t *testing.T) {
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
		_, err := c.PutPool(t.Context(), start,
			withKey(container(image, start, "EgressEnabled", lending()), apiKey))
		must(t, err)
		if got := c.ask(t, start, "some-session", "/get", "url",
			"https://api.example.com/key"); got != "api.example.com [Bearer "+apiKey+"]" {
			t.Errorf("%s: the API answers %q", start, got)
		}
	}
}

// What a policy asks for in the first bytes of connections holds for the programs of a session: an
// address that an allowed name has is of no use for others.
func TestInspection(t *testing.T) {
	need.Data(t)
	_, serve := serveTLS(t)
	newWorld(t, serve)
	c := newServer(t)
	inspect := true
	for name, kind := range map[string]sandpool.ContainerType{"python": sandpool.PythonLTS,
		"shell": sandpool.Shell} {
		p := pool("EgressEnabled", &api.Egress{Allow: []string{"index.example.com"},
			Inspect: &inspect})
		p.Properties.ContainerType = string(kind)
		_, err := c.PutPool(t.Context(), name, p)
		must(t, err)
	}
	python := try + `
def ask(host, port):
    import http.client, ssl
    tls = ssl._create_unverified_context()
    kind = http.client.HTTPSConnection if port == 443 else http.client.HTTPConnection
    try:
        c = kind('index.example.com', port, timeout=30, **({'context': tls} if port == 443 else {}))
        if port == 443:
            s = socket.create_connection(('index.example.com', port), 30)
            c.sock = tls.wrap_socket(s, server_hostname=host)
        c.request('GET', '/hello', headers={'Host': host})
        r = c.getresponse()
        return r.status, r.read().decode().strip()[:5]
    except OSError: return 'ended'
print([ask(h, p) for p in (80, 443) for h in ('index.example.com', 'other.example.org')])`
	if got := prints(t, c, "python", "python-1", python); got !=
		"[(200, 'hello'), (403, 'The p'), (200, 'hello'), 'ended']" {
		t.Errorf("Python gets %s", got)
	}
	for command, want := range map[string]string{
		"http://index.example.com/hello":     "200",
		"https://index.example.com/hello":    "200",
		"http://other.example.org/hello":     "403",
		"https://other.example.org/hello":    "000",
		"https://" + index + "/hello":        "000",
		"http://" + index + "/hello":         "403",
		"-H 'Host: x' http://" + index + "/": "403",
	} {
		got := prints(t, c, "shell", "shell-1", "curl -sk -m 30 -o /dev/null -w '%{http_code}' "+
			"--resolve other.example.org:80:"+index+" --resolve other.example.org:443:"+index+" "+
			command+"; true")
		if got != want {
			t.Errorf("curl %s: %s, want %s", command, got, want)
		}
	}
	status, err := c.PoolStatus(t.Context(), "shell")
	for end := time.Now().Add(time.Minute); err == nil && len(status.Egress.Recent) == 0 &&
		time.Now().Before(end); {
		status, err = c.PoolStatus(t.Context(), "shell") // they are read now and then
	}
	must(t, err)
	if len(status.Egress.Recent) == 0 {
		t.Error("the status tells of no refusal")
	}
}
