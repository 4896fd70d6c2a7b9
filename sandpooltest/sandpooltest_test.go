package sandpooltest_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/sandpooltest"
)

// echo runs code that says what it is, and one that raises, sleeps, or copies a file.
func echo(ctx context.Context, c sandpooltest.Code) sandpooltest.Outcome {
	switch c.Text {
	case "raise":
		return sandpooltest.Outcome{Error: &sandpooltest.Exception{Name: "ValueError",
			Message: "no"}}
	case "sleep":
		<-ctx.Done()
	case "copy":
		data, ok := c.Files.Read("in/a.txt")
		if !ok {
			return sandpooltest.Outcome{Stderr: "there is no file"}
		}
		c.Files.Write("out.txt", bytes.ToUpper(data))
	}
	return sandpooltest.Outcome{Stdout: c.Session + " ran " + c.Text + "\n", Value: "42"}
}

func TestExecutions(t *testing.T) {
	c := sandpooltest.New(t, sandpooltest.Options{Run: echo}).Client()
	run := func(code string, seconds int) client.Execution {
		t.Helper()
		e, err := c.Execute(t.Context(), sandpooltest.Pool, "chat-42",
			client.Run{Code: code, Timeout: time.Duration(seconds) * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := run("1+1", 0)
	if e.Failed() || e.Result.Stdout != "chat-42 ran 1+1\n" ||
		string(e.Result.ExecutionResult) != "42" {
		t.Errorf("%+v", e)
	}
	e = run("raise", 0)
	if !e.Failed() || e.Result.ErrorName != "ValueError" ||
		!strings.Contains(e.Result.Stderr, "ValueError: no") {
		t.Errorf("%+v", e)
	}
	e = run("sleep", 1)
	if !e.Failed() || e.Result.ErrorName != "Timeout" {
		t.Errorf("%+v", e)
	}
}

func TestFiles(t *testing.T) {
	c := sandpooltest.New(t, sandpooltest.Options{Run: echo}).Client()
	const session = "chat-42"
	_, err := c.UploadFile(t.Context(), sandpooltest.Pool, session, "in/a.txt",
		strings.NewReader("text"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Execute(t.Context(), sandpooltest.Pool, session,
		client.Run{Code: "copy"}); err != nil {
		t.Fatal(err)
	}
	list, err := c.Files(t.Context(), sandpooltest.Pool, session, "", true)
	if err != nil || len(list) != 3 {
		t.Errorf("%+v, %v; want a directory and two files", list, err)
	}
	content, err := c.Download(t.Context(), sandpooltest.Pool, session, "out.txt",
		client.Range{Offset: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	if b, err := io.ReadAll(content); string(b) != "EXT" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if err := c.DeleteFile(t.Context(), sandpooltest.Pool, session, "in"); err != nil {
		t.Error(err)
	}
	_, err = c.StatFile(t.Context(), sandpooltest.Pool, session, "in/a.txt")
	if sandpool.ClassOf(err) != sandpool.NotFound {
		t.Errorf("a file that was deleted: %v", err)
	}
	if list, err := c.Files(t.Context(), sandpooltest.Pool, "another", "", true); err != nil ||
		len(list) != 0 {
		t.Errorf("another session has %+v, %v", list, err)
	}
}

// What a server refuses, it refuses here too.
func TestRefusals(t *testing.T) {
	srv := sandpooltest.New(t, sandpooltest.Options{MaxSessions: 2})
	c := srv.Client()
	for _, session := range []string{"first", "second"} {
		if _, err := c.Execute(t.Context(), sandpooltest.Pool, session,
			client.Run{Code: "1"}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.Execute(t.Context(), sandpooltest.Pool, "third", client.Run{Code: "1"})
	if sandpool.ClassOf(err) != sandpool.Full {
		t.Errorf("beyond the most sessions: %v", err)
	}
	if err := c.DeleteSession(t.Context(), sandpooltest.Pool, "first"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Execute(t.Context(), sandpooltest.Pool, "third",
		client.Run{Code: "1"}); err != nil {
		t.Errorf("after a session has ended: %v", err)
	}
	stranger, err := client.New(client.Config{Endpoint: srv.URL, Token: "guess"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Pools(t.Context()); sandpool.ClassOf(err) != sandpool.Unauthenticated {
		t.Errorf("without a token: %v", err)
	}
}

// A session that is lost between two calls is told of once, and then there is a new one.
func TestEndSession(t *testing.T) {
	srv := sandpooltest.New(t, sandpooltest.Options{Run: echo})
	c := srv.Client()
	run := func() client.Execution {
		t.Helper()
		e, err := c.Execute(t.Context(), sandpooltest.Pool, "chat-42", client.Run{Code: "1"})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	if err := srv.EndSession(t.Context(), "chat-42"); sandpool.ClassOf(err) != sandpool.NotFound {
		t.Errorf("without a session: %v", err)
	}
	run()
	if err := srv.EndSession(t.Context(), "chat-42"); err != nil {
		t.Fatal(err)
	}
	if e := run(); !e.Failed() || !e.Result.StateLost ||
		!strings.Contains(e.Result.Stderr, "memory") {
		t.Errorf("after the end: %+v", e)
	}
	if e := run(); e.Failed() || e.Result.StateLost {
		t.Errorf("a new session: %+v", e)
	}
}
