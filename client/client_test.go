package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

const dataRoot = "/subscriptions/" + sandpool.DefaultSubscription +
	"/resourceGroups/default/sessionPools/python"

// serve returns a client of a server that answers with h.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c, err := New(Config{Endpoint: srv.URL + "/", Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return c
}

func TestNewRefuses(t *testing.T) {
	for _, cfg := range []Config{
		{Endpoint: ""},
		{Endpoint: "127.0.0.1:8090"},
		{Endpoint: "ftp://host"},
		{Endpoint: "http://user:pass@host"},
		{Endpoint: "http://host?x=1"},
		{Endpoint: "http://host", Token: "a\r\nX: y"},
	} {
		if _, err := New(cfg); sandpool.ClassOf(err) != sandpool.Invalid {
			t.Errorf("New(%+v) = %v, want class Invalid", cfg, err)
		}
	}
}

func TestExecuteSendsTheNewEnvelope(t *testing.T) {
	var got *http.Request
	var body map[string]any
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		w.Header().Set("Server-Timing", `claim;dur=0.25, run;desc="x";dur=1.5, broken;dur=z`)
		fmt.Fprint(w,
			`{"id":"1","identifier":"a&b/c","executionType":"Synchronous","status":"Succeeded","result":{"stdout":"hi\n","executionResult":42}}`)
	})
	e, err := c.Execute(t.Context(), "python", "a&b/c",
		Run{Code: "6*7", Timeout: 1500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if got.URL.Path != dataRoot+"/executions" || got.URL.Query().Get("identifier") != "a&b/c" ||
		got.URL.Query().Get("api-version") == "" {
		t.Errorf("the request went to %s", got.URL)
	}
	if got.Header.Get("Authorization") != "Bearer secret" {
		t.Errorf("Authorization = %q", got.Header.Get("Authorization"))
	}
	want := map[string]any{"code": "6*7", "codeInputType": "Inline", "executionType": "Synchronous",
		"timeoutInSeconds": 2.0}
	if diff := cmp.Diff(want, body); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	if string(e.Result.ExecutionResult) != "42" || e.Result.Stdout != "hi\n" || e.Failed() {
		t.Errorf("execution = %+v", e)
	}
	wantTiming := map[string]time.Duration{"claim": 250 * time.Microsecond,
		"run": 1500 * time.Microsecond}
	if diff := cmp.Diff(wantTiming, e.Timing); diff != "" {
		t.Errorf("timing (-want +got):\n%s", diff)
	}
}

func TestErrorKeepsWhatTheServerSaid(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error":{"code":"SessionPoolMaxSessionsReached","message":"full","target":"pool","traceId":"t1",
			"details":[{"code":"X","message":"more","target":"f"}]}}`)
	})
	_, err := c.Session(t.Context(), "python", "abcd")
	var e *sandpool.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %T: %v", err, err)
	}
	if e.Class != sandpool.Full || e.Code != "SessionPoolMaxSessionsReached" ||
		e.Message != "full" || e.Target != "pool" ||
		e.TraceID != "" || e.RetryAfter != 5*time.Second || len(e.Details) != 1 ||
		e.Details[0].Message != "more" {
		t.Errorf("error = %+v", e)
	}
}

func TestTraceIDFindsWhatIsLogged(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, `{"error":{"code":"InternalServerError","message":"oops","traceId":"t1"}}`)
	})
	_, err := c.Session(t.Context(), "python", "abcd")
	var e *sandpool.Error
	if !errors.As(err, &e) || e.TraceID != "t1" {
		t.Errorf("error = %+v", e)
	}
}

func TestDownloadBeyondTheEnd(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "f", time.Time{}, strings.NewReader("01234"))
	})
	_, err := c.Download(t.Context(), "python", "abcd", "f", Range{Offset: 10})
	if sandpool.ClassOf(err) != sandpool.Invalid ||
		!strings.Contains(err.Error(), "beyond the end of the file, which has 5 bytes") {
		t.Errorf("error = %v", err)
	}
}

func TestErrorOfSomethingElse(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "<html>\n  Bad   Gateway</html>", http.StatusBadGateway)
	})
	err := c.DeleteSession(t.Context(), "python", "abcd")
	if sandpool.ClassOf(err) != sandpool.Unavailable || !strings.Contains(err.Error(), "502") ||
		!strings.Contains(err.Error(), "Bad Gateway") {
		t.Errorf("error = %v", err)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	calls := 0
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		calls++
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	if err := c.DeleteFile(t.Context(), "python", "abcd", "x"); err == nil || calls != 1 {
		t.Errorf("err = %v after %d calls, want an error after one", err, calls)
	}
}

// TestNamesOfDirectories: a slash at the end of a directory's name does not make it another one.
func TestNamesOfDirectories(t *testing.T) {
	var path, dir string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		path, dir = strings.TrimPrefix(r.URL.Path, dataRoot), r.URL.Query().Get("path")
		_, _ = io.WriteString(w, "{}")
	})
	for what, call := range map[string]func() error{
		"make": func() error {
			_, err := c.MakeDirectory(t.Context(), "python", "abcd", "a/b/")
			return err
		},
		"stat": func() error {
			_, err := c.StatFile(t.Context(), "python", "abcd", "/mnt/data/a/b/")
			return err
		},
		"delete": func() error { return c.DeleteFile(t.Context(), "python", "abcd", "a/b//") },
		"move": func() error {
			_, err := c.MoveFile(t.Context(), "python", "abcd", "a/b/", "c", false)
			return err
		},
	} {
		if err := call(); err != nil || path != "/files/b" || dir != "a" {
			t.Errorf("%s: %q in %q, %v", what, path, dir, err)
		}
	}
}

// TestBrokenSource: what cannot be read is not taken for a server that cannot be reached.
func TestBrokenSource(t *testing.T) {
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	})
	broken := errors.New("a broken disk")
	_, appended := c.AppendFile(t.Context(), "python", "abcd", "a", 0, iotest.ErrReader(broken))
	_, unpacked := c.Unpack(t.Context(), "python", "abcd", "", "tar", iotest.ErrReader(broken))
	if !errors.Is(appended, broken) || !errors.Is(unpacked, broken) {
		t.Errorf("append: %v; unpack: %v", appended, unpacked)
	}
}

func TestUnreachable(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	c, err := New(Config{Endpoint: srv.URL, Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Health(t.Context())
	var e *sandpool.Error
	if !errors.As(err, &e) || e.Class != sandpool.Unavailable || e.Code != CodeUnreachable ||
		strings.Contains(err.Error(), "secret") {
		t.Errorf("error = %#v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Health(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: %v, want context.Canceled", err)
	}
}

func TestSessionsFollowsPages(t *testing.T) {
	var c *Client
	c = serve(t, func(w http.ResponseWriter, r *http.Request) {
		page := api.ManagedSessions{Value: []api.SessionView{
			{Identifier: "s" + r.URL.Query().Get("skip")}}}
		if r.URL.Query().Get("skip") == "" {
			page.NextLink = c.Endpoint() + r.URL.Path + "?skip=1"
		}
		if err := json.NewEncoder(w).Encode(page); err != nil {
			t.Error(err)
		}
	})
	got, err := c.Sessions(t.Context(), "python")
	if err != nil || len(got) != 2 || got[1].Identifier != "s1" {
		t.Errorf("sessions = %v, %v", got, err)
	}
}

func TestLinkLeadsNowhereElse(t *testing.T) {
	reached := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		reached = true
	}))
	defer other.Close()
	paths := []string{}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.RequestURI())
		if len(paths) == 1 {
			fmt.Fprintf(w, `{"value":[],"nextLink":%q}`, other.URL+"/next?skip=1")
		}
	})
	_, err := c.Sessions(t.Context(), "python")
	if err != nil || reached || len(paths) != 2 || paths[1] != "/next?skip=1" {
		t.Errorf("err = %v, other server reached: %v, requests %q", err, reached, paths)
	}
}

func TestListThatNeverEnds(t *testing.T) {
	var c *Client
	c = serve(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"value":[],"nextLink":%q}`, c.Endpoint()+r.URL.Path)
	})
	if _, err := c.Sessions(t.Context(), "python"); sandpool.ClassOf(err) != sandpool.Internal ||
		err == nil {
		t.Errorf("err = %v", err)
	}
}

func TestUploadStreams(t *testing.T) {
	const size = 8 << 20
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("path") != "in/2026" {
			t.Errorf("path = %q", r.URL.Query().Get("path"))
		}
		mr, err := r.MultipartReader()
		if err != nil {
			t.Error(err)
			return
		}
		part, err := mr.NextPart()
		if err != nil {
			t.Error(err)
			return
		}
		n, _ := io.Copy(io.Discard, part)
		fmt.Fprintf(w, `{"name":%q,"sizeInBytes":%d}`, part.FileName(), n)
	})
	f, err := c.UploadFile(t.Context(), "python", "abcd", "/mnt/data/in/2026/räksmörgås 1.bin",
		io.LimitReader(zeros{}, size))
	if err != nil || f.SizeInBytes != size || f.Name != "räksmörgås 1.bin" {
		t.Errorf("upload = %+v, %v", f, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestUploadBlamesTheSource(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	})
	broken := errors.New("disk on fire")
	_, err := c.UploadFile(t.Context(), "python", "abcd", "a", iotest.ErrReader(broken))
	if !errors.Is(err, broken) {
		t.Errorf("err = %v, want the reader's", err)
	}
}

func TestUploadRefusedEarly(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		fmt.Fprint(w, `{"error":{"code":"RequestEntityTooLarge","message":"over 128 MB"}}`)
	})
	_, err := c.UploadFile(t.Context(), "python", "abcd", "a", io.LimitReader(zeros{}, 1<<20))
	if sandpool.ClassOf(err) != sandpool.TooLarge {
		t.Errorf("err = %v, want class TooLarge", err)
	}
}

func TestDownloadRange(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if want := dataRoot + "/files/a%2520b.txt/content"; r.URL.EscapedPath() !=
			strings.ReplaceAll(want, "%2520", "%20") {
			t.Errorf("path = %s", r.URL.EscapedPath())
		}
		http.ServeContent(w, r, "x", time.Time{}, strings.NewReader("0123456789"))
	})
	content, err := c.Download(t.Context(), "python", "abcd", "a b.txt",
		Range{Offset: 2, Length: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	if b, err := io.ReadAll(content); string(b) != "234" || err != nil || content.Size != 3 {
		t.Errorf("got %q, %v, size %d", b, err, content.Size)
	}
}

func TestDownloadWholeInsteadOfPart(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "0123456789") })
	if _, err := c.Download(t.Context(), "python", "abcd", "a", Range{Offset: 2}); err == nil {
		t.Error("a whole file passed for a part of it")
	}
}

func TestConnectionsAreReused(t *testing.T) {
	conns := map[string]bool{}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		conns[r.RemoteAddr] = true
		if r.URL.Query().Get("identifier") == "fail" {
			http.Error(w, strings.Repeat("x", 4096), http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, `{"status":"Succeeded"}`)
	})
	for i := range 20 {
		_, _ = c.Execute(t.Context(), "python", []string{"good", "fail"}[i%2], Run{Code: "1"})
	}
	if len(conns) != 1 {
		t.Errorf("20 calls in a row took %d connections, want 1", len(conns))
	}
}

func TestQueriesArriveAtTheServerAsTheyAre(t *testing.T) {
	var got string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.RawQuery
		fmt.Fprint(w, `{"value":[]}`)
	})
	if _, err := c.Files(t.Context(), "python", "a+b%c", "my dir/ü", false); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"identifier=a%2Bb%25c", "path=my%20dir%2F%C3%BC"} {
		if !strings.Contains(got, part) {
			t.Errorf("the query is %s, want %s in it", got, part)
		}
	}
}
