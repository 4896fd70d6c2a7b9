package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// fileContent sends a file, or the range of it that the call asks for.
func (g *Gateway) fileContent(c *call) error {
	file, err := c.file()
	if err != nil {
		return err
	}
	return g.send(c, file)
}

// downloadFile is fileContent on a legacy path, which has the name in the query.
func (g *Gateway) downloadFile(c *call) error {
	name, err := c.query.get("filename")
	if err != nil {
		return err
	}
	file, err := c.resolve(name)
	if err != nil {
		return err
	}
	return g.send(c, file)
}

func (g *Gateway) send(c *call, file string) error {
	return g.use(c, func(ctx context.Context, in Interpreter) error {
		content, err := in.Open(ctx, file, c.r.Header.Get("Range"))
		if err != nil {
			return err
		}
		defer content.Body.Close()
		describe(c.w.Header(), content, file)
		c.w.WriteHeader(content.Status)
		if c.r.Method == http.MethodHead || content.Status == http.StatusRequestedRangeNotSatisfiable {
			return nil
		}
		return g.pour(c.w, content.Body)
	})
}

// describe sets the headers of a file's content. It was written by code that
// nobody has reviewed, so a browser must never run it as a page of this server.
func describe(h http.Header, content *agent.Content, file string) {
	for name, values := range content.Header {
		h[name] = values
	}
	if content.Status == http.StatusRequestedRangeNotSatisfiable {
		h.Set("Content-Length", "0")
		h.Del("Content-Type")
	}
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": path.Base(file)}))
	h.Set("Content-Security-Policy", "sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
}

// pour copies r to the caller, who must take each piece within the stall limit.
func (g *Gateway) pour(w http.ResponseWriter, r io.Reader) error {
	control := http.NewResponseController(w)
	// The server sets no deadline of its own for the connection's next answer.
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	buf := make([]byte, 64<<10)
	for {
		n, readErr := r.Read(buf)
		if n > 0 {
			if err := control.SetWriteDeadline(time.Now().Add(g.options.Stall)); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return fmt.Errorf("set the write deadline: %w", err)
			}
			if _, err := w.Write(buf[:n]); err != nil {
				return &sandpool.Error{Class: sandpool.Unavailable, Message: "The caller took no more of the file.", Err: err}
			}
		}
		switch {
		case errors.Is(readErr, io.EOF):
			return nil
		case readErr != nil:
			return fmt.Errorf("read the file's content: %w", readErr)
		}
	}
}
