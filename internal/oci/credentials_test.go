package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Credentials do not show, however they are printed.
func TestCredentialsHidden(t *testing.T) {
	c := Credentials{Username: "somebody", Password: "open-sesame", identity: "refresh-me"}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "c", c, "p", &c, "in", struct{ C Credentials }{c})
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "c", c, "p", &c, "r", Request{Credentials: c})
	text, err := json.Marshal(map[string]any{"c": c, "r": struct{ C *Credentials }{&c}})
	if err != nil {
		t.Fatal(err)
	}
	out := log.String() + string(text)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		out += fmt.Sprintf(verb, c) + fmt.Sprintf(verb, &c) + fmt.Sprintf(verb,
			Request{Credentials: c}) + fmt.Sprintf(verb, []Credentials{c})
	}
	for _, secret := range []string{"somebody", "open-sesame", "refresh-me", fmt.Sprintf("%x",
		"open-sesame")} {
		if strings.Contains(out, secret) {
			t.Errorf("%q shows in:\n%s", secret, out)
		}
	}
}

// helper puts a credential helper called NAME first in PATH.
func helper(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name),
		[]byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// dockerFile writes a docker configuration file.
func dockerFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Docker's configuration is read as docker reads it.
func TestDockerConfig(t *testing.T) {
	helper(t, "test", `read host; test "$1" = get || exit 2
case $host in
helped.example) echo '{"ServerURL":"x","Username":"helped","Secret":"by-helper"}';;
token.example) echo '{"Username":"<token>","Secret":"refresh"}';;
broken.example) echo secret-in-an-error >&2; echo secret-in-its-output; exit 1;;
*) echo credentials not found in native keychain; exit 1;;
esac
`)
	client, _ := newClient(t, Config{DockerConfig: dockerFile(t, `{
		"auths": {
			"plain.example": {"auth": "cGxhaW46ZnJvbS1maWxl"},
			"https://index.docker.io/v1/": {"username": "hub", "password": "of-hub"},
			"parts.example": {"username": "all", "password": "p"},
			"parts.example/acme": {"username": "acme", "password": "p"},
			"identity.example": {"auth": "bWU6", "identitytoken": "refresh-file"},
			"empty.example": {}
		},
		"credHelpers": {"helped.example": "test", "token.example": "test", "broken.example": "test", "bad.example": "../test"},
		"credsStore": "test"}`)})
	for where, want := range map[string]Credentials{
		"plain.example/app":      {Username: "plain", Password: "from-file"},
		"docker.io/library/app":  {Username: "hub", Password: "of-hub"},
		"parts.example/app":      {Username: "all", Password: "p"},
		"parts.example/acme/app": {Username: "acme", Password: "p"},
		"parts.example/acmeX":    {Username: "all", Password: "p"},
		"identity.example/app":   {Username: "me", identity: "refresh-file"},
		"helped.example/app":     {Username: "helped", Password: "by-helper"},
		"token.example/app":      {identity: "refresh"},
		"empty.example/app":      {},
		"unknown.example/app":    {},
	} {
		host, repository, _ := strings.Cut(where, "/")
		got, err := client.credentialsFor(t.Context(), host, repository)
		if err != nil || got != want {
			t.Errorf("%s: user %q, password %q, identity %q, %v; want %q", where, got.Username,
				got.Password, got.identity, err, want.Username)
		}
	}
	for host, part := range map[string]string{"broken.example": "docker-credential-test for broken.example", "bad.example": "not a name"} {
		_, err := client.credentialsFor(t.Context(), host, "app")
		if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(),
			"secret") {
			t.Errorf("%s: %v, want an error with %q", host, err, part)
		}
	}
}

// A helper that hangs or floods ends with the caller's patience, not with the server's.
func TestDockerHelperBad(t *testing.T) {
	helper(t, "flood", "while echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; do :; done 2>/dev/null\n")
	if _, err := askHelper(t.Context(), "flood", "x"); err == nil {
		t.Error("a flood is taken for an answer")
	}
	helper(t, "hang", "exec sleep 1000\n")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := askHelper(ctx, "hang", "x"); err == nil {
		t.Error("a helper that hangs is waited for")
	}
}

func TestDockerConfigBroken(t *testing.T) {
	for text, part := range map[string]string{`{"auths": "secret"`: "not a docker configuration",
		`[]`: "not a docker configuration"} {
		file := dockerFile(t, text)
		_, err := New(nil, Config{DockerConfig: file})
		if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(),
			"secret") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
