package languages_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// A group of the suite is one program in parts. How says in which way a plain process runs it, and
// what of it is compared; what is printed always is.
type group struct {
	name, how string
	parts     []string
}

var heading = regexp.MustCompile(`^=== (.*?)(?: \[(\w+)\])?\n`)

// groups reads the files of a folder of the suite: parts of one program, with a line "---" between
// parts and a line "===" and what the group is about before each group. testdata/README.md tells
// what may stand in brackets behind that.
func groups(t *testing.T, folder string) []group {
	t.Helper()
	files, err := filepath.Glob(folder + "/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	var found []group
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for body := range strings.SplitSeq("\n"+string(text), "\n=== ") {
			m := heading.FindStringSubmatch("=== " + body)
			if body == "" || m == nil {
				continue
			}
			rest := strings.TrimSuffix(strings.TrimPrefix("=== "+body, m[0]), "\n")
			found = append(found, group{filepath.Base(file) + ": " + m[1], m[2],
				strings.Split(rest, "\n---\n")})
		}
	}
	return found
}

// TestSuite: what a session says, part by part, is what a plain process in the same image says
// that is given the whole.
func TestSuite(t *testing.T) {
	for language, l := range map[string]struct {
		native func(*testing.T, *agent.Client, group) (string, int)
		least  int // parts
	}{
		"shell": {nativeShell, 150}, "node": {nativeNode, 300}, "python": {nativePython, 300},
	} {
		t.Run(language, func(t *testing.T) {
			m := newMachine(t, language)
			parts := 0
			for _, g := range groups(t, "testdata/"+language) {
				parts += len(g.parts)
				if only := os.Getenv("SANDPOOL_TEST_GROUP"); !strings.Contains(g.name, only) {
					continue
				}
				if g.how == "errors" {
					compareErrors(t, m, g)
					continue
				}
				want, status := l.native(t, m.restore(t), g)
				got, ended := inSession(t, m.restore(t), g)
				if got != want || ended != status {
					t.Errorf("%s: a session says %s and ends with %d; a process says %s, %d",
						g.name, from(got, want), ended, from(want, got), status)
				}
				if want == "" {
					t.Errorf("%s says nothing", g.name)
				}
			}
			t.Logf("%d parts", parts)
			if parts < l.least {
				t.Errorf("the suite has %d parts, fewer than %d", parts, l.least)
			}
		})
	}
}

// compareErrors compares what a session and a process tell of each part's error.
func compareErrors(t *testing.T, m *machine, g group) {
	t.Helper()
	want := nodeErrors(t, m.restore(t), g.parts)
	c := m.restore(t)
	for i, part := range g.parts {
		res := run(t, c, time.Minute, part)
		if res.Error == nil {
			t.Errorf("%s: %q has no error", g.name, part)
			continue
		}
		got, want := caret.ReplaceAllString(res.Error.Traceback, "")+"\n", want[i]
		if within.MatchString(want) {
			want = within.ReplaceAllString(want, "")
			_, got, _ = strings.Cut(got, "\n\n")
		}
		if got != want {
			t.Errorf("%s: %s: a session says %s; a process says %s", g.name, part, from(got, want),
				from(want, got))
		}
	}
}

// from quotes a text from shortly before the place where it parts from another.
func from(text, other string) string {
	at := 0
	for at < min(len(text), len(other)) && text[at] == other[at] {
		at++
	}
	from := max(0, at-150)
	return "…" + quote(text[from:min(len(text), at+350)])
}

func quote(s string) string { return "\n\t| " + strings.ReplaceAll(s, "\n", "\n\t| ") + "\n" }

// inSession runs parts one after another and returns what they say, and how the last one ends.
func inSession(t *testing.T, c *agent.Client, g group) (string, int) {
	t.Helper()
	var out strings.Builder
	status := 0
	for _, part := range g.parts {
		res := run(t, c, 2*time.Minute, part)
		out.WriteString(res.Stdout)
		if g.how == "values" && res.Text != "" {
			out.WriteString("=> " + res.Text + "\n")
		}
		status = 0
		switch {
		case res.ExitStatus != nil:
			status = *res.ExitStatus
		case res.Error != nil:
			out.WriteString("Uncaught " + res.Error.Name + ": " + res.Error.Message + "\n")
			status = 1
		}
	}
	return out.String(), status
}
