package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/sandpooltest"
)

// start starts a server for the examples. A program has one already, and its own token.
func start(run func(context.Context, sandpooltest.Code) sandpooltest.Outcome) *sandpooltest.Server {
	srv, err := sandpooltest.Start(context.Background(), sandpooltest.Options{Run: run,
		MaxSessions: 1})
	if err != nil {
		panic(err)
	}
	return srv
}

// Code of one session finds what earlier code has left. An exception in it is a result and no
// error.
func ExampleClient_Execute() {
	srv := start(func(_ context.Context, c sandpooltest.Code) sandpooltest.Outcome {
		if c.Text == "1/0" {
			return sandpooltest.Outcome{
				Error: &sandpooltest.Exception{Name: "ZeroDivisionError",
					Message: "division by zero"}}
		}
		return sandpooltest.Outcome{Value: "2"}
	})
	defer srv.Close()
	c, err := client.New(client.Config{Endpoint: srv.URL, Token: srv.Token})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, code := range []string{"1+1", "1/0"} {
		e, err := c.Execute(context.Background(), "python", "chat-42", client.Run{Code: code})
		if err != nil {
			fmt.Println(err)
			return
		}
		if e.Failed() {
			fmt.Println(e.Result.ErrorName)
			continue
		}
		fmt.Printf("%s\n", e.Result.ExecutionResult)
	}
	// Output:
	// 2
	// ZeroDivisionError
}

// The class of an error says what to do about it.
func ExampleClient_Execute_full() {
	srv := start(nil)
	defer srv.Close()
	c := srv.Client()
	for _, session := range []string{"chat-42", "chat-43"} {
		_, err := c.Execute(context.Background(), "python", session, client.Run{Code: "1+1"})
		var e *sandpool.Error
		switch {
		case err == nil:
			fmt.Println(session, "done")
		case errors.As(err, &e) && e.Class == sandpool.Full:
			fmt.Println(session, "has to wait:", e.RetryAfter > 0)
		default:
			fmt.Println(err)
		}
	}
	// Output:
	// chat-42 done
	// chat-43 has to wait: true
}

// A stream shows output while code runs, and ends with the result.
func ExampleClient_Stream() {
	srv := streaming(`{"sequence":1,"type":"stdout","text":"step 1\n"}`,
		`{"sequence":2,"type":"stdout","text":"step 2\n"}`,
		`{"sequence":3,"type":"result","execution":{"status":"Succeeded",`+
			`"result":{"executionResult":42}}}`)
	defer srv.Close()
	c, err := client.New(client.Config{Endpoint: srv.URL, Token: "TOKEN"})
	if err != nil {
		fmt.Println(err)
		return
	}
	code := client.Run{Code: "for i in (1, 2): print('step', i)\n42"}
	for e, err := range c.Stream(context.Background(), "python", "chat-42", code) {
		if err != nil {
			fmt.Println(err)
			return
		}
		switch e.Type {
		case api.EventStdout:
			fmt.Print(e.Text)
		case api.EventResult:
			if x, ok := e.Execution.(api.Execution); ok {
				fmt.Printf("%s %s\n", x.Status, x.Result.ExecutionResult)
			}
		}
	}
	// Output:
	// step 1
	// step 2
	// Succeeded 42
}

// streaming starts a server that answers with the events of an execution.
func streaming(events ...string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, e := range events {
			_, _ = fmt.Fprintln(w, e)
		}
	}))
}

// Files of a session are below /mnt/data, where its code finds them.
func ExampleClient_UploadFile() {
	srv := start(func(_ context.Context, c sandpooltest.Code) sandpooltest.Outcome {
		text, _ := c.Files.Read("names.txt")
		c.Files.Write("count.txt", fmt.Appendln(nil, strings.Count(string(text), "\n")))
		return sandpooltest.Outcome{}
	})
	defer srv.Close()
	c, ctx := srv.Client(), context.Background()
	f, err := c.UploadFile(ctx, "python", "chat-42", "names.txt", strings.NewReader("Ada\nAlan\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(f.Name, f.SizeInBytes)
	code := "open('count.txt', 'w').write(str(len(open('names.txt').readlines())) + '\\n')"
	if _, err := c.Execute(ctx, "python", "chat-42", client.Run{Code: code}); err != nil {
		fmt.Println(err)
		return
	}
	content, err := c.Download(ctx, "python", "chat-42", "count.txt", client.Range{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer content.Close()
	text, err := io.ReadAll(content)
	fmt.Print(string(text))
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// names.txt 9
	// 2
}
