package gateway

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/gateway/body"
	"github.com/sandpool/sandpool/internal/gateway/wire"
	"github.com/sandpool/sandpool/internal/interpreter"
)

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
		return "", sandpool.Errorf(sandpool.Invalid, wire.CodeValidation, "filename",
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

func (g *Gateway) statFile(c *call) error {
	old, err := c.isOld()
	if err != nil {
		return err
	}
	file, err := c.file()
	if err != nil {
		return err
	}
	digest, err := c.choice("digest", "sha256")
	if err != nil {
		return err
	}
	return g.use(c, func(ctx context.Context, in *interpreter.Interpreter) error {
		stat := in.Stat
		if digest != "" {
			stat = in.Digest
		}
		f, err := stat(ctx, file)
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

// content returns the request's body as what is stored as it is, of at most limit bytes.
func (g *Gateway) content(c *call, limit int64) (*body.Gate, error) {
	if c.r.ContentLength > limit {
		return nil, agent.TooLarge(limit)
	}
	plain, err := arm.Body(c.w, c.r)
	if err != nil {
		return nil, err
	}
	in := body.New(c.w, http.MaxBytesReader(c.w, plain, limit), g.options.Stall)
	return in.Gate(in), nil
}

// take has fn store what the call brings, at most limit bytes, and answers with the file.
func (g *Gateway) take(c *call, limit int64, fn func(ctx context.Context,
	in *interpreter.Interpreter, r io.Reader) (any, error)) error {
	r, err := g.content(c, limit)
	if err != nil {
		return err
	}
	return g.use(c, func(ctx context.Context, in *interpreter.Interpreter) error {
		v, err := fn(ctx, in, r)
		if err != nil {
			return r.Shut(err)
		}
		return arm.WriteJSON(c.w, http.StatusOK, v)
	})
}

// putFile stores the body as a file, whole or not at all.
func (g *Gateway) putFile(c *call) error {
	file, err := c.file()
	if err != nil {
		return err
	}
	return g.take(c, g.options.MaxUpload, func(ctx context.Context, in *interpreter.Interpreter,
		r io.Reader) (any, error) {
		f, err := in.Upload(ctx, file, r, g.options.MaxUpload)
		return wire.File(f), err
	})
}

// patchFile writes the body at the end of a file. The caller names where that is, unless it does
// not matter; so what has arrived of a broken upload is gone on with, and nothing comes twice.
func (g *Gateway) patchFile(c *call) error {
	file, err := c.file()
	if err != nil {
		return err
	}
	text, err := c.query.Get("offset")
	if err != nil {
		return err
	}
	offset, err := strconv.ParseInt(text, 10, 64)
	if strings.EqualFold(text, "end") {
		offset, err = -1, nil
	} else if offset < 0 {
		err = strconv.ErrRange
	}
	if err != nil {
		return sandpool.Errorf(sandpool.Invalid, wire.CodeValidation, "offset",
			"The query parameter 'offset' is %q; use the size that the file has, 0 to begin it, or "+
				"'end'.", clip(text))
	}
	return g.take(c, g.options.MaxUpload, func(ctx context.Context, in *interpreter.Interpreter,
		r io.Reader) (any, error) {
		f, err := in.Patch(ctx, file, offset, r, g.options.MaxUpload)
		return wire.File(f), err
	})
}

// changeFile moves or copies a file or a directory, or makes a directory.
func (g *Gateway) changeFile(c *call) error {
	file, err := c.file()
	if err != nil {
		return err
	}
	operation, err := c.choice("operation", "move", "copy", "mkdir")
	if err != nil {
		return err
	}
	to, err := c.query.Get("to")
	if err != nil {
		return err
	}
	overwrite, err := c.flag("overwrite")
	if err != nil {
		return err
	}
	switch {
	case operation == "":
		return sandpool.Errorf(sandpool.Invalid, wire.CodeValidation, "operation",
			"The query parameter 'operation' is missing; use move, copy or mkdir.")
	case operation != "mkdir":
		if to, err = agent.CleanPathOf("to", to); err != nil {
			return err
		}
		if to == "" {
			return sandpool.Errorf(sandpool.Invalid, wire.CodeValidation, "to",
				"The query parameter 'to' is missing; give the new path below /mnt/data.")
		}
	}
	return g.use(c, func(ctx context.Context, in *interpreter.Interpreter) error {
		var f agent.FileInfo
		var err error
		switch operation {
		case "move":
			f, err = in.Move(ctx, file, to, overwrite)
		case "copy":
			f, err = in.Copy(ctx, file, to, overwrite)
		default:
			if err = in.Mkdir(ctx, file); err == nil {
				f, err = in.Stat(ctx, file)
			}
		}
		if err != nil {
			return err
		}
		return arm.WriteJSON(c.w, http.StatusOK, wire.File(f))
	})
}

// archive reads which directory of a call is meant, and in which form it comes.
func (c *call) archive() (dir, format string, err error) {
	if dir, err = c.directory(); err != nil {
		return "", "", err
	}
	format, err = c.choice("format", "tar", "zip")
	return dir, cmp.Or(format, "tar"), err
}

// packFiles sends a directory as an archive.
func (g *Gateway) packFiles(c *call) error {
	dir, format, err := c.archive()
	if err != nil {
		return err
	}
	return g.use(c, func(ctx context.Context, in *interpreter.Interpreter) error {
		r, err := in.Pack(ctx, dir, format)
		if err != nil {
			return err
		}
		defer r.Close()
		describe(c.w.Header(), &agent.Content{Header: http.Header{"Content-Type": {"application/" +
			map[string]string{"tar": "x-tar", "zip": "zip"}[format]}}},
			path.Base(cmp.Or(dir, "data"))+"."+format)
		if c.r.Method == http.MethodHead {
			return nil
		}
		if err := g.pour(c, r); err != nil {
			panic(http.ErrAbortHandler) // what the caller has must not pass for the whole
		}
		return nil
	})
}

// maxArchive is how much longer than one file an archive may be.
const maxArchive = 16

// unpackFiles makes the files of an archive.
func (g *Gateway) unpackFiles(c *call) error {
	dir, format, err := c.archive()
	if err != nil {
		return err
	}
	limit := maxArchive * g.options.MaxUpload
	return g.take(c, limit, func(ctx context.Context, in *interpreter.Interpreter,
		r io.Reader) (any, error) {
		done, err := in.Unpack(ctx, dir, format, r, limit)
		return api.Unpacked{Files: done.Files}, err
	})
}
