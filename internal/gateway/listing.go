package gateway

import (
	"context"
	"encoding/base64"
	"net/http"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/gateway/wire"
	"github.com/sandpool/sandpool/internal/interpreter"
)

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
	size, after, err := c.piece()
	if err != nil {
		return err
	}
	return g.use(c, func(ctx context.Context, in *interpreter.Interpreter) error {
		var found []agent.FileInfo
		release := func() {}
		if size == 0 {
			found, release, err = in.List(ctx, dir, recursive)
		}
		if size > 0 {
			found, release, err = in.ListPage(ctx, dir, recursive, after, size)
		} else if sandpool.ClassOf(err) == sandpool.TooLarge { // its first page, then
			size = agent.MaxEntries
			first, giveBack, failed := in.ListPage(ctx, dir, recursive, "", size)
			if sandpool.ClassOf(failed) != sandpool.Unsupported {
				found, release, err = first, giveBack, failed
			}
		}
		defer release()
		if err != nil {
			return err
		}
		list := api.Files{Value: make([]api.File, len(found))}
		for i, f := range found {
			list.Value[i] = wire.File(f)
		}
		if n := len(found); n > 0 && n == size {
			last := found[n-1].Path
			if len(found[n-1].Raw) > 0 {
				last = string(found[n-1].Raw)
			}
			link := g.link(c, "skipToken", base64.RawURLEncoding.EncodeToString([]byte(last)))
			list.NextLink = &link
		}
		return g.list(c, list, release)
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
		found, release, err := in.List(ctx, dir, true)
		if sandpool.ClassOf(err) == sandpool.TooLarge {
			found, release, err = in.List(ctx, dir, false)
		}
		defer release()
		if err != nil {
			return err
		}
		files := found[:0]
		for _, f := range found {
			if f.Type == agent.File {
				files = append(files, f)
			}
		}
		return g.list(c, wire.OldFiles(files), release)
	})
}

// list answers with a list of files, whose memory is given back once the answer is made.
func (g *Gateway) list(c *call, v any, release func()) error {
	b, err := arm.Encode(v)
	if err != nil {
		return err
	}
	release()
	return g.deliver(c, http.StatusOK, b)
}

// piece reads how large a piece of a list the caller wants, and after which path; 0 means that it
// has not said.
func (c *call) piece() (size int, after string, err error) {
	token, err := c.query.Get("skipToken")
	if err != nil {
		return 0, "", err
	}
	most := 0
	if token != "" {
		most = agent.MaxEntries
	}
	if size, err = c.number("pageSize", most, 1, agent.MaxEntries); err != nil {
		return 0, "", err
	}
	path, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return 0, "", sandpool.Errorf(sandpool.Invalid, wire.CodeValidation, "skipToken",
			"The query parameter 'skipToken' is not from a nextLink.")
	}
	return size, string(path), nil
}

// watchFiles tells what happens beneath a directory, as a stream, for as long as the caller reads
// and the session lasts.
func (g *Gateway) watchFiles(c *call) error {
	dir, err := c.directory()
	if err != nil {
		return err
	}
	return g.use(c, func(ctx context.Context, in *interpreter.Interpreter) error {
		ctx, cancel := g.whileServing(ctx)
		defer cancel()
		return g.events(c, func(send func(id int64, kind string, v any) error) error {
			number := int64(0)
			return in.Watch(ctx, dir, func(e agent.FileEvent) error {
				number++
				return send(number, string(e.Type), wire.FileEvent(number, e))
			})
		})
	})
}
