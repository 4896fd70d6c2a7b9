package sandboxtest_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
)

// get sends one request over conn and returns the answer's status.
func get(t *testing.T, conn net.Conn) int {
	t.Helper()
	defer conn.Close()
	if _, err := io.WriteString(conn,
		"GET / HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	return answer.StatusCode
}
