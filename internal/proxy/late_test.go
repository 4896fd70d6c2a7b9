package proxy

import (
	"io"
	"net/http"
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
	c.serve(8080, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	p := New(Options{})
	t.Cleanup(p.Close)
	body := &lateBody{over: make(chan struct{}), asked: make(chan struct{}), again: make(chan struct{})}
	srv := serveFunc(t, func(w http.ResponseWriter, r *http.Request) error {
		r.Body = body
		return p.Serve(w, r, c, Target{Port: 8080, HTTP2: true, Path: "/"})
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
