// Command app is the application of the tests' container image: a web server that counts.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

func main() {
	for _, arg := range os.Args[1:] {
		switch arg {
		case "fail":
			fmt.Printf("\x1b[31mgiving up\nkey=%s\n", os.Getenv("KEY"))
			os.Exit(9)
		case "deaf":
			fmt.Println("not listening")
			<-time.After(time.Hour)
		}
	}
	var count atomic.Int64
	http.HandleFunc("/count", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, count.Add(1)) })
	http.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	http.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, strings.Join(os.Environ(), "\n"))
	})
	http.HandleFunc("/who", func(w http.ResponseWriter, _ *http.Request) {
		host, _ := os.Hostname()
		dir, _ := os.Getwd()
		fmt.Fprintln(w, os.Getuid(), os.Getgid(), dir, host, os.Args[1:])
	})
	http.HandleFunc("/print", func(_ http.ResponseWriter, r *http.Request) {
		if text := r.URL.Query().Get("err"); text != "" {
			fmt.Fprintln(os.Stderr, text)
		}
		fmt.Println(r.URL.Query().Get("out"))
	})
	http.HandleFunc("/exit", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		log.Printf("asked to exit with %d", code)
		os.Exit(code)
	})
	http.HandleFunc("/reseed", func(http.ResponseWriter, *http.Request) { count.Store(1000) })
	fmt.Println("the app listens")
	log.Fatal(http.ListenAndServe(":8080", nil))
}
