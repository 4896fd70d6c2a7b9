// Command protocols is an application that speaks what a web server of today does: a page with
// scripts, events and a WebSocket, gRPC without TLS, and bodies of any size both ways.
package main

import (
	_ "embed"
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

//go:embed page.js
var script string

const page = `<!doctype html><link rel=stylesheet href="style.css"><body>
<script src="./js/app.js"></script><a href="next?page=2">next</a>`

func main() {
	rpc := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(rpc, interop.NewTestServer())
	web := http.NewServeMux()
	serveBulk(web)
	servePage(web)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	addr := ":8080"
	if len(os.Args) > 1 {
		addr = os.Args[1]
	}
	srv := &http.Server{Addr: addr, Protocols: &protocols,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
				rpc.ServeHTTP(w, r)
				return
			}
			web.ServeHTTP(w, r)
		})}
	log.Fatal(srv.ListenAndServe())
}

// serveBulk takes and gives as much as is asked for: a pattern whose length fits no buffer.
func serveBulk(m *http.ServeMux) {
	pattern := make([]byte, 1<<20+7)
	for i := range pattern {
		pattern[i] = byte(i >> (i & 15))
	}
	m.HandleFunc("POST /bulk", func(w http.ResponseWriter, r *http.Request) {
		h := crc32.NewIEEE()
		n, _ := io.CopyBuffer(h, r.Body, make([]byte, 256<<10))
		fmt.Fprintf(w, "%d %x", n, h.Sum(nil))
	})
	m.HandleFunc("GET /bulk", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("bytes"))
		for ; n > 0; n -= len(pattern) {
			if _, err := w.Write(pattern[:min(n, len(pattern))]); err != nil {
				return
			}
		}
	})
}

// servePage is a page in which everything is relative, and that reports what it got.
func servePage(m *http.ServeMux) {
	var mu sync.Mutex
	var paths, report string
	text := func(path, kind, body string) {
		m.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			paths += path + " "
			mu.Unlock()
			w.Header().Set("Content-Type", kind)
			_, _ = io.WriteString(w, body)
		})
	}
	text("/page/{$}", "text/html", page)
	text("/page/js/app.js", "text/javascript", script)
	text("/page/style.css", "text/css", "")
	m.HandleFunc("GET /page/api/data", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.URL.RawQuery)
	})
	m.HandleFunc("POST /page/api/form", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.FormValue("x"))
	})
	m.HandleFunc("GET /page/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: event\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	m.HandleFunc("GET /page/ws", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow() //nolint:errcheck // the page has what it wants
		kind, message, err := c.Read(r.Context())
		if err == nil {
			_ = c.Write(r.Context(), kind, append(message, " back"...))
			_, _, _ = c.Read(r.Context())
		}
	})
	m.HandleFunc("POST /page/report", func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		report = paths + string(body)
		mu.Unlock()
	})
	m.HandleFunc("GET /reported", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.WriteString(w, report)
	})
}
