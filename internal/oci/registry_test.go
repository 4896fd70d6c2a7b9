package oci

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/internal/image"
)

// basicOnly makes a hub want a user and a password.
func (h *testHub) basicOnly(user, password string) {
	h.ask(func(w http.ResponseWriter, r *http.Request) bool {
		u, p, _ := r.BasicAuth()
		if u == user && p == password {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="hub"`)
		// It repeats what was sent, as a careless or hostile one may.
		problem(w, http.StatusUnauthorized, "UNAUTHORIZED",
			"not with "+p+" or "+r.Header.Get("Authorization"))
		return true
	})
}

// tokenOnly makes a hub want a token, which its own token service gives to the user and password.
func (h *testHub) tokenOnly(user, password string) {
	const token = "the-token"
	h.ask(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/token":
			u, p, _ := r.BasicAuth()
			if u != user || p != password || r.URL.Query().Get("scope") != "repository:app:pull" {
				problem(w, http.StatusUnauthorized, "UNAUTHORIZED", "wrong "+p)
				return true
			}
			fmt.Fprintf(w, `{"token":%q}`, token)
			return true
		case r.Header.Get("Authorization") == "Bearer "+token:
			return false
		}
		w.Header().Set("WWW-Authenticate",
			fmt.Sprintf(`Bearer realm="%s/token",service="hub",scope="repository:app:pull"`, h.URL))
		problem(w, http.StatusUnauthorized, "UNAUTHORIZED", "no token")
		return true
	})
}

// Registries that want a password or a token get them; wrong ones are told apart from none,
// and never repeated.
func TestAuthentication(t *testing.T) {
	for name, want := range map[string]func(*testHub, string, string){"basic": (*testHub).basicOnly,
		"token": (*testHub).tokenOnly} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			h.push("1", small(t))
			want(h, "me", "open-sesame")
			ref := h.host() + "/app:1"
			c, store := newClient(t, Config{})
			if _, err := pull(t, c, ref, Credentials{Username: "me",
				Password: "open-sesame"}); err != nil {
				t.Fatal(err)
			}
			_, err := c.Resolve(t.Context(), ref, Credentials{})
			wantCode(t, err, CodeCredentials, "wants credentials")
			wrong := Credentials{Username: "me", Password: "close-sesame"}
			_, err = c.Resolve(t.Context(), ref, wrong)
			wantCode(t, err, CodeCredentials, "refuses the credentials")
			for _, secret := range []string{wrong.Password,
				base64.StdEncoding.EncodeToString([]byte("me:close-sesame"))} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error repeats %q: %v", secret, err)
				}
			}
			// The store has the image, but whoever may not read it does not get it.
			if _, err := c.Resolve(t.Context(), h.host()+"/app@"+first(t, store),
				wrong); err == nil {
				t.Error("a digest was resolved without a right to it")
			}

			configured, _ := newClient(t, Config{DockerConfig: dockerFile(t,
				fmt.Sprintf(`{"auths":{%q:{"username":"me","password":"open-sesame"}}}`,
					h.host()))})
			if _, err := pull(t, configured, ref, Credentials{}); err != nil {
				t.Errorf("with docker's configuration: %v", err)
			}
			if err := filepath.WalkDir(store.Dir(),
				func(file string, d os.DirEntry, err error) error {
					if err != nil || d.IsDir() {
						return err
					}
					text, err := os.ReadFile(file)
					if strings.Contains(string(text), "sesame") {
						t.Errorf("%s holds the password", file)
					}
					return err
				}); err != nil {
				t.Error(err)
			}
		})
	}
}

// Credentials stay with the registry: a redirect to another host does not take them along, and
// the token service of one host is shown nothing by another.
func TestRedirect(t *testing.T) {
	var other []string
	elsewhere := newHub(t)
	elsewhere.ask(func(_ http.ResponseWriter, r *http.Request) bool {
		other = append(other, r.Header.Get("Authorization"), r.Header.Get("Cookie"))
		return false
	})
	for name, want := range map[string]func(*testHub, string, string){"basic": (*testHub).basicOnly,
		"token": (*testHub).tokenOnly} {
		t.Run(name, func(t *testing.T) {
			other = nil
			h := newHub(t)
			h.push("1", small(t))
			elsewhere.push("1", small(t))
			want(h, "me", "open-sesame")
			inner := h.before
			h.ask(func(w http.ResponseWriter, r *http.Request) bool {
				if inner(w, r) {
					return true
				}
				if strings.Contains(r.URL.Path, "/blobs/") {
					// Another name of the same address is another host.
					http.Redirect(w, r, strings.Replace(elsewhere.URL, "127.0.0.1", "localhost",
						1)+r.URL.Path, http.StatusTemporaryRedirect)
					return true
				}
				return false
			})
			c, _ := newClient(t, Config{})
			if _, err := pull(t, c, h.host()+"/app:1", Credentials{Username: "me",
				Password: "open-sesame"}); err != nil {
				t.Fatal(err)
			}
			if len(other) == 0 || strings.Join(other, "") != "" {
				t.Errorf("the other host got %q", other)
			}
		})
	}
}

// A registry cannot send the server to where clouds keep secrets, to other schemes or in circles.
func TestRedirectRefused(t *testing.T) {
	for name, c := range map[string]struct{ to, code, part string }{
		"metadata": {"http://169.254.169.254/latest/meta-data/", CodeNotAllowed, "without TLS"},
		"metadata, TLS": {"https://169.254.169.254/latest/meta-data/", CodeNotAllowed,
			"where no registry is"},
		"file":   {"file:///etc/passwd", CodeNotAllowed, "scheme"},
		"plain":  {"http://registry.example/x", CodeNotAllowed, "without TLS"},
		"circle": {"", CodeUnreachable, "redirects without end"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			h.push("1", small(t))
			h.ask(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/manifests/") {
					return false
				}
				to := c.to
				if to == "" {
					to = r.URL.Path
				}
				http.Redirect(w, r, to, http.StatusFound)
				return true
			})
			client, _ := newClient(t, Config{})
			_, err := client.Resolve(t.Context(), h.host()+"/app:1", Credentials{})
			wantCode(t, err, c.code, c.part)
		})
	}
}

// A token service inside the network of a registry outside it is not asked.
func TestRealmRefused(t *testing.T) {
	h := newHub(t)
	h.ask(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("WWW-Authenticate",
			`Bearer realm="https://169.254.169.254/token",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	c, _ := newClient(t, Config{})
	if _, err := c.Resolve(t.Context(), h.host()+"/app:1", Credentials{Username: "me",
		Password: "open-sesame"}); err == nil || strings.Contains(err.Error(), "sesame") {
		t.Errorf("error %v", err)
	}
}

// What goes wrong at the registry has a code and a sentence each.
func TestRegistryErrors(t *testing.T) {
	h := newHub(t)
	h.push("1", small(t))
	answer := func(status int, code, message string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			problem(w, status, code,
				message)
			return true
		}
	}
	for name, c := range map[string]struct {
		before     func(http.ResponseWriter, *http.Request) bool
		ref        string
		code, part string
	}{
		"missing tag":        {nil, "/app:2", CodeMissing, "has no image"},
		"missing repository": {nil, "/other:1", CodeMissing, "has no image"},
		"missing digest": {nil, "/app@sha256:" + strings.Repeat("0", 64), CodeMissing,
			"has no image"},
		"busy": {answer(http.StatusTooManyRequests, "TOOMANYREQUESTS", "slow down"),
			"/app:1", CodeBusy, "too many requests"},
		"broken": {answer(http.StatusInternalServerError, "UNKNOWN", "oh\x1b[2J no"),
			"/app:1", CodeRegistry, "500"},
		"no registry": {answer(http.StatusTeapot, "", ""), "/app:1", CodeRegistry, "418"},
		"denied": {answer(http.StatusForbidden, "DENIED", "not you"), "/app:1",
			CodeCredentials, "not you"},
		"hangs up": {func(http.ResponseWriter,
			*http.Request) bool {
			panic(http.ErrAbortHandler)
		}, "/app:1", CodeUnreachable, "cannot be reached"},
		"endless error": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusBadGateway)
			flood(w)
			return true
		}, "/app:1", CodeRegistry, "502"},
		"endless manifest": {func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			flood(w)
			return true
		}, "/app:1", CodeTooLarge, "manifest"},
		"endless ping": {func(w http.ResponseWriter,
			r *http.Request) bool {
			flood(w)
			return true
		}, "/app:1", CodeTooLarge, "manifest"},
		"endless token": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				flood(w)
				return true
			}
			w.Header().Set("WWW-Authenticate",
				fmt.Sprintf(`Bearer realm="%s/token",service="x"`, h.URL))
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}, "/app:1", CodeUnreachable, ""},
		"html": {func(w http.ResponseWriter, r *http.Request) bool {
			fmt.Fprint(w, "<html>sign in</html>")
			return true
		}, "/app:1", CodeDamaged, "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			h.ask(c.before)
			client, store := newClient(t, Config{})
			_, err := client.Resolve(t.Context(), h.host()+c.ref, Credentials{})
			wantCode(t, err, c.code, c.part)
			clean(t, store, 0)
		})
	}
	h.Close()
	client, _ := newClient(t, Config{})
	_, err := client.Resolve(t.Context(), h.host()+"/app:1", Credentials{})
	wantCode(t, err, CodeUnreachable, "connection refused")
	_, err = client.Resolve(t.Context(), "no-such-host.invalid/app:1", Credentials{})
	wantCode(t, err, CodeUnreachable, "no-such-host.invalid")
}

// flood writes until the reader has had enough.
func flood(w io.Writer) {
	block := make([]byte, 64<<10)
	for {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// A certificate that is not trusted is told from a registry that is not there; one that the
// operator names is trusted.
func TestTLS(t *testing.T) {
	h := &testHub{t: t}
	h.Server = httptest.NewTLSServer(h.handler())
	t.Cleanup(h.Close)
	h.push("1", small(t))
	c, _ := newClient(t, Config{})
	// Loopback may be asked without TLS, so the error is of that attempt if it is taken for the
	// last word.
	_, err := c.Resolve(t.Context(), h.host()+"/app:1", Credentials{})
	wantCode(t, err, CodeTLS, "registries.ca_file")
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE",
		Bytes: h.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	trusting, _ := newClient(t, Config{CAFile: file})
	if _, err := pull(t, trusting, h.host()+"/app:1", Credentials{}); err != nil {
		t.Errorf("with its certificate: %v", err)
	}
}

// Mirrors are asked first, with their own logins, and the registry where they cannot help.
func TestMirrors(t *testing.T) {
	origin, mirror := newHub(t), newHub(t)
	origin.push("1", small(t))
	mirror.push("1", small(t))
	mirror.basicOnly("mirrored", "of-the-mirror")
	cfg := Config{
		Mirrors: map[string][]string{origin.host(): {mirror.host()}},
		DockerConfig: dockerFile(t, fmt.Sprintf(
			`{"auths":{%q:{"username":"mirrored","password":"of-the-mirror"}}}`, mirror.host())),
	}
	c, _ := newClient(t, cfg)
	given := Credentials{Username: "me", Password: "of-the-registry"}
	i, err := pull(t, c, origin.host()+"/app:1", given)
	if err != nil || i.References[0] != origin.host()+"/app:1" {
		t.Fatalf("pulled %+v, %v", i, err)
	}
	if asked := origin.requests(""); len(asked) > 0 {
		t.Errorf("the registry was asked: %v", asked)
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("mirrored:of-the-mirror"))
	for _, s := range mirror.requests("") {
		if s.authorization != "" && s.authorization != want {
			t.Errorf("the mirror was shown %q", s.authorization)
		}
	}
	mirror.Close()
	without, _ := newClient(t, cfg)
	if _, err := pull(t, without, origin.host()+"/app:1", given); err != nil {
		t.Errorf("without the mirror: %v", err)
	}
	_, err = without.Resolve(t.Context(), origin.host()+"/app:2", given)
	wantCode(t, err, CodeMissing, origin.host())
}

// first is the digest of the only image in a store.
func first(t *testing.T, s *image.Store) string {
	t.Helper()
	all, err := s.List()
	if err != nil || len(all) != 1 {
		t.Fatalf("%d images, %v", len(all), err)
	}
	return all[0].Manifest
}
