package openapi

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the description and the page
	"encoding/hex"
	"net/http"
	"sync"
	"time"
)

//go:embed openapi.json
var document []byte

// JSONPath is where the description is, PagePath where its page is.
const (
	JSONPath = "/openapi.json"
	PagePath = "/openapi"
)

// takeTime is how long a caller may take to read an answer.
const takeTime = 30 * time.Second

// Document returns the description. The caller does not change it.
func Document() []byte { return document }

// policy lets the page have its own style, and nothing else.
const policy = "default-src 'none'; style-src 'sha256-%'; base-uri 'none'; form-action 'none'; " +
	"frame-ancestors 'none'"

// Register serves the description and its page, to everybody: it is the same for all servers of a
// version.
func Register(handle func(pattern string, h http.Handler)) {
	handle("GET "+JSONPath, fixed("application/json; charset=utf-8", func() ([]byte, error) {
		return document, nil
	}))
	handle("GET "+PagePath, page())
}

// fixed serves what text returns, which is asked once, for the first request.
func fixed(media string, text func() ([]byte, error)) http.HandlerFunc {
	type made struct {
		text []byte
		tag  string
		err  error
	}
	once := sync.OnceValue(func() (m made) {
		m.text, m.err = text()
		sum := sha256.Sum256(m.text)
		m.tag = `"` + hex.EncodeToString(sum[:8]) + `"`
		return m
	})
	return func(w http.ResponseWriter, r *http.Request) {
		// Nobody has shown a token, and who does not read keeps a connection from others.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(takeTime))
		m := once()
		if m.err != nil { // the description is part of the program, and a test renders it
			panic(m.err)
		}
		h := w.Header()
		h.Set("Content-Type", media)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-cache")
		h.Set("Etag", m.tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(m.text))
	}
}
