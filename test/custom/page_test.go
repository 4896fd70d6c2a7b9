package custom_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
)

// page are the blocks of code of the way that docs/custom-containers.md describes, by what they
// begin with.
func page(t *testing.T) (dockerfile, program, commands string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/custom-containers.md")
	if err != nil {
		t.Fatal(err)
	}
	_, way, _ := strings.Cut(string(text), "## From a Dockerfile to a warm pool\n")
	way, _, found := strings.Cut(way, "\n## ")
	if !found {
		t.Fatal("the page has no such section")
	}
	var block []string
	for _, line := range strings.Split(way, "\n") {
		if code, ok := strings.CutPrefix(line, "    "); ok {
			block = append(block, code)
			continue
		}
		whole := strings.Join(block, "\n") + "\n"
		block = nil
		switch {
		case strings.HasPrefix(whole, "# Dockerfile\n"):
			dockerfile = whole
		case strings.HasPrefix(whole, "# app.py\n"):
			program = whole
		case strings.HasPrefix(whole, "sandpool "):
			commands = whole
		}
	}
	if dockerfile == "" || program == "" || commands == "" {
		t.Fatalf("the page has the Dockerfile %q, the program %q and the commands %q", dockerfile,
			program, commands)
	}
	return dockerfile, program, commands
}

// built is the image of a Dockerfile whose Python packages are those of Debian.
func built(t *testing.T, dockerfile, program string) ocitest.Image {
	t.Helper()
	var cfg v1.Config
	var packages []string
	place := ""
	for _, line := range strings.Split(dockerfile, "\n") {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "RUN":
			for _, p := range strings.Fields(strings.TrimPrefix(rest, "pip install ")) {
				debian := map[string]string{"fastapi": "python3-fastapi", "uvicorn": "uvicorn"}[p]
				if debian == "" {
					t.Fatalf("%s: no package of Debian is known for it", line)
				}
				packages = append(packages, debian)
			}
		case "COPY":
			_, place, _ = strings.Cut(rest, " ")
		case "WORKDIR":
			cfg.WorkingDir = rest
		case "CMD":
			if err := json.Unmarshal([]byte(rest), &cfg.Cmd); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
	}
	return debianImage(t, cfg, packages, ocitest.File(strings.Trim(place, "/")+"/app.py", 0o644,
		program))
}

// TestPage goes the page's way from a Dockerfile to an answer, with its commands as they stand.
func TestPage(t *testing.T) {
	dockerfile, program, commands := page(t)
	k, hub := newKit(t), ocitest.NewHub(t)
	hub.Push("web:1.0", built(t, dockerfile, program))
	config := filepath.Join(t.TempDir(), "client.yaml")
	if err := client.SaveConfig(config, client.Config{Endpoint: k.Endpoint(),
		Token: k.token}); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Dir(k.program(t))
	run := func(script string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c",
			strings.ReplaceAll(script, "registry.example", hub.Host()))
		cmd.Env = append(os.Environ(), "SANDPOOL_CONFIG="+config,
			"PATH="+bin+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		return string(out)
	}
	if got := run(commands); !strings.Contains(got, `{"hello":"you","times":1}`) {
		t.Errorf("the commands of the page say %s", got)
	}
	// The next request finds what the first has left, another identifier does not.
	pool := regexp.MustCompile(`(?m)^POOL=.*$`).FindString(commands) + "\n"
	for _, step := range [][2]string{
		{pool + k.curl("hello?identifier=alice-1&name=alice"), `{"hello":"alice","times":2}`},
		{pool + k.curl("hello?identifier=bobby-1&name=bobby"), `{"hello":"bobby","times":1}`},
		{"sandpool pool status web", "Succeeded: "},
		{"sandpool session list --pool web", "alice-1"},
		{"sandpool session logs --pool web --session alice-1", "GET /hello"},
		{"sandpool session delete --pool web --session alice-1", ""},
		{pool + k.curl("hello?identifier=alice-1&name=alice"), `{"hello":"alice","times":1}`},
		{"sandpool pool delete web --yes", ""},
	} {
		if got := run(step[0]); !strings.Contains(got, step[1]) {
			t.Errorf("%s says %s, want %s", step[0], got, step[1])
		}
	}
}

// curl is a command that asks the pool of the variable POOL for a path.
func (k *kit) curl(path string) string {
	return `curl -sf -H "Authorization: Bearer ` + k.token + `" "$POOL/` + path + `"`
}
