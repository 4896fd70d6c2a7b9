package oci

import (
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
)

// References mean what they mean to other container engines.
func TestParseReference(t *testing.T) {
	d := "sha256:" + strings.Repeat("a", 64)
	for text, want := range map[string]string{
		"nginx":                            "docker.io/library/nginx:latest",
		"nginx:1.29":                       "docker.io/library/nginx:1.29",
		"acme/app":                         "docker.io/acme/app:latest",
		"docker.io/nginx":                  "docker.io/library/nginx:latest",
		"index.docker.io/library/nginx":    "docker.io/library/nginx:latest",
		"localhost:5000/app":               "localhost:5000/app:latest",
		"localhost/app:1":                  "localhost/app:1",
		"10.0.0.5:5000/a/b/c:v1":           "10.0.0.5:5000/a/b/c:v1",
		"[::1]:5000/app:1":                 "[::1]:5000/app:1",
		"ghcr.io/acme/app@" + d:            "ghcr.io/acme/app@" + d,
		"ghcr.io/acme/app:1.0@" + d:        "ghcr.io/acme/app@" + d,
		"local:web":                        "local:web",
		"local:acme/web:1.0":               "local:acme/web:1.0",
		"local:" + d:                       "local:" + d,
		"registry.example.com:443/x_y/z-w": "registry.example.com:443/x_y/z-w:latest",
	} {
		r, err := ParseReference(text)
		if err != nil || r.String() != want {
			t.Errorf("%q is %q, %v; want %q", text, r, err, want)
			continue
		}
		if again, err := ParseReference(r.String()); err != nil || again != r {
			t.Errorf("%q read back is %+v, %v; want %+v", r, again, err, r)
		}
	}
	for text, part := range map[string]string{
		"":                              "it is empty",
		"https://ghcr.io/acme/app":      "leave the scheme out",
		"nginx latest":                  "it has a blank",
		"Nginx":                         "small letters",
		"nginx@sha512:" + d[7:] + d[7:]: "",
		"nginx@sha256:abc":              "",
		"user:pw@host.example/app":      "",
		"../../etc/passwd":              "",
		"a/../b":                        "",
		"host.example/app:../x":         "",
		"host.example/app:..":           "",
		"host.example/app:.x":           "",
		"..:5000/app":                   "",
		"host.example:/app":             "",
		"host.example/a//b":             "",
		"host.example/a%2fb":            "",
		"local:":                        "local name",
		"local:../x y":                  "local name",
		"local:sha256:abc":              "digest",
		strings.Repeat("a/", 300) + "a": "too long",
		"nginx\x1b[2J":                  "",
	} {
		r, err := ParseReference(text)
		if err == nil {
			t.Errorf("%q is %+v, want an error", text, r)
			continue
		}
		wantCode(t, err, CodeReference, part)
		if sandpool.ClassOf(err) != sandpool.Invalid {
			t.Errorf("%q: class %s", text, sandpool.ClassOf(err))
		}
	}
}

// Whatever parses is read back as it is, and its parts can be put into a path.
func FuzzReference(f *testing.F) {
	for _, seed := range []string{"nginx", "a.b:1/c/d:e", "x@sha256:" + strings.Repeat("0", 64),
		"local:a/b", "[::1]:5/a", "a/../b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseReference(text)
		if err != nil {
			return
		}
		again, err := ParseReference(r.String())
		if err != nil || again != r {
			t.Errorf("%q is %+v; read back %+v, %v", text, r, again, err)
		}
		if r.Local() {
			return
		}
		if strings.ContainsAny(r.Host, "/@?# \\") || strings.ContainsAny(r.Repository,
			"@?# \\%:") || strings.Contains("/"+r.Repository+"/", "/../") {
			t.Errorf("%q is %+v", text, r)
		}
	})
}

// What may be pulled is the operator's choice.
func TestAllowed(t *testing.T) {
	for _, c := range []struct {
		allow, deny []string
		ref         string
		ok          bool
	}{
		{nil, nil, "nginx", true},
		{[]string{"docker.io"}, nil, "nginx", true},
		{[]string{"docker.io/library"}, nil, "nginx", true},
		{[]string{"docker.io/lib"}, nil, "nginx", false},
		{[]string{"docker.io/library"}, nil, "acme/nginx", false},
		{[]string{"ghcr.io"}, nil, "nginx", false},
		{[]string{"*.example.com"}, nil, "r.example.com/app", true},
		{[]string{"*.example.com"}, nil, "example.com/app", false},
		{[]string{"*.example.com"}, nil, "evilexample.com/app", false},
		{[]string{"10.0.0.5:5000"}, nil, "10.0.0.5:5000/app", true},
		{[]string{"10.0.0.5"}, nil, "10.0.0.5:5000/app", false},
		{nil, []string{"docker.io"}, "nginx", false},
		{[]string{"docker.io"}, []string{"docker.io/acme"}, "acme/app", false},
		{[]string{"GHCR.io"}, nil, "ghcr.io/acme/app", true},
	} {
		client, _ := newClient(t, Config{Allow: c.allow, Deny: c.deny})
		r, err := ParseReference(c.ref)
		if err != nil {
			t.Fatal(err)
		}
		if err := client.allowed(r); (err == nil) != c.ok {
			t.Errorf("allow %v, deny %v: %q: %v", c.allow, c.deny, c.ref, err)
		}
	}
	for _, bad := range []Config{{Allow: []string{"https://ghcr.io"}}, {Deny: []string{""}},
		{PlainHTTP: []string{"a b"}}, {Mirrors: map[string][]string{"docker.io": {"/x"}}}} {
		if problems := bad.Validate(); len(problems) != 1 {
			t.Errorf("%+v: %v", bad, problems)
		}
	}
}
