// Guest is the program inside the sandboxes of this package's tests. It
// answers on a port of its loopback interface, and does to its sandbox what
// hostile code would do.
package main

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "sleep" {
		select {}
	}
	if len(os.Args) > 1 && os.Args[1] == "fail" {
		log.Fatal("the dog ate my interpreter")
	}
	if len(os.Args) > 1 && os.Args[1] == "grow" {
		grow()
	}
	if len(os.Args) > 2 && os.Args[1] == "exit" {
		code, _ := strconv.Atoi(os.Args[2])
		fmt.Println("code", code)
		os.Exit(code)
	}
	obey(os.Getenv("GUEST_SIGNALS"))
	mb, _ := strconv.Atoi(os.Getenv("GUEST_MEGABYTES"))
	warm(mb)
	lookUp("/layer")
	if err := sow(); err != nil {
		log.Fatal(err)
	}
	go echo()
	streams()
	m := http.NewServeMux()
	m.HandleFunc("GET /{$}", func(http.ResponseWriter, *http.Request) {})
	m.HandleFunc("GET /self", self)
	m.HandleFunc("GET /say", say)
	m.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	m.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		// else the first write ends the reading
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	})
	m.HandleFunc("GET /input", input)
	m.HandleFunc("GET /visit", visit)
	m.HandleFunc("GET /take", take)
	m.HandleFunc("GET /exit", func(_ http.ResponseWriter, r *http.Request) {
		os.Exit(number(r, "code"))
	})
	m.HandleFunc("GET /state", state)
	m.HandleFunc("GET /compute", compute)
	m.HandleFunc("GET /memory", memory)
	m.HandleFunc("GET /reserve", reserve)
	m.HandleFunc("GET /children", children)
	m.HandleFunc("GET /disk", disk)
	m.HandleFunc("GET /forks", forks)
	m.HandleFunc("GET /connect", connect)
	m.HandleFunc("GET /socket", socket)
	m.HandleFunc("GET /read", read)
	m.HandleFunc("GET /mount", mount)
	m.HandleFunc("GET /user", user)
	m.HandleFunc("GET /reap", reap)
	m.HandleFunc("GET /split", split)
	m.HandleFunc("GET /hear", hear)
	m.HandleFunc("GET /leave", leave)
	m.HandleFunc("GET /press", press)
	// A sandbox that is a pod is reached at its address.
	log.Fatal(http.ListenAndServe(cmp.Or(os.Getenv("GUEST_HOST"), "127.0.0.1")+":8080", m))
}

func number(r *http.Request, key string) int {
	n, _ := strconv.Atoi(r.FormValue(key))
	return n
}

// arrived is what came on the standard input, whole when done is closed.
var arrived = struct {
	n    int64
	done chan struct{}
}{done: make(chan struct{})}

// echo sends back on the standard input what comes there.
func echo() {
	defer close(arrived.done)
	buf := make([]byte, 32<<10)
	for {
		n, err := os.Stdin.Read(buf)
		arrived.n += int64(n)
		if err != nil {
			return
		}
		if _, err := os.Stdin.Write(buf[:n]); err != nil {
			return
		}
	}
}

// input says how much came on the standard input, when it is over.
func input(w http.ResponseWriter, _ *http.Request) {
	<-arrived.done
	fmt.Fprint(w, arrived.n)
}

// state counts the requests of this sandbox: a restored one continues the count.
var requests struct {
	sync.Mutex
	n int
}

func state(w http.ResponseWriter, _ *http.Request) {
	requests.Lock()
	defer requests.Unlock()
	requests.n++
	fmt.Fprint(w, requests.n)
}

var kept [][]byte

// compute keeps a processor busy.
func compute(w http.ResponseWriter, r *http.Request) {
	for end := time.Now().Add(time.Duration(number(r, "ms")) * time.Millisecond); time.Now().Before(
		end); {
	}
	fmt.Fprint(w, "done")
}

func memory(w http.ResponseWriter, r *http.Request) {
	for range number(r, "mb") {
		kept = append(kept, bytes.Repeat([]byte{1}, 1<<20))
	}
	fmt.Fprint(w, "kept")
}

// children starts processes that take memory until somebody ends them, and
// says how the first one that ended did.
func children(w http.ResponseWriter, r *http.Request) {
	ends := make(chan error)
	for range number(r, "n") {
		cmd := exec.Command("/proc/self/exe", "grow")
		cmd.Env = append(os.Environ(), "GOGC=off", "GOMAXPROCS=1")
		go func() { ends <- cmd.Run() }()
	}
	fmt.Fprint(w, <-ends)
}

// grow takes memory in many small pieces.
func grow() {
	for {
		kept = append(kept, bytes.Repeat([]byte{1}, 32<<10))
	}
}

func disk(w http.ResponseWriter, r *http.Request) {
	f, err := os.Create(r.FormValue("path"))
	if err != nil {
		fmt.Fprint(w, err)
		return
	}
	defer f.Close()
	chunk := bytes.Repeat([]byte{1}, 1<<20)
	for i := range number(r, "mb") {
		if _, err := f.Write(chunk); err != nil {
			fmt.Fprintf(w, "after %d MB: %v", i, errors.Unwrap(err))
			return
		}
	}
	fmt.Fprint(w, "written")
}

func forks(w http.ResponseWriter, r *http.Request) {
	for i := range number(r, "n") {
		if err := exec.Command("/proc/self/exe", "sleep").Start(); err != nil {
			fmt.Fprintf(w, "after %d: %v", i, err)
			return
		}
	}
	fmt.Fprint(w, "started")
}

func connect(w http.ResponseWriter, r *http.Request) {
	c, err := net.DialTimeout(r.FormValue("net"), r.FormValue("addr"), 3*time.Second)
	if err == nil {
		_, err = c.Write([]byte("x"))
		c.Close()
	}
	fmt.Fprint(w, err)
}

func socket(w http.ResponseWriter, r *http.Request) {
	_, err := syscall.Socket(number(r, "family"), number(r, "type"), number(r, "proto"))
	fmt.Fprint(w, err)
}

func read(w http.ResponseWriter, r *http.Request) {
	data, err := os.ReadFile(r.FormValue("path"))
	if err != nil {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, err)
		return
	}
	_, _ = w.Write(data)
}

func mount(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprint(w, syscall.Mount("tmpfs", "/tmp", "tmpfs", 0, ""))
}

// user starts a process as another user, as the agent does.
func user(w http.ResponseWriter, r *http.Request) {
	cmd := exec.Command("/proc/self/exe", "sleep")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	if err := cmd.Start(); err != nil {
		fmt.Fprint(w, err)
		return
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	info, err := os.Stat(fmt.Sprintf("/proc/%d", cmd.Process.Pid))
	if err != nil {
		fmt.Fprint(w, err)
		return
	}
	fmt.Fprint(w, info.Sys().(*syscall.Stat_t).Uid)
}

// lookUp has the kernel look at every file of a directory.
func lookUp(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		_, _ = entry.Info()
	}
}

// warm fills memory with what a language runtime would have loaded: no two pages alike.
func warm(mb int) {
	for i := range mb {
		block := make([]byte, 1<<20)
		for j := 0; j < len(block); j += 8 {
			binary.LittleEndian.PutUint64(block[j:], uint64(i)<<32|uint64(j)*2654435761)
		}
		kept = append(kept, block)
	}
}
