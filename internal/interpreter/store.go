package interpreter

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// storeTime is for what may take as long as a disk full of data does.
const storeTime = 10 * time.Minute

// Store is what an Agent does with files besides reading and replacing them; agent.Client describes
// it.
type Store interface {
	ListPage(ctx context.Context, dir string, recursive bool, after string, limit int,
		room agent.Room) ([]agent.FileInfo, error)
	Mkdir(ctx context.Context, path string) error
	Move(ctx context.Context, from, to string, overwrite bool) (agent.FileInfo, error)
	Copy(ctx context.Context, from, to string, overwrite bool) (agent.FileInfo, error)
	Patch(ctx context.Context, path string, offset int64, r io.Reader,
		limit int64) (agent.FileInfo, error)
	Digest(ctx context.Context, path string) (agent.FileInfo, error)
	Pack(ctx context.Context, dir, format string) (io.ReadCloser, error)
	Unpack(ctx context.Context, dir, format string, r io.Reader, limit int64) (agent.Unpacked,
		error)
}

var _ Store = (*agent.Client)(nil)

// store returns the agent's Store, or an error if it has none.
func (in *Interpreter) store() (Store, error) {
	if s, ok := in.agent.(Store); ok {
		return s, nil
	}
	return nil, sandpool.Errorf(sandpool.Unsupported, "", "path",
		"The session's sandbox cannot do this with files.")
}

func inStore[T any](ctx context.Context, in *Interpreter, fn func(*call, Store) (T, error)) (T,
	error) {
	return ask(ctx, in, storeTime, func(c *call) (T, error) {
		s, err := in.store()
		if err != nil {
			var none T
			return none, err
		}
		return fn(c, s)
	})
}

// ListPage returns at most limit entries of a directory after a path, as agent.Client does. release
// gives back the memory of a long list.
func (in *Interpreter) ListPage(ctx context.Context, dir string, recursive bool, after string,
	limit int) (files []agent.FileInfo, release func(), err error) {
	r := &room{in: in, full: "The server has too many large answers to send. Try again, or " +
		"ask for smaller pages."}
	files, err = inStore(ctx, in, func(c *call, s Store) ([]agent.FileInfo, error) {
		return s.ListPage(c.ctx, dir, recursive, after, limit, r)
	})
	if err != nil {
		r.giveBack()
	}
	return files, r.giveBack, err
}

// Watch calls emit with what happens beneath a directory, until ctx or the session ends. An error
// of emit ends the call and is returned as it is.
func (in *Interpreter) Watch(ctx context.Context, dir string,
	emit func(agent.FileEvent) error) error {
	var own error
	_, err := ask(ctx, in, answerTime, func(c *call) (struct{}, error) {
		w, ok := in.agent.(interface {
			Watch(ctx context.Context, dir string, emit func(agent.FileEvent) error) error
		})
		if !ok {
			return struct{}{}, sandpool.Errorf(sandpool.Unsupported, "", "path",
				"The session's sandbox does not watch files.")
		}
		return struct{}{}, w.Watch(c.ctx, dir, func(e agent.FileEvent) error {
			c.pause() // it may say nothing for as long as it likes
			own = emit(e)
			return own
		})
	})
	if own != nil {
		return own
	}
	return err
}

// Mkdir makes a directory and its parents.
func (in *Interpreter) Mkdir(ctx context.Context, path string) error {
	_, err := inStore(ctx, in, func(c *call, s Store) (struct{}, error) {
		return struct{}{}, s.Mkdir(c.ctx, path)
	})
	return err
}

// Move renames a file or a directory.
func (in *Interpreter) Move(ctx context.Context, from, to string,
	overwrite bool) (agent.FileInfo, error) {
	return inStore(ctx, in, func(c *call, s Store) (agent.FileInfo, error) {
		return s.Move(c.ctx, from, to, overwrite)
	})
}

// Copy copies a file, or a directory with all that is in it.
func (in *Interpreter) Copy(ctx context.Context, from, to string,
	overwrite bool) (agent.FileInfo, error) {
	return inStore(ctx, in, func(c *call, s Store) (agent.FileInfo, error) {
		return s.Copy(c.ctx, from, to, overwrite)
	})
}

// Digest describes a file with the SHA-256 of its content.
func (in *Interpreter) Digest(ctx context.Context, path string) (agent.FileInfo, error) {
	return inStore(ctx, in, func(c *call, s Store) (agent.FileInfo, error) {
		return s.Digest(c.ctx, path)
	})
}

// Patch writes r to a file at its end, as agent.Client does. An error of r is returned as it is.
func (in *Interpreter) Patch(ctx context.Context, path string, offset int64, r io.Reader,
	limit int64) (agent.FileInfo, error) {
	return give(ctx, in, r, func(c *call, s Store, r io.Reader) (agent.FileInfo, error) {
		return s.Patch(c.ctx, path, offset, r, limit)
	})
}

// Unpack makes what an archive holds beneath a directory. An error of r is returned as it is.
func (in *Interpreter) Unpack(ctx context.Context, dir, format string, r io.Reader,
	limit int64) (agent.Unpacked, error) {
	return give(ctx, in, r, func(c *call, s Store, r io.Reader) (agent.Unpacked, error) {
		return s.Unpack(c.ctx, dir, format, r, limit)
	})
}

// give calls fn, which sends what r holds.
func give[T any](ctx context.Context, in *Interpreter, r io.Reader, fn func(*call, Store,
	io.Reader) (T, error)) (done T, err error) {
	s, err := in.store()
	if err != nil {
		return done, err
	}
	c := in.begin(ctx, storeTime)
	defer c.end()
	from := &source{r: r, call: c}
	done, err = fn(c, s, from)
	whole, failed := from.state()
	switch {
	case failed != nil && err != nil && asError(err) == nil:
		return done, failed
	case err == nil && !whole:
		err = errEarly
	}
	return done, c.explain(err)
}

// Pack opens a directory as an archive. Each piece that is read must come within Options.Stall.
func (in *Interpreter) Pack(ctx context.Context, dir, format string) (io.ReadCloser, error) {
	s, err := in.store()
	if err != nil {
		return nil, err
	}
	c := in.begin(ctx, answerTime)
	opened, err := s.Pack(c.ctx, dir, format)
	c.pause()
	if err != nil {
		defer c.end()
		return nil, c.explain(err)
	}
	if opened == nil {
		return nil, errors.New("the sandbox sent no archive")
	}
	return &body{ReadCloser: opened, call: c}, nil
}
