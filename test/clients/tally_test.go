package clients_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write the rows of what clients do into the page")

// page has a row for each client and operation, between these marks.
const (
	page      = "../../docs/compatibility.md"
	rowsBegin = "<!-- rows: go test ./test/clients -update -->\n"
	rowsEnd   = "<!-- end of rows -->\n"
	rowsHead  = "| client | operation | state |\n|---|---|---|\n"
)

// pageLock guards the page, which clients that run at the same time write with -update.
var pageLock sync.Mutex

// tally is what one client did, in its order.
type tally struct {
	client string // with its version
	rows   []string
}

// did notes an operation and what came of it.
func (y *tally) did(operation, state string) {
	row := fmt.Sprintf("| %s | %s | %s |\n", y.client, strings.ReplaceAll(operation, "|", "/"), state)
	if !slices.Contains(y.rows, row) {
		y.rows = append(y.rows, row)
	}
}

// outcome is a line of a script about an operation: "ok   WHAT", and behind a colon the error by
// which it was refused, as it had to be.
var outcome = regexp.MustCompile(`(?m)^ok   ([^:\n]+)(?:: (\w+))?`)

// partOfBefore is how an outcome begins that is a part of what was before it.
var partOfBefore = regexp.MustCompile(`^(and|has|is|it|its) `)

// ownClient is our client for a language, of the version of the tests.
func ownClient(language string) string { return "sandpool for " + language + " (own)" }

// read notes what a script says that it did.
func (y *tally) read(output []byte) {
	for _, m := range outcome.FindAllSubmatch(output, -1) {
		if partOfBefore.Match(m[1]) {
			continue
		}
		state := "works"
		if len(m[2]) > 0 {
			state = "refused, by " + string(m[2])
		}
		y.did(strings.TrimSpace(string(m[1])), state)
	}
}

// hold compares what the client did with the page, or writes it there.
func (y *tally) hold(t *testing.T) {
	t.Helper()
	if t.Failed() {
		return
	}
	if len(y.rows) == 0 {
		t.Errorf("%s did nothing that it said", y.client)
	}
	pageLock.Lock()
	defer pageLock.Unlock()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(text, []byte(rowsBegin))
	rows, after, whole := strings.Cut(string(rest), rowsEnd)
	if !ok || !whole {
		t.Fatalf("%s has no place for rows", page)
	}
	var ours, others []string
	for line := range strings.Lines(strings.TrimPrefix(rows, rowsHead)) {
		if strings.HasPrefix(line, "| "+y.name()) {
			ours = append(ours, line)
		} else {
			others = append(others, line)
		}
	}
	if slices.Equal(ours, y.rows) {
		return
	}
	if !*update {
		t.Errorf("%s does not say what %s did; write it with -update. It did:\n%s", page, y.client,
			strings.Join(y.rows, ""))
		return
	}
	all := append(others, y.rows...)
	slices.SortStableFunc(all, func(a, b string) int {
		return strings.Compare(clientOf(a), clientOf(b))
	})
	text = slices.Concat(before, []byte(rowsBegin), []byte(rowsHead), []byte(strings.Join(all, "")),
		[]byte(rowsEnd), []byte(after))
	if err := os.WriteFile(page, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// name is the client without its version.
func (y *tally) name() string { return y.client[:strings.LastIndexByte(y.client, ' ')+1] }

// clientOf is the client of a row.
func clientOf(row string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " | ")
	return name
}

// newTally returns that of a client whose version is the one that a file pins its package at.
func newTally(t *testing.T, client, module, lock string) *tally {
	t.Helper()
	text, err := os.ReadFile(lock)
	if err != nil {
		t.Fatal(err)
	}
	pin := regexp.MustCompile(`(?m)^\s*"?` + regexp.QuoteMeta(module) +
		`(?:==|": "(?:npm:[^"]*@)?| v)([0-9][\w.]*)`).FindSubmatch(text)
	if pin == nil {
		t.Fatalf("%s does not pin %s", lock, module)
	}
	return &tally{client: client + " " + string(pin[1])}
}

// scripted are the clients of the scripts in the folder python, and the packages that they are.
func scripted() map[string][2]string {
	return map[string][2]string{
		"autogen":         {"AutoGen", "autogen-ext"},
		"azure_sdk":       {"Azure SDK for Python", "azure-mgmt-appcontainers"},
		"langchain":       {"LangChain", "langchain-azure-dynamic-sessions"},
		"langchain_bash":  {"LangChain, Bash", "langchain-azure-dynamic-sessions"},
		"llama_index":     {"LlamaIndex", "llama-index-tools-azure-code-interpreter"},
		"semantic_kernel": {"Semantic Kernel", "semantic-kernel"},
	}
}

// TestRows: the page has rows of every client of which there should be some, and of no other.
func TestRows(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), rowsBegin)
	rows, _, _ := strings.Cut(rest, rowsEnd)
	want := map[string]bool{}
	add := func(client, module, lock string) {
		want[newTally(t, client, module, lock).client] = true
	}
	for _, c := range scripted() {
		add(c[0], c[1], "python/requirements.lock")
	}
	for _, c := range credentialed() {
		add(c.client, c.module, c.lock)
	}
	add("az", "azure-cli", "az/requirements.lock")
	add(goSDKClient, goSDKModule, "../../go.mod")
	for _, c := range contextual() {
		add(c[0], c[1], c[2])
	}
	for _, language := range []string{"Go", "Python", "TypeScript"} {
		want[ownClient(language)] = true
	}
	for line := range strings.Lines(strings.TrimPrefix(rows, rowsHead)) {
		client := clientOf(line)
		if known, ok := want[client]; !ok {
			t.Errorf("the row %q is of a client that is not tested", line)
		} else if known {
			want[client] = false
		}
	}
	for client, missing := range want {
		if missing {
			t.Errorf("%s has no rows", client)
		}
	}
}
