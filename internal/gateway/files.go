package gateway

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/gateway/wire"
	"github.com/sandpool/sandpool/internal/interpreter"
)

// use calls fn with the interpreter of the call's session, which is created if there is none.
func (g *Gateway) use(c *call, fn func(ctx context.Context,
	in *interpreter.Interpreter) error) error {
	identifier, err := c.identifier()
	if err != nil {
		return err
	}
	lease, err := g.pools.Acquire(c.r.Context(), c.pool, identifier)
	if err != nil {
		return err
	}
	defer lease.Release()
	return fn(c.r.Context(), g.within.Of(lease))
}

// isOld reports whether the call's api-version belongs to the old envelope. It
// decides only where the path does not; a version that is absent or unknown is new.
func (c *call) isOld() (bool, error) {
	v, err := c.query.Get("api-version")
	const firstNew = "2024-10-02"
	dated := len(v) >= len(firstNew) && strings.Trim(v[:len(firstNew)], "0123456789-") == ""
	return dated && v[:len(firstNew)] < firstNew, err
}

// directory returns the call's path parameter, relative to /mnt/data.
func (c *call) directory() (string, error) {
	p, err := c.query.Get("path")
	if err != nil {
		return "", err
	}
	return agent.CleanPath(p)
}

// resolve returns the path of a file that a caller names, relative to /mnt/data: name
// below the call's path parameter, or name alone if it begins with /mnt/data.
func (c *call) resolve(name string) (string, error) {
	dir, err := c.directory()
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(name, agent.DataDir+"/") {
		dir = ""
	}
	file, err := agent.CleanPath(name)
	if err != nil {
		return "", err
	}
	if file == "" {
		return "", sandpool.Errorf(sandpool.Invalid, codeValidation, "filename",
			"The file has no name; give one such as 'data.csv' or 'reports/data.csv'.")
	}
	return agent.CleanPath(path.Join(dir, file))
}

// file returns the path of the file in the call's URL. Callers that put
// /mnt/data/x into a URL lose the first slash to the one before it.
func (c *call) file() (string, error) {
	name := c.name
	if strings.HasPrefix("/"+name, agent.DataDir+"/") {
		name = "/" + name
	}
	return c.resolve(name)
}

func (g *Gateway) listFiles(c *call) error {
	old, err := c.isOld()
	if err != nil {
		return err
	}
	if old {
		return g.listFilesOld(c)
	}
	dir, err := c.directory()
	if err != nil {
		return err
	}
	recursive, err := c.flag("recursive")
	if err != nil {
		return err
	}
	return g.use(c, func(ctx context.Context, in *interpreter.Interpreter) error {
		found, err := in.List(ctx, dir, recursive)
		if err != nil {
			return err
		}
		files := make([]api.File, len(found))
		for i, f := range found {
			files[i] = wire.File(f)
		}
		return arm.WriteJSON(c.w, http.StatusOK, api.Files{Value: files})
	})
}

// listFilesOld lists files in the old envelope. It cannot tell a directory from
// a file, so the list holds the files of all directories by their paths; of a
// tree that is too large to be listed, those of the directory itself.
func (g *Gateway) listFilesOld(c *call) error {
	dir, err := c.directory()
	if err != nil {
		return err
	}
	return g.use(c, func(ctx context.Context, in *interpreter.Interpreter) error {
		found, err := in.List(ctx, dir, true)
		if sandpool.ClassOf(err) == sandpool.TooLarge {
			found, err = in.List(ctx, dir, false)
		}
		if err != nil {
			return err
		}
		files := found[:0]
		for _, f := range found {
			if f.Type == agent.File {
				files = append(files, f)
			}
		}
		return arm.WriteJSON(c.w, http.StatusOK, wire.OldFiles(files))
	})
}

// flag reads a truth value from the query.
func (c *call) flag(name string) (bool, error) {
	s, err := c.query.Get(name)
	if err != nil || s == "" {
		return false, err
	}
	b, err := strconv.ParseBool(strings.ToLower(s))
	if err != nil {
		return false, sandpool.Errorf(sandpool.Invalid, codeValidation, name,
			"The query parameter '%s' is %q; use true or false.", name, clip(s))
	}
	return b, nil
}

func (g *Gateway) statFile(c *call) error {
	old, err := c.isOld()
	if err != nil {
		return err
	}
	file, err := c.file()
	if err != nil {
		return err
	}
	return g.use(c, func(ctx context.Context, in *interpreter.Interpreter) error {
		f, err := in.Stat(ctx, file)
		switch {
		case err != nil:
			return err
		case old:
			return arm.WriteJSON(c.w, http.StatusOK, wire.OldFiles([]agent.FileInfo{f}))
		}
		return arm.WriteJSON(c.w, http.StatusOK, wire.File(f))
	})
}

// deleteFile deletes a file, or a directory with all that is in it.
func (g *Gateway) deleteFile(c *call) error {
	old, err := c.isOld()
	if err != nil {
		return err
	}
	file, err := c.file()
	if err != nil {
		return err
	}
	return g.use(c, func(ctx context.Context, in *interpreter.Interpreter) error {
		if err := in.Delete(ctx, file); err != nil {
			return err
		}
		if old {
			return arm.WriteJSON(c.w, http.StatusOK,
				api.Message{Message: "file deleted successfully"})
		}
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	})
}

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
	name, err := c.query.Get("filename")
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
	return g.use(c, func(ctx context.Context, in *interpreter.Interpreter) error {
		content, err := in.Open(ctx, file, c.r.Header.Get("Range"))
		if err != nil {
			return err
		}
		defer content.Body.Close()
		describe(c.w.Header(), content, file)
		c.w.WriteHeader(content.Status)
		if c.r.Method == http.MethodHead ||
			content.Status == http.StatusRequestedRangeNotSatisfiable {
			return nil
		}
		return g.pour(c, content.Body)
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
	h.Set("Content-Disposition", mime.FormatMediaType("attachment",
		map[string]string{"filename": path.Base(file)}))
	h.Set("Content-Security-Policy", "sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
}

// pour copies r to the caller, who must take each piece within the stall limit.
func (g *Gateway) pour(c *call, r io.Reader) error {
	control := http.NewResponseController(c.w)
	// The server sets no deadline of its own for the connection's next answer.
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	buf := make([]byte, 64<<10)
	for {
		n, readErr := r.Read(buf)
		if n > 0 {
			if err := control.SetWriteDeadline(time.Now().Add(g.options.Stall)); err != nil &&
				!errors.Is(err, http.ErrNotSupported) {
				return arm.NotTaken(err)
			}
			if _, err := c.w.Write(buf[:n]); err != nil {
				return arm.NotTaken(err)
			}
		}
		switch {
		case errors.Is(readErr, io.EOF):
			return nil
		case readErr != nil:
			return &sandpool.Error{Class: sandpool.Unavailable,
				Message: "The file's content ended early.", Err: readErr}
		}
	}
}
