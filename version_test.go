package sandpool_test

import (
	"os"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
)

// The clients have the server's version.
func TestVersion(t *testing.T) {
	for path, line := range map[string]string{
		"clients/python/pyproject.toml":   `version = "` + sandpool.Version + `"`,
		"clients/typescript/package.json": `  "version": "` + sandpool.Version + `",`,
	} {
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), "\n"+line+"\n") {
			t.Errorf("%s has no line %q: %v", path, line, err)
		}
	}
}
