package gateway

import (
	"bufio"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

var update = flag.Bool("update", false, "write the answers into testdata/contract")

// TestContract holds the answers to what each known client sends, one file a call.
// The first line of a file is what the client relies on; "request" is what
// it sends below the pool's endpoint; "result" is what the code in it does;
// "kind" is what the pool runs, if not Python; "files/…" are there before; "response" is our
// answer.
func TestContract(t *testing.T) {
	paths, err := filepath.Glob("testdata/contract/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no contract files: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld(t, Options{PublicURL: "https://pools.example.com"})
			var request, want string
			for _, f := range ar.Files {
				switch name, isFile := strings.CutPrefix(f.Name, "files/"); {
				case isFile:
					w.files[name] = f.Data
				case f.Name == "kind":
					w.kind = sandpool.ContainerType(strings.TrimSpace(string(f.Data)))
				case f.Name == "request":
					request = string(f.Data)
				case f.Name == "response":
					want = string(f.Data)
				case f.Name == "result":
					var res agent.ExecuteResult
					if err := json.Unmarshal(f.Data, &res); err != nil {
						t.Fatal(err)
					}
					w.returns(res)
				case f.Name == "session":
					identifier := strings.TrimSpace(string(f.Data))
					w.do("POST", "executions?identifier="+identifier, `{"code":""}`)
				default:
					t.Fatalf("unknown section %q", f.Name)
				}
			}
			got := w.exchange(request)
			if *update {
				writeResponse(t, path, ar, got)
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

func writeResponse(t *testing.T, path string, ar *txtar.Archive, got string) {
	t.Helper()
	for i, f := range ar.Files {
		if f.Name == "response" {
			ar.Files = append(ar.Files[:i], ar.Files[i+1:]...)
			break
		}
	}
	ar.Files = append(ar.Files, txtar.File{Name: "response", Data: []byte(got)})
	if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
		t.Fatal(err)
	}
}

// exchange sends a request written as text and returns the answer as text, with
// what is different each time replaced by a word.
func (w *world) exchange(text string) string {
	w.t.Helper()
	head, body, _ := strings.Cut(text, "\n\n")
	line, _, _ := strings.Cut(head, "\n")
	method, path, _ := strings.Cut(line, " ")
	if strings.Contains(head, "multipart/") {
		body = strings.ReplaceAll(body, "\n", "\r\n")
	} else {
		body = strings.TrimSuffix(body, "\n")
	}
	head = strings.Replace(head, line, method+" "+endpoint+"/"+path+" HTTP/1.1\nHost: x", 1)
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.ReplaceAll(head, "\n",
		"\r\n") + "\r\n\r\n")))
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := http.NewRequestWithContext(w.t.Context(), method, w.url+req.URL.RequestURI(),
		strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	out.Header = req.Header
	resp, err := http.DefaultClient.Do(out)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(resp.Status + "\n")
	for _, name := range []string{"Content-Type", "X-Ms-Error-Code"} {
		if v := resp.Header.Get(name); v != "" {
			b.WriteString(name + ": " + v + "\n")
		}
	}
	if v := resp.Header.Get("Operation-Id"); v != "" && v == req.Header.Get("Operation-Id") {
		b.WriteString("Operation-Id: " + v + "\n")
	}
	b.WriteString("\n" + varying.ReplaceAllString(string(data), `"$1":"(varies)"`) + "\n")
	return b.String()
}

// varying are the ids that the server makes up, which are long and random.
var varying = regexp.MustCompile(`"(traceId|id)":"[0-9a-z]{26,32}"`)

// TestStringsForSemanticKernel checks that the .NET client, and no other, gets strings.
func TestStringsForSemanticKernel(t *testing.T) {
	const dotnet, python = "Semantic-Kernel/1.30.0.0 (Language=dotnet)",
		"Semantic-Kernel/1.30.0 (Language=Python)"
	for _, tt := range []struct{ text, agent, want string }{
		{"2", dotnet, `"2"`}, {"None", dotnet, `"None"`}, {"'a'", dotnet, `"'a'"`}, {"[1, 2]",
			dotnet, `"[1, 2]"`},
		{"2", python, `2`}, {"None", python, `"None"`}, {"[1, 2]", python, `[1,2]`},
	} {
		w := newWorld(t, Options{})
		w.returns(agent.ExecuteResult{Outcome: agent.OK, HasValue: true, Text: tt.text})
		got := w.do("POST", "executions?identifier=abcd", `{"code":"x"}`, "User-Agent", tt.agent)
		if !strings.Contains(got.body, `"executionResult":`+tt.want+`,`) {
			t.Errorf("%s for %s: %s lacks %s", tt.text, tt.agent, got.body, tt.want)
		}
	}
}
