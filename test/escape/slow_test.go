package escape_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
)

// slowCallers: callers that send a byte now and then lose their connection, with and
// without a token, in the header and in the body.
func (k *target) slowCallers(t *testing.T) {
	path := endpoint(mine) + "/executions?identifier=slow-caller"
	auth := "Authorization: Bearer " + k.token + "\r\n"
	ended := make(chan string)
	starts := map[string]string{
		"header":              "POST " + path + " HTTP/1.1\r\nHost: x\r\nX-A: ",
		"header with a token": "POST " + path + " HTTP/1.1\r\nHost: x\r\n" + auth + "X-A: ",
		"refused body": "POST " + path +
			" HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
		"refused chunks": "POST " + path +
			" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n",
		"health with a body": "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
		"body": "POST " + path + " HTTP/1.1\r\nHost: x\r\n" + auth +
			"Content-Length: 100000\r\n\r\n{",
		"upload": "POST " + endpoint(mine) +
			"/files?identifier=slow-caller HTTP/1.1\r\nHost: x\r\n" + auth +
			"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n\r\n" +
			"--b\r\n",
		"control plane's body": "PUT " + strings.Replace(endpoint("slow-pool"), "/sessionPools",
			"/providers/Microsoft.App/sessionPools", 1) + " HTTP/1.1\r\nHost: x\r\n" + auth +
			"Content-Length: 100000\r\n\r\n{",
	}
	for name, text := range starts {
		conn := k.dial(t, time.Minute)
		go func() {
			_, _ = io.WriteString(conn, text)
			drip := time.NewTicker(500 * time.Millisecond)
			defer drip.Stop()
			gone := make(chan error, 1)
			go func() { _, err := io.Copy(io.Discard, conn); gone <- err }()
			for {
				select {
				case err := <-gone:
					if errors.Is(err, os.ErrDeadlineExceeded) {
						name = "still there: " + name
					}
					ended <- name
					return
				case <-drip.C:
					_, _ = io.WriteString(conn, "a") // an error shows in gone
				}
			}
		}()
	}
	for range starts {
		if name := <-ended; strings.HasPrefix(name, "still") {
			t.Errorf("after a minute: %s", name)
		}
	}
	if _, err := k.Session(t.Context(), mine, "slow-caller"); sandpool.ClassOf(
		err) != sandpool.NotFound {
		t.Errorf("a request that was never complete has made a session: %v", err)
	}
}

// idleCallers: a thousand idle connections keep nobody from being served.
func (k *target) idleCallers(t *testing.T) {
	for i := range 1000 {
		conn := k.dial(t, time.Minute)
		if i%2 == 0 {
			fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		}
	}
	k.healthy(t)
}

// stalled: a download that nobody reads does not keep its session from ending, nor
// others from being served.
func (k *target) stalled(t *testing.T) {
	s := k.session(t, "box")
	s.prints(t, "import os\nf = open('/mnt/data/big', 'wb')\nfor i in range(48): "+
		"f.write(os.urandom(1 << 20))\nf.close()")
	bodies := make([]io.Reader, 20)
	for i := range bodies {
		conn := k.dial(t, time.Minute)
		fmt.Fprintf(conn, "GET %s/files/big/content?identifier=%s HTTP/1.1\r\nHost: x\r\n"+
			"Authorization: Bearer %s\r\n\r\n", endpoint(mine), s.id, k.token)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("download %d: %v %v", i, resp, err)
		}
		bodies[i] = resp.Body
	}
	if got := s.prints(t, "print('alive')"); got != "alive\n" {
		t.Errorf("the session answers %q", got)
	}
	if err := k.DeleteSession(t.Context(), mine, s.id); err != nil {
		t.Fatal(err)
	}
	whole := 0
	for i, body := range bodies {
		n, err := io.Copy(io.Discard, body)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("download %d of a deleted session: %d bytes, %v", i, n, err)
		}
		if n >= 48<<20 {
			whole++
		}
	}
	// The machine's buffers hold tens of megabytes of a connection, and so may all of one download.
	if whole == len(bodies) {
		t.Errorf("a deleted session was downloaded %d times to the end", whole)
	}
}

// bigBodies: what is larger or deeper than anything a client needs is refused early.
func (k *target) bigBodies(t *testing.T) {
	s := k.session(t, "box")
	path := endpoint(mine) + "/executions?identifier=" + s.id
	for name, body := range map[string]io.Reader{
		"endless":      io.LimitReader(zeros{}, 1<<30),
		"spaces":       io.LimitReader(spaces{}, 1<<30),
		"deep":         strings.NewReader(`{"code":"1","x":` + strings.Repeat("[", 1<<20)),
		"deep objects": strings.NewReader(strings.Repeat(`{"properties":`, 1<<18)),
		"giant number": strings.NewReader(`{"code":"1","timeoutInSeconds":1` +
			strings.Repeat("0", 1<<20) + `}`),
		"giant exponent": strings.NewReader(`{"code":"1","timeoutInSeconds":1e999999999}`),
		"negative":       strings.NewReader(`{"code":"1","timeoutInSeconds":-1}`),
		"wrong types":    strings.NewReader(`{"code":{"a":1}}`),
		"not UTF-8":      strings.NewReader("\xff\xfe{\x00}\x00"),
		"base64 of it":   strings.NewReader(`{"code":"//79","codeInputType":"inlineBase64"}`),
		"big output":     strings.NewReader(`{"code":"1","outputStreamsMaxLength":1000000000000}`),
	} {
		if status, text := k.tryUpload(t, request{"POST", path, bearer(k.token),
			body}); status < 400 || status >= 500 {
			t.Errorf("%s: %d %.200s", name, status, text)
		}
	}
	const parts = "--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n1\r\n"
	header := bearer(k.token)
	header.Set("Content-Type", "multipart/form-data; boundary=b")
	for name, body := range map[string]io.Reader{
		"parts": strings.NewReader(strings.Repeat(parts, 10000) + "--b--\r\n"),
		"a header": strings.NewReader(
			"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" +
				strings.Repeat("n", 1<<20) + "\"\r\n\r\n1\r\n--b--\r\n"),
		"headers": strings.NewReader("--b\r\n" + strings.Repeat("X: y\r\n", 100000) +
			"\r\n1\r\n--b--\r\n"),
		"no end": strings.NewReader(
			"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n1"),
		"endless file": io.MultiReader(strings.NewReader(
			"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n"),
			io.LimitReader(zeros{}, 150<<20)),
	} {
		status, text := k.tryUpload(t, request{"POST", endpoint(mine) + "/files?identifier=" + s.id,
			header, body})
		if status < 400 {
			t.Errorf("form with %s: %d %.200s", name, status, text)
		}
	}
	if files, err := k.Files(t.Context(), mine, s.id, "", true); err != nil || len(files) != 0 {
		t.Errorf("refused uploads left %v, %v", files, err)
	}
}

// tryUpload is send for a body that the server may refuse before it has come whole: a
// connection that it closes meanwhile counts as 413.
func (k *target) tryUpload(t *testing.T, r request) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), r.method, "http://"+k.addr+r.path, r.body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = r.header
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return http.StatusRequestEntityTooLarge, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
