// Command app is the application of the tests' container image: a web server that counts.
package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
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
		case "orphan": // which outlives its parent, and that by little
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		case "parent":
			child := exec.Command("/proc/self/exe", "orphan")
			child.Stdin = os.Stdin
			if err := child.Start(); err != nil {
				log.Fatal(err)
			}
			os.Exit(0)
		case "short":
			time.AfterFunc(time.Second, func() {
				fmt.Println("a short life")
				os.Exit(4)
			})
		case "orderly":
			go orderly()
		case "tls":
			serveTLS()
		case "slow":
			<-time.After(2 * time.Second)
		}
	}
	var count atomic.Int64
	http.HandleFunc("/count", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, count.Add(1))
	})
	http.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})
	http.HandleFunc("/request", func(w http.ResponseWriter, r *http.Request) {
		_ = r.Write(w)
	})
	http.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		_, _ = w.Write(make([]byte, n))
	})
	http.HandleFunc("/upgrade", func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			log.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"+
			"Upgrade: %s\r\n\r\n%s", r.Header.Get("Upgrade"), r.Header.Get("Traceparent"))
		_ = rw.Flush()
	})
	http.HandleFunc("/lines", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprintln(w, "the first line")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done() // and there is no other
	})
	http.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, strings.Join(os.Environ(), "\n"))
	})
	http.HandleFunc("/identity", identity)
	http.HandleFunc("/who", func(w http.ResponseWriter, _ *http.Request) {
		host, _ := os.Hostname()
		dir, _ := os.Getwd()
		groups, _ := os.Getgroups()
		groups = slices.DeleteFunc(groups, func(g int) bool { return g == os.Getgid() })
		fmt.Fprintln(w, os.Getuid(), os.Getgid(), groups, dir, host, os.Args[1:])
	})
	http.HandleFunc("/look", look)
	http.HandleFunc("/write", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, os.WriteFile(r.URL.Query().Get("path"), []byte("x"), 0o600))
	})
	http.HandleFunc("/print", func(_ http.ResponseWriter, r *http.Request) {
		if text := r.URL.Query().Get("err"); text != "" {
			fmt.Fprintln(os.Stderr, text)
		}
		fmt.Println(r.URL.Query().Get("out"))
	})
	var sick atomic.Bool
	if slices.Contains(os.Args[1:], "sickly") {
		time.AfterFunc(3*time.Second, func() { sick.Store(true) })
	}
	http.HandleFunc("/sick", func(http.ResponseWriter, *http.Request) { sick.Store(true) })
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	http.HandleFunc("/hosts", func(w http.ResponseWriter, _ *http.Request) {
		host, _ := os.Hostname()
		file, _ := os.ReadFile("/etc/hostname")
		addrs, err := net.LookupHost(host)
		fmt.Fprintln(w, host == strings.TrimSpace(string(file)), addrs, err)
	})
	http.HandleFunc("/orphans", orphans)
	runner()
	http.HandleFunc("/exit", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		log.Printf("asked to exit with %d", code)
		os.Exit(code)
	})
	// What comes when the answer has been given: the end of the program, or want of memory.
	http.HandleFunc("/later", func(_ http.ResponseWriter, r *http.Request) {
		time.AfterFunc(time.Second, func() {
			if r.FormValue("want") == "memory" {
				hog()
			}
			os.Exit(7)
		})
	})
	http.HandleFunc("POST /reseed", func(http.ResponseWriter, *http.Request) { count.Add(1000) })
	fmt.Println("the app listens")
	log.Fatal(http.ListenAndServe(":8080", nil))
}

// hog takes memory until there is none.
func hog() {
	var taken [][]byte
	for {
		taken = append(taken, bytes.Repeat([]byte("x"), 16<<20))
	}
}

// orphans makes processes whose parents end before them, and answers with how many processes there
// are that have ended and that nobody has reaped.
func orphans(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.URL.Query().Get("make"))
	for range n {
		in, out, err := os.Pipe()
		if err != nil {
			log.Fatal(err)
		}
		parent := exec.Command("/proc/self/exe", "parent")
		parent.Stdin = in
		err = parent.Run()
		_ = in.Close()
		_ = out.Close() // which the orphan waits for
		if err != nil {
			log.Fatal(err)
		}
	}
	zombies := 0
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), ") Z ") {
			zombies++
		}
	}
	fmt.Fprintln(w, zombies, "of", len(stats))
}

// serveTLS serves by TLS what a probe asks, which passes at the third attempt.
func serveTLS() {
	var asked atomic.Int64
	l, err := net.Listen("tcp", ":8443")
	if err != nil {
		log.Fatal(err)
	}
	started := func(w http.ResponseWriter, r *http.Request) {
		known := r.URL.String() == "/started?by=probe" && r.Header.Get("X-Check") == "yes"
		if !known || asked.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(started))
	srv.Listener = l
	srv.StartTLS()
	http.HandleFunc("/passed", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, map[bool]string{true: "third", false: "wrong"}[asked.Load() >= 3])
	})
}

// look answers with what a path holds.
func look(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Query().Get("path")
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		fmt.Fprintln(w, "folder")
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		text = []byte(err.Error())
	}
	_, _ = w.Write(text)
}

// orderly takes a while to end when it is asked to.
func orderly() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGUSR1)
	fmt.Println("asked to end by", <-asked)
	<-time.After(2 * time.Second)
	fmt.Println("in order")
	os.Exit(0)
}
