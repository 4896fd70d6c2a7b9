package client_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
)

// A stream that breaks off goes on after the last event that came; one that is left is cancelled.
func TestStream(t *testing.T) {
	var cancelled atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"sequence":1,"type":"stdout","text":"a"}`+"\n"+`{"sequence":2,"ty`)
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		switch after := r.URL.Query().Get("after"); after {
		case "1":
			fmt.Fprintln(w, `{"sequence":2,"type":"stdout","text":"b"}`)
		case "2":
			fmt.Fprintln(w, `{"sequence":3,"type":"result","execution":{"id":"e","status":"Succeeded"}}`)
		default:
			t.Errorf("events are asked for after %q", after)
		}
	})
	mux.HandleFunc("DELETE /", func(http.ResponseWriter, *http.Request) { cancelled.Add(1) })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	c, err := client.New(client.Config{Endpoint: srv.URL, Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdle()
	text := ""
	for e, err := range c.Stream(t.Context(), "python", "chat-1", client.Run{Code: "x"}) {
		if err != nil {
			t.Fatal(err)
		}
		text += e.Text
		if ended, ok := e.Execution.(api.Execution); ok {
			text += ended.ID
		}
	}
	if text != "abe" || cancelled.Load() != 0 {
		t.Errorf("the stream is %q, %d were cancelled", text, cancelled.Load())
	}
	for _, err := range c.Stream(t.Context(), "python", "chat-1", client.Run{Code: "x"}) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if cancelled.Load() != 1 {
		t.Errorf("%d were cancelled, want the one that was left", cancelled.Load())
	}
}
