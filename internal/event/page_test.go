package event

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestPage: docs/events.md lists every name with its level and its words, and no other.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range kinds {
		row := fmt.Sprintf("| `%s` | %s | %s |\n", name, name.Level(), name.Text())
		section, _, _ := strings.Cut(string(page), row)
		last := section[strings.LastIndex(section, "## "):]
		if len(section) == len(page) || !strings.Contains(last, string(name.Stream())) {
			t.Errorf("docs/events.md lacks this row in the section of %s: %s", name.Stream(), row)
		}
	}
	if n := strings.Count(string(page), "\n| `"); n != len(kinds) {
		t.Errorf("docs/events.md lists %d names, of %d", n, len(kinds))
	}
}
