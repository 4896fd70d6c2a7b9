package web_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// socketAPI echoes over WebSockets for the token "good", until the request's context ends.
func socketAPI(rw http.ResponseWriter, r *http.Request) {
	if !strings.Contains(r.URL.Path, "/terminals/") {
		fakeAPI(rw, r)
		return
	}
	if r.Header.Get("Authorization") != "Bearer good" || r.Header.Get("Cookie") != "" ||
		r.Header.Get("Sec-Websocket-Protocol") != "" {
		http.Error(rw, "no", http.StatusUnauthorized)
		return
	}
	rw.Header().Set("Set-Cookie", "sandpool-ui=mine")
	c, err := websocket.Accept(rw, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	for {
		kind, data, err := c.Read(r.Context())
		if err != nil || c.Write(r.Context(), kind, data) != nil {
			return
		}
	}
}

// dial asks the door of a server for a terminal as a browser does, with headers in pairs, and
// returns the connection or the status of the refusal.
func (s *site) dial(t *testing.T, url string, protocols []string,
	headers ...string) (*websocket.Conn, *http.Response) {
	t.Helper()
	h := http.Header{}
	if s.cookie != nil {
		h.Set("Cookie", s.cookie.Name+"="+s.cookie.Value)
	}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, res, err := websocket.Dial(ctx, url+"/ui/api/x/terminals/main",
		&websocket.DialOptions{HTTPHeader: h, Subprotocols: protocols})
	if res == nil {
		t.Fatal(err)
	}
	if c != nil {
		t.Cleanup(func() { _ = c.CloseNow() })
	}
	return c, res
}

// TestSockets: a WebSocket passes the door for a page of the dashboard's own, with the visit's word
// and as long as the visit lasts, and for nobody else.
func TestSockets(t *testing.T) {
	s := newSite(t)
	s.useAPI(http.HandlerFunc(socketAPI))
	srv := httptest.NewServer(s.web)
	t.Cleanup(srv.Close)
	word := s.signIn()
	good := []string{"sandpool", word}
	for name, try := range map[string]struct {
		protocols []string
		headers   []string
		status    int
	}{
		"a foreign origin":   {good, []string{"Origin", "https://evil.example"}, 403},
		"another port":       {good, []string{"Origin", "http://127.0.0.1:1"}, 403},
		"an opaque origin":   {good, []string{"Origin", "null"}, 403},
		"no origin":          {good, nil, 403},
		"a cross-site fetch": {good, []string{"Origin", srv.URL, "Sec-Fetch-Site", "cross-site"}, 403},
		"no word":            {nil, []string{"Origin", srv.URL}, 403},
		"a wrong word":       {[]string{"sandpool", "wrong"}, []string{"Origin", srv.URL}, 403},
		"the word alone":     {[]string{word}, []string{"Origin", srv.URL}, 403},
		"as a saved file": {nil, []string{"Origin", srv.URL, "Sec-Fetch-Mode", "navigate"},
			403},
		"the word in a header": {nil, []string{"Origin", srv.URL, "X-Csrf-Token", word}, 403},
		"no visit": {good, []string{"Origin", srv.URL, "Cookie", s.cookie.Name + "=other"},
			401},
	} {
		if _, res := s.dial(t, srv.URL, try.protocols, try.headers...); res.StatusCode !=
			try.status {
			t.Errorf("%s: status %d, want %d", name, res.StatusCode, try.status)
		}
	}
	c, res := s.dial(t, srv.URL, good, "Origin", srv.URL, "Sec-Fetch-Site", "same-origin")
	if c == nil {
		t.Fatalf("the page's own connection: status %d", res.StatusCode)
	}
	if c.Subprotocol() != "sandpool" || res.Header.Get("Set-Cookie") != "" {
		t.Errorf("the protocol is %q, the answer %v", c.Subprotocol(), res.Header)
	}
	if err := c.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, text, err := c.Read(t.Context()); err != nil || string(text) != "hello" {
		t.Fatalf("%q, %v", text, err)
	}
	s.want(s.ask("POST", "/ui/sign-out", "csrf="+word), http.StatusSeeOther)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, _, err := c.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("after the sign-out the connection gives %v", err)
	}
}

// TestVendored: the terminal's library is what its makers have published.
func TestVendored(t *testing.T) {
	for name, want := range map[string]string{
		"xterm.js":     "14903579ff54664cd72f8e8699e6961a6272c21863ec1c3b118cdc8af5d4a972",
		"xterm.css":    "854a7c0fb70e8b1a083c16797ab827299fb18744f5ad34f227b48337e33293c6",
		"addon-fit.js": "ba3ea256ce0620a0992a197d6c9baea64823fc93d8da07a9e366ca9943c18527",
	} {
		s := newSite(t)
		text := s.want(s.ask("GET", "/ui/static/xterm/"+name, ""), http.StatusOK)
		if got := fmt.Sprintf("%x", sha256.Sum256([]byte(text))); got != want {
			t.Errorf("%s has the hash %s, want %s", name, got, want)
		}
	}
}

// timed is an answer that notes by when it must have been taken.
type timed struct {
	*httptest.ResponseRecorder
	until, first time.Time
}

func (w *timed) SetWriteDeadline(t time.Time) error { w.until = t; return nil }

func (w *timed) WriteHeader(status int) {
	w.first = w.until
	w.ResponseRecorder.WriteHeader(status)
}

// TestTaken: who does not read a file, for which nobody signs in, loses the connection.
func TestTaken(t *testing.T) {
	w := &timed{ResponseRecorder: httptest.NewRecorder()}
	newSite(t).web.ServeHTTP(w, httptest.NewRequest("GET", "/ui/static/xterm/xterm.js", nil))
	if left := time.Until(w.first); left <= 0 || left > 2*time.Minute || w.Body.Len() == 0 {
		t.Errorf("it has %s to be read", left)
	}
}
