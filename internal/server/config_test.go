package server

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/server/settings"
)

func TestLoadConfigLayers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte("listen: 127.0.0.1:1\nlimits:\n  min_cooldown: 2s\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := LoadConfig(path, []string{"SANDPOOL_LISTEN=127.0.0.1:2", "SANDPOOL_SANDBOX_CPU=0.5",
		"SANDPOOL_ENDPOINT_SUFFIX={region}.pools.example.com",
		"SANDPOOL_REGISTRIES_ALLOW=[docker.io, 10.0.0.5:5000]",
		"SANDPOOL_REGISTRIES_MIRRORS={docker.io: [mirror.example.com/hub]}", "SANDPOOL_TOKEN=x",
		"HOME=/"})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Listen != "127.0.0.1:2" || cfg.Limits.MinCooldown != 2*time.Second ||
		cfg.Sandbox.CPU != 0.5 || cfg.EndpointSuffix != "{region}.pools.example.com" {
		t.Errorf("got %+v", cfg)
	}
	if r := cfg.OCI(); len(r.Allow) != 2 || r.Mirrors["docker.io"][0] != "mirror.example.com/hub" ||
		r.Limits.Layer.Entries != 500_000 {
		t.Errorf("registries: %+v", r)
	}
	if cfg.Limits.MaxCooldown != time.Hour {
		t.Errorf("max_cooldown = %v, want the default", cfg.Limits.MaxCooldown)
	}
}

func TestLoadConfigReportsEverythingAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte("lissten: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := LoadConfig(path, []string{"SANDPOOL_LISTN=1", "SANDPOOL_STARTS=many",
		"SANDPOOL_FULL_STATUS=500", "SANDPOOL_DATA_DIR=rel", "SANDPOOL_LOCATIONS=[west us, up/down]",
		"SANDPOOL_TLS_CERT=x"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"lissten", "SANDPOOL_LISTN", "SANDPOOL_STARTS", "full_status",
		"data_dir", `locations[1] is`, "tls is"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %s:\n%v", want, err)
		}
	}
}

// What is wrong is told in the words of the file, with what was found and what to write.
func TestLoadConfigSpeaksPlainly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	for content, want := range map[string]string{
		"limits:\n  min_cooldown: 10\n":         `line 2: "10" does not fit; use a duration such as 10s`,
		"starts: many\n":                        `line 1: "many" does not fit; use a whole number`,
		"listen: [1]\n":                         `line 1: what is there does not fit; use text`,
		"cors:\n  origins: https://a.example\n": `line 2: "https:/..." does not fit; use a list such as [a, b]`,
		"limits: 7\n":                           `line 1: "7" does not fit; use settings with their names`,
		"data_dirr: /x\n":                       `line 1: data_dirr is not a setting here; did you mean data_dir?`,
		"min_cooldown: 10s\n":                   `line 1: min_cooldown is not a setting here; did you mean limits.min_cooldown?`,
		"colour: red\nstartz: 1\n":              `line 1: colour is not a setting here; line 2: startz is not a setting here; did you mean starts?`,
		"registries: {allow: [\"a b\"]}\n":      `registries.allow has "a b"; use a host`,
		"limits: {image: {entries: 1}}\n":       `limits.image.entries is 1; use at least 1000`,
		"starts: 0\n":                           `starts is 0; use at least 1`,
		"full_status: 500\n":                    `full_status is 500; use 404 or 429`,
		"cors: {origins: [app.example]}\n":      `cors.origins is "app.example"; use a scheme and a host`,
		"cors: {origins: [\"http://a/b\"]}\n":   `cors.origins is "http://a/b"; use a scheme and a host`,
		"on_exit: kepe\n":                       `on_exit is "kepe"; use keep or stop`,
		"sandbox: {cpu: 3}\n":                   `limits.sandbox.cpu is 2; use at least sandbox.cpu, 3`,
		"limits: {max_cooldown: 5s}\n":          `limits.max_cooldown is 5s; use at least limits.min_cooldown, 5m0s`,
		"listen: 127.0.0.1:1\n listen: [\n":     "line 2: ",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadConfig(path, nil)
		if err == nil || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "server.") || strings.Contains(err.Error(), "yaml:") {
			t.Errorf("%q: %v\nwant %s", content, err, want)
		}
	}
	for kv, want := range map[string]string{
		"SANDPOOL_LISTN=x": "SANDPOOL_LISTN is not a setting; did you mean " +
			"SANDPOOL_LISTEN?",
		"SANDPOOL_LIMITS_MIN_COOLDOWN=300": `SANDPOOL_LIMITS_MIN_COOLDOWN: "300" does not fit; use a duration such as 10s`,
	} {
		if _, err := LoadConfig("", []string{kv}); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", kv, err, want)
		}
	}
}

func TestDefaultConfigIsValid(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
}

// TestSettingsPage: docs/operations.md has a row for every setting, with its variable. A row of
// several names the first whole, and of the others the end: "limits.sandbox.cpu", ".memory_mb".
func TestSettingsPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(
		"(?m)^\\| (`[a-z0-9_.]+`(?:, `[a-z0-9_.]+`)*) \\| (`SANDPOOL_.*?) \\|").
		FindAllStringSubmatch(string(page), -1)
	described := map[string]bool{}
	for _, row := range rows {
		names := strings.Split(strings.ReplaceAll(row[1], "`", ""), ", ")
		group := names[0][:strings.LastIndex(names[0], ".")+1]
		for _, name := range names {
			if end, short := strings.CutPrefix(name, "."); short {
				name = group + end
			}
			described[name] = true
		}
		variable := "`SANDPOOL_" + strings.ToUpper(strings.ReplaceAll(names[0], ".", "_")) + "`"
		if !strings.Contains(row[2], variable) {
			t.Errorf("the row of %s lacks %s", names[0], variable)
		}
	}
	cfg := DefaultConfig()
	for name := range settings.Of(&cfg) {
		if !described[name] {
			t.Errorf("docs/operations.md has no row for %s", name)
		}
		delete(described, name)
	}
	for name := range described {
		t.Errorf("docs/operations.md describes %s, which is no setting", name)
	}
}
