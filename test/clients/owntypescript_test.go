package clients_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const typeScriptSource = "../../clients/typescript"

// project is a folder with our client for TypeScript as npm installs it.
type project struct {
	dir string
	m   modules
	env []string
}

// run runs a program in the folder, and returns what it has printed.
func (p project) run(t *testing.T, dir, program string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), scriptTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = dir, p.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", filepath.Base(program), args, err, out)
	}
	return out
}

// newProject builds the client as a registry would take it, and installs that.
func (s *server) newProject(t *testing.T, m modules) project {
	t.Helper()
	// Within the modules, so that Node finds those of the frameworks from there.
	dir, err := os.MkdirTemp(m.dir, "project-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := project{dir, m, []string{
		"PATH=" + filepath.Dir(m.node()) + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
		"LANG=C.UTF-8", "NODE_NO_WARNINGS=1", "NODE_EXTRA_CA_CERTS=" + s.authority,
		"SANDPOOL_ENDPOINT=" + s.endpoints[ample], "SANDPOOL_FULL_ENDPOINT=" + s.endpoints[full],
		"SANDPOOL_SHELL_ENDPOINT=" + s.endpoints[shell],
		"SANDPOOL_TOKEN=" + s.token(t, "session-executor"),
	}}
	// Without it npm would install into the folder above.
	p.write(t, "package.json", `{"type": "module", "private": true}`)
	// A build writes beside the source, and the checkout stays as it is.
	source := t.TempDir()
	if err := os.CopyFS(source, os.DirFS(typeScriptSource)); err != nil {
		t.Fatal(err)
	}
	from := filepath.Join(m.dir, "node_modules")
	if err := os.Symlink(from, filepath.Join(source, "node_modules")); err != nil {
		t.Fatal(err)
	}
	p.run(t, source, m.npm, "pack", "--silent", "--offline", "--pack-destination", p.dir)
	packed, err := filepath.Glob(filepath.Join(p.dir, "sandpool-*.tgz"))
	if err != nil || len(packed) != 1 {
		t.Fatalf("npm pack made %v, %v", packed, err)
	}
	p.run(t, p.dir, m.npm, "install", "--silent", "--offline", "--no-save", "--no-audit",
		"--no-fund", packed[0])
	return p
}

func (p project) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// check has the compiler check files as strictly as it can, for a runtime with the given library
// and types.
func (p project) check(t *testing.T, lib string, types []string, files ...string) {
	t.Helper()
	config, err := json.Marshal(map[string]any{"files": files, "compilerOptions": map[string]any{
		"strict": true, "noEmit": true, "target": "ES2022", "module": "NodeNext",
		"lib": strings.Split(lib, ","), "types": types, "exactOptionalPropertyTypes": true,
		"typeRoots":                []string{filepath.Join(p.m.dir, "node_modules/@types")},
		"noUncheckedIndexedAccess": true, "verbatimModuleSyntax": true,
		"erasableSyntaxOnly": true,
	}})
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "tsconfig.json", string(config))
	p.run(t, p.dir, filepath.Join(p.m.dir, "node_modules/.bin/tsc"), "-p", ".")
}

// ownTypeScript builds our client for TypeScript, checks its types and those of what uses it, and
// has its test and the examples of its pages drive the server.
func (s *server) ownTypeScript(t *testing.T, p project) {
	var installed []string
	root := filepath.Join(p.dir, "node_modules/sandpool")
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			installed = append(installed, strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
	for _, want := range []string{"README.md", "package.json", "dist/index.js", "dist/index.d.ts"} {
		if !slices.Contains(installed, want) {
			t.Errorf("the package has %q, %v; want %s", installed, err, want)
		}
	}
	if len(installed) != 16 {
		t.Errorf("the package has %d files, want 16: %q", len(installed), installed)
	}
	text, err := os.ReadFile("own/check.ts")
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "check.ts", string(text))
	files := []string{"check.ts"}
	for _, page := range []string{typeScriptSource + "/README.md", "../../docs/typescript.md"} {
		for i, example := range examplesOf(t, page) {
			name := fmt.Sprintf("%s-%d.ts", strings.TrimSuffix(filepath.Base(page), ".md"), i)
			p.write(t, name, example)
			files = append(files, name)
		}
	}
	if len(files) != 6 {
		t.Errorf("the files are %q, want 5 examples", files)
	}
	p.check(t, "ES2022", []string{"node"}, files...)
	p.write(t, "page.ts", `import { Pool } from "sandpool";
new Pool("", "").session().write("a", document.title);`)
	p.check(t, "ES2022,DOM", []string{}, "page.ts")
	for _, name := range files {
		out := p.run(t, p.dir, p.m.node(), name)
		t.Logf("%s\n%s", name, out)
		if name == "check.ts" {
			y := tally{client: ownClient("TypeScript")}
			y.read(out)
			y.hold(t)
		}
	}
}

// examplesOf are the examples of a page, as programs.
func examplesOf(t *testing.T, page string) (programs []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile(`(?m)(^    .*\n|^\n)+`).FindAllString(string(text), -1) {
		if strings.Contains(block, `from "sandpool"`) {
			programs = append(programs, `const ENDPOINT = process.env["SANDPOOL_ENDPOINT"] ?? "";
const TOKEN = process.env["SANDPOOL_TOKEN"] ?? ""; void TOKEN;
`+block)
		}
	}
	return programs
}
