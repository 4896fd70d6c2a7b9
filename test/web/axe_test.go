package web_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/sandpool/sandpool/internal/need"
)

// axeScript is the source of axe-core at the version that axe/package-lock.json pins.
func axeScript(t *testing.T) string {
	t.Helper()
	npm, err := exec.LookPath("npm")
	if err != nil {
		need.Lack(t, "the accessibility checks are installed by npm, which is not here")
	}
	lock, err := os.ReadFile("axe/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	_, version, _ := strings.Cut(string(lock), `"axe-core": "`)
	version, _, _ = strings.Cut(version, `"`)
	cache := os.Getenv("SANDPOOL_TEST_DATA")
	if cache == "" {
		cache = t.TempDir()
	}
	script := filepath.Join(cache, "axe-core-"+version+".js")
	text, err := os.ReadFile(script)
	if err == nil {
		return string(text)
	}
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := os.ReadFile(filepath.Join("axe", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	install := exec.CommandContext(t.Context(), npm, "ci", "--ignore-scripts", "--no-audit",
		"--no-fund", "--no-update-notifier")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	if text, err = os.ReadFile(filepath.Join(dir, "node_modules/axe-core/axe.min.js")); err != nil {
		t.Fatal(err)
	}
	beside := script + ".new"
	if err := os.WriteFile(beside, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(beside, script); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// axe fails the test for everything that makes the page hard to use for somebody.
func (b browser) axe(script, page string) {
	b.Helper()
	var found string
	await := func(p *runtime.EvaluateParams) *runtime.EvaluateParams {
		return p.WithAwaitPromise(true)
	}
	b.do(chromedp.Evaluate(script, nil), chromedp.Evaluate(`axe.run(document, {
		runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
		resultTypes: ['violations'] }).then(r => JSON.stringify(r.violations.map(v =>
		({ id: v.id, help: v.help, nodes: v.nodes.map(n => n.html.slice(0, 200)) }))))`, &found,
		await))
	var list []struct {
		ID, Help string
		Nodes    []string
	}
	if err := json.Unmarshal([]byte(found), &list); err != nil {
		b.Fatal(err)
	}
	for _, v := range list {
		b.Errorf("%s: %s (%s): %s", page, v.Help, v.ID, strings.Join(v.Nodes, "\n  "))
	}
}

// browser is a browser's tab in a test.
type browser struct {
	*testing.T
	ctx context.Context
	w   *world
}

func (b browser) do(actions ...chromedp.Action) {
	b.Helper()
	b.w.do(b.T, b.ctx, actions...)
}
