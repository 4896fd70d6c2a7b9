// Command app is a container's application that says what it reaches.
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience ends a try that nobody answers.
const patience = 30 * time.Second

func main() {
	http.HandleFunc("/hammered", hammer(os.Getenv("HAMMER")))
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
		Proxy: http.ProxyFromEnvironment}}
	var held net.Conn
	http.HandleFunc("/get", func(w http.ResponseWriter, r *http.Request) {
		resp, err := client.Get(r.FormValue("url"))
		if err != nil {
			fmt.Fprint(w, "no: ", err)
			return
		}
		defer resp.Body.Close()
		_, _ = io.Copy(w, resp.Body)
	})
	http.HandleFunc("/tcp", func(w http.ResponseWriter, r *http.Request) {
		conn, err := net.DialTimeout("tcp", r.FormValue("to"), patience)
		if err == nil {
			conn.Close()
		}
		fmt.Fprint(w, err == nil)
	})
	// A connection is opened by one request and used by the next.
	http.HandleFunc("/hold", func(w http.ResponseWriter, r *http.Request) {
		conn, err := net.DialTimeout("tcp", r.FormValue("to"), patience)
		if err == nil {
			held = conn
		}
		fmt.Fprint(w, err == nil)
	})
	http.HandleFunc("/use", func(w http.ResponseWriter, _ *http.Request) {
		if held == nil {
			fmt.Fprint(w, false)
			return
		}
		_ = held.SetDeadline(time.Now().Add(patience))
		_, err := io.WriteString(held, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
		if err == nil {
			_, err = held.Read(make([]byte, 512))
		}
		fmt.Fprint(w, err == nil)
	})
	http.HandleFunc("/measure", measure)
	http.HandleFunc("/give", give)
	http.HandleFunc("/take", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	})
	http.HandleFunc("/raw", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, os.Getuid(), raw())
	})
	listen := ":8080"
	if at := os.Getenv("LISTEN"); at != "" {
		listen = at
	}
	log.Fatal(http.ListenAndServe(listen, nil))
}

// hammer tries to reach addresses without end from now on, which is before anything else, and says
// whether it has tried all of them and which it has ever reached.
func hammer(list string) http.HandlerFunc {
	var mu sync.Mutex // guards what follows
	tries, reached := 0, map[string]bool{}
	addresses := strings.Fields(list)
	go func() {
		for range time.Tick(5 * time.Millisecond) {
			if len(addresses) == 0 {
				return
			}
			mu.Lock()
			to := addresses[tries%len(addresses)]
			tries++
			mu.Unlock()
			if conn, err := net.DialTimeout("tcp", to, 200*time.Millisecond); err == nil {
				_ = conn.Close()
				mu.Lock()
				reached[to] = true
				mu.Unlock()
			}
		}
	}()
	return func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprint(w, tries > len(addresses), slices.Sorted(maps.Keys(reached)))
	}
}

// raw lists the kinds of sockets by which packets could be forged.
func raw() (open []string) {
	for _, s := range []struct {
		name              string
		domain, kind, how int
	}{
		{"raw ICMP", syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_ICMP},
		{"raw IP", syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_RAW},
		{"raw IPv6", syscall.AF_INET6, syscall.SOCK_RAW, syscall.IPPROTO_ICMPV6},
		{"packets", syscall.AF_PACKET, syscall.SOCK_RAW, 0x0300},
		{"cooked packets", syscall.AF_PACKET, syscall.SOCK_DGRAM, 0x0300},
	} {
		fd, err := syscall.Socket(s.domain, s.kind, s.how)
		if !errors.Is(err, syscall.EPERM) {
			open = append(open, s.name)
		}
		if err == nil {
			_ = syscall.Close(fd)
		}
	}
	return open
}
