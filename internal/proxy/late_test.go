package proxy

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// A lateBody is a request's body of which a client still reads when the request is over: it holds
// its first Read until then, has nothing, and is asked again.
type lateBody struct {
	over, asked, again chan struct{}
	once               sync.Once
}

func (b *lateBody) Read([]byte) (int, error) {
	first := false
	b.once.Do(func() { first = true })
	if first {
		close(b.asked)
		<-b.over
		return 0, nil
	}
	close(b.again)
	return 0, io.EOF
}

func (b *lateBody) Close() error { return nil }

// The client for containers that speak HTTP/2 may read a request's body when its handler has
// returned. Then the server's writer is no longer there, and a deadline that is set by it would
// end the whole program.
func TestBodyReadAfterHandler(t *testing.T) {
	c := newContainer(t)
	c.serve(8080, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	}))
	p := New(Options{})
	t.Cleanup(p.Close)
	body := &lateBody{over: make(chan struct{}), asked: make(chan struct{}),
		again: make(chan struct{})}
	srv := serveFunc(t, func(w http.ResponseWriter, r *http.Request) error {
		r.Body = body
		return serve(p, w, r, c, Target{Port: 8080, HTTP2: true, Path: "/"})
	})
	var two http.Protocols
	two.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: &two}}
	defer client.CloseIdleConnections()
	go func() {
		<-body.asked
		c.end("it was stopped")
	}()
	own, hold := io.Pipe() // what the caller sends never ends; the container gets body instead
	defer hold.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, own)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, resp.Body) // its end comes after the handler's
	resp.Body.Close()
	if resp.StatusCode != http.StatusGone || err != nil {
		t.Errorf("%s, %v; want 410", resp.Status, err)
	}
	close(body.over)
	select {
	case <-body.again:
	case <-time.After(time.Minute):
		t.Error("the body is not read again, so nothing was tested")
	}
}

// A tardyBody tells of its end some time after the server has met it.
type tardyBody struct{ io.ReadCloser }

func (b tardyBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		<-time.After(20 * time.Millisecond)
	}
	return n, err
}

// An answer may come when the body's last part has left and its sender does not know yet that it
// was the last. The caller's connection serves further requests all the same.
func TestAnswerBeforeSenderEnds(t *testing.T) {
	const size = 4 * smallBody
	c := newContainer(t)
	c.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		_, _ = io.CopyN(io.Discard, r.Body, size) // and answers
	}))
	p := New(Options{})
	t.Cleanup(p.Close)
	srv := serveFunc(t, func(w http.ResponseWriter, r *http.Request) error {
		r.Body = tardyBody{r.Body}
		return serve(p, w, r, c, Target{Port: 8080, Path: "/"})
	})
	for range 3 {
		body := io.MultiReader(strings.NewReader(strings.Repeat("x", size))) // of unknown length
		resp, err := http.Post(srv.URL, "text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || err != nil {
			t.Errorf("%s, %v", resp.Status, err)
		}
	}
}
