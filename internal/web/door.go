package web

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sandpool/sandpool/client"
)

// maxAnswer bounds an answer of the API that a page is made from.
const maxAnswer = 16 << 20

// csrfHeader carries the visit's word against forged requests.
const csrfHeader = "X-Csrf-Token"

// door passes a request of a page's script on to the API, as the one who has signed in.
func (w *Web) door(rw http.ResponseWriter, r *http.Request) {
	v, ok := w.visits.of(r)
	if !ok {
		http.Error(rw, "signed out", http.StatusUnauthorized)
		return
	}
	if from := r.Header.Get("Sec-Fetch-Site"); from != "" && from != "same-origin" &&
		from != "none" {
		http.Error(rw, "not from this page", http.StatusForbidden)
		return
	}
	upgrade := r.Header.Get("Upgrade") != ""
	if upgrade && !sameOrigin(r) {
		http.Error(rw, "not from this page", http.StatusForbidden)
		return
	}
	// What a browser saves is in no script's reach.
	saved := r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" && !upgrade
	if !saved && !v.knows(wordOf(r, upgrade)) {
		http.Error(rw, "the page is out of date: reload it", http.StatusForbidden)
		return
	}
	ctx := r.Context()
	if upgrade {
		var done context.CancelFunc
		ctx, done = w.visits.during(ctx, v, lookEvery)
		defer done()
	}
	in := r.Clone(ctx)
	in.Header.Del(socketProtocol)
	for _, name := range []string{"Cookie", "Origin", "Referer", "X-Apikey", csrfHeader} {
		in.Header.Del(name)
	}
	in.Header.Set("Authorization", "Bearer "+v.token)
	rest := strings.TrimPrefix(r.URL.EscapedPath(), "/ui/api")
	path, err := url.PathUnescape(rest)
	if err != nil {
		http.Error(rw, "the path cannot be read", http.StatusBadRequest)
		return
	}
	in.URL.Path, in.URL.RawPath = path, rest
	in.RequestURI = rest
	if r.URL.RawQuery != "" {
		in.RequestURI += "?" + r.URL.RawQuery
	}
	w.api.ServeHTTP(&shut{ResponseWriter: rw, upgrade: upgrade}, in)
}

const (
	// socketProtocol is the one header of a WebSocket that a script chooses.
	socketProtocol = "Sec-Websocket-Protocol"
	// doorProtocol is what a script asks for there first; the visit's word comes second.
	doorProtocol = "sandpool"
	// lookEvery is how soon a connection ends after its visit has timed out.
	lookEvery = time.Minute
)

// wordOf returns the word against forged requests that a request brings.
func wordOf(r *http.Request, upgrade bool) string {
	if !upgrade {
		return r.Header.Get(csrfHeader)
	}
	first, word, _ := strings.Cut(r.Header.Get(socketProtocol), ",")
	if strings.TrimSpace(first) != doorProtocol {
		return ""
	}
	return strings.TrimSpace(word)
}

// sameOrigin reports whether a page of this host asks for a connection. Browsers name the page's
// origin whenever they ask for a WebSocket, and let every page ask.
func sameOrigin(r *http.Request) bool {
	u, err := url.Parse(r.Header.Get("Origin"))
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host) &&
		(r.TLS == nil || u.Scheme == "https")
}

// shut makes an answer of the API nothing that a browser would draw or run with the rights of the
// dashboard, whatever a session has put into it.
type shut struct {
	http.ResponseWriter
	begun   bool
	upgrade bool
}

// Unwrap lets a handler flush, set deadlines and take the connection.
func (s *shut) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s *shut) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols && s.upgrade {
		s.Header().Del("Set-Cookie")
		s.Header().Set(socketProtocol, doorProtocol)
	}
	if status >= 200 && !s.begun {
		s.begun = true
		h := s.Header()
		h.Del("Set-Cookie")
		h.Del("Refresh")
		h.Del("Link")
		h.Del("Clear-Site-Data")
		h.Del("Service-Worker-Allowed")
		h.Set("Content-Security-Policy", "default-src 'none'; sandbox; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if h.Get("Content-Disposition") == "" {
			h.Set("Content-Disposition", "attachment")
		}
		if status >= 300 && status < 400 {
			h.Del("Location") // it would lead around the door
		}
	}
	s.ResponseWriter.WriteHeader(status)
}

func (s *shut) Write(p []byte) (int, error) {
	if !s.begun {
		s.WriteHeader(http.StatusOK)
	}
	return s.ResponseWriter.Write(p)
}

// client returns a client of the API inside the process, with a token, for a page that r asked for.
func (w *Web) client(r *http.Request, token string) (*client.Client, error) {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return client.New(client.Config{Endpoint: scheme + "://" + r.Host, Token: token,
		HTTPClient: &http.Client{Transport: inside{api: w.api, page: r}}})
}

// inside is the way to the API that does not leave the process.
type inside struct {
	api  http.Handler
	page *http.Request // the caller's address and connection are those of the page's request
}

// RoundTrip implements http.RoundTripper. The answer is in memory when it returns.
func (i inside) RoundTrip(req *http.Request) (*http.Response, error) {
	in := req.Clone(req.Context())
	in.RequestURI, in.Host = req.URL.RequestURI(), req.URL.Host
	in.RemoteAddr, in.TLS = i.page.RemoteAddr, i.page.TLS
	if in.Body == nil {
		in.Body = http.NoBody
	}
	out := &buffer{header: http.Header{}}
	i.api.ServeHTTP(out, in)
	if out.full {
		return nil, fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	if out.status == 0 {
		out.status = http.StatusOK
	}
	return &http.Response{StatusCode: out.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: out.header,
		Body:   io.NopCloser(&out.body), ContentLength: int64(out.body.Len()), Request: req}, nil
}

// buffer is an answer in memory.
type buffer struct {
	header http.Header
	status int
	body   bytes.Buffer
	full   bool
}

func (b *buffer) Header() http.Header { return b.header }

func (b *buffer) WriteHeader(status int) {
	if b.status == 0 && status >= 200 {
		b.status = status
	}
}

func (b *buffer) Write(p []byte) (int, error) {
	b.WriteHeader(http.StatusOK)
	if b.body.Len()+len(p) > maxAnswer {
		b.full = true
		return 0, io.ErrShortBuffer
	}
	return b.body.Write(p)
}
