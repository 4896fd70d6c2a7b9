package interpreter

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/sandpool/sandpool/internal/agent"
)

// List returns what is in a directory, sorted by path; with recursive also what is in
// its subdirectories. release gives back the memory of a long list.
func (in *Interpreter) List(ctx context.Context, dir string,
	recursive bool) (files []agent.FileInfo, release func(), err error) {
	r := &room{in: in, full: "The server has too many large answers to send. Try again, or " +
		"list a subdirectory."}
	files, err = ask(ctx, in, answerTime, func(c *call) ([]agent.FileInfo, error) {
		return in.agent.List(c.ctx, dir, recursive, r)
	})
	if err != nil {
		r.giveBack()
	}
	return files, r.giveBack, err
}

// Stat describes a file or directory.
func (in *Interpreter) Stat(ctx context.Context, path string) (agent.FileInfo, error) {
	return ask(ctx, in, answerTime, func(c *call) (agent.FileInfo, error) {
		return in.agent.Stat(c.ctx, path)
	})
}

// Delete deletes a file, or a directory with all that is in it.
func (in *Interpreter) Delete(ctx context.Context, path string) error {
	_, err := ask(ctx, in, answerTime, func(c *call) (struct{}, error) {
		return struct{}{}, in.agent.Delete(c.ctx, path)
	})
	return err
}

// Open opens a file, or the range of it that the value of an HTTP Range header asks for. Each
// piece of the content that is read must come within Options.Stall.
func (in *Interpreter) Open(ctx context.Context, path, rangeHeader string) (*agent.Content, error) {
	c := in.begin(ctx, answerTime)
	content, err := in.agent.Open(c.ctx, path, rangeHeader)
	c.pause()
	if err != nil {
		defer c.end()
		return nil, c.explain(err)
	}
	opened := *content
	opened.Body = &body{ReadCloser: content.Body, call: c}
	return &opened, nil
}

// body is a file's content on its way from a sandbox.
type body struct {
	io.ReadCloser
	call *call
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.call.renew(b.call.in.set.options.Stall)
	n, err := b.ReadCloser.Read(p)
	b.call.pause()
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.call.explain(err)
	}
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error {
	defer b.call.end()
	return b.ReadCloser.Close()
}

// errEarly is the error of an agent that acknowledges a file before it has read all of it, as
// only one does that was taken over.
var errEarly = errors.New("the sandbox answered before it had the whole file")

// Upload writes r to a file, whole or not at all; directories on the way are made. More
// than limit bytes are an error of class TooLarge. An error of r is returned as it is. An
// upload that failed may leave a reader of r behind.
func (in *Interpreter) Upload(ctx context.Context, path string, r io.Reader,
	limit int64) (agent.FileInfo, error) {
	c := in.begin(ctx, answerTime)
	defer c.end()
	from := &source{r: r, call: c}
	stored, err := in.agent.Upload(c.ctx, path, from, limit)
	whole, failed := from.state()
	switch {
	case failed != nil && err != nil && asError(err) == nil:
		return agent.FileInfo{}, failed
	case err == nil && !whole:
		err = errEarly
	}
	return stored, c.explain(err)
}

// source is what an upload is read from. The sandbox has answerTime to take each piece;
// the pace of who gives it is that one's business.
type source struct {
	r    io.Reader
	call *call

	mu     sync.Mutex // guards the fields below it
	whole  bool       // r was read to its end
	failed error      // of r
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	s.call.pause()
	n, err := s.r.Read(p)
	s.call.renew(answerTime)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.Is(err, io.EOF):
		s.whole = true
	case err != nil && s.failed == nil:
		s.failed = err
	}
	return n, err
}

func (s *source) state() (whole bool, failed error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.whole, s.failed
}
