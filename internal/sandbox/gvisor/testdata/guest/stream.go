package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Ports beside HTTP's, for streams that know no protocol.
const (
	sinkPort   = 8081 // reads slowly up to the end, and says what came
	sourcePort = 8082 // sends what is asked for, ends that, and listens on
	deafPort   = 8083 // takes no notice of an end of file
	fullPort   = 8084 // accepts nothing
)

func streams() {
	serve(sinkPort, sink)
	serve(sourcePort, source)
	serve(deafPort, deaf)
	listen(fullPort)
}

func listen(port int) *net.TCPListener {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		log.Fatal(err)
	}
	return l
}

func serve(port int, handle func(*net.TCPConn)) {
	l := listen(port)
	go func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			go func() { handle(c); c.Close() }()
		}
	}()
}

// sink reads 64 KB at a time. Its pauses become rarer, so that the buffers before it are
// full for a while, and a test is over in a few seconds.
func sink(c *net.TCPConn) {
	buf := make([]byte, 64<<10)
	sum := sha256.New()
	var total int64
	for reads := 0; ; reads++ {
		n, err := io.ReadFull(c, buf)
		sum.Write(buf[:n])
		total += int64(n)
		if err != nil {
			break
		}
		if reads < 100 || reads%100 == 0 {
			time.Sleep(10 * time.Millisecond)
		}
	}
	fmt.Fprintf(c, "%d bytes %x", total, sum.Sum(nil))
}

// heard is what came to a source after its end.
var heard = make(chan string, 1)

// source is told how many megabytes to send.
func source(c *net.TCPConn) {
	line := make([]byte, 4)
	if _, err := io.ReadFull(c, line); err != nil {
		return
	}
	mb, _ := strconv.Atoi(string(line))
	sum := sha256.New()
	for i := range mb {
		block := make([]byte, 1<<20)
		for j := range block {
			block[j] = byte(i + j>>8)
		}
		sum.Write(block)
		if _, err := c.Write(block); err != nil {
			heard <- err.Error()
			return
		}
	}
	fmt.Fprintf(c, "%x", sum.Sum(nil))
	_ = c.CloseWrite()
	text, err := io.ReadAll(c)
	heard <- fmt.Sprintf("%s, %v", text, err)
}

func hear(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, <-heard) }

// left is how a deaf connection ended.
var left = make(chan string, 1)

func deaf(c *net.TCPConn) {
	_, err := io.Copy(io.Discard, c)
	for ; err == nil; time.Sleep(5 * time.Millisecond) {
		_, err = c.Write([]byte("still there?"))
	}
	left <- err.Error()
}

func leave(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, <-left) }

// press sends to a connection of the loopback interface that nobody reads, until it blocks.
func press(w http.ResponseWriter, _ *http.Request) {
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", fullPort))
	if err != nil {
		fmt.Fprint(w, err)
		return
	}
	defer c.Close()
	total := 0
	for block := make([]byte, 256<<10); total < 1<<30; {
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := c.Write(block)
		total += n
		if err != nil {
			break
		}
	}
	fmt.Fprint(w, total)
}

// visit says something to an address, and answers what it is told.
func visit(w http.ResponseWriter, r *http.Request) {
	conn, err := net.DialTimeout("tcp", r.FormValue("addr"), 30*time.Second)
	if err != nil {
		fmt.Fprint(w, err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	_, _ = io.WriteString(conn, r.FormValue("say"))
	_ = conn.(*net.TCPConn).CloseWrite()
	if _, err := io.Copy(w, conn); err != nil {
		fmt.Fprint(w, err)
	}
}

// take tries to listen at an address.
func take(w http.ResponseWriter, r *http.Request) {
	l, err := net.Listen("tcp", r.FormValue("addr"))
	if err != nil {
		fmt.Fprint(w, err)
		return
	}
	_ = l.Close()
	fmt.Fprint(w, "listens")
}
