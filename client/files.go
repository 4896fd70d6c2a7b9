package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// A file's name is a path below the session's file root, /mnt/data, with
// slashes between directories: "a.csv", "reports/2026/q1.xlsx". A leading
// "/mnt/data/" or "/" is ignored.

// UploadFile stores what r holds under name, replacing a file of that name. It
// streams: the content is in memory nowhere. On an error the content may
// have been read in part.
func (c *Client) UploadFile(ctx context.Context, pool, identifier, name string,
	r io.Reader) (api.File, error) {
	dir, base := splitName(name)
	pr, pw := io.Pipe()
	form := multipart.NewWriter(pw)
	source := &source{r: r}
	go func() { pw.CloseWithError(writeForm(form, base, source)) }()
	// Ends the writer if the request ends before all is read.
	defer pr.CloseWithError(errUploadOver)

	var f api.File
	_, _, err := c.do(ctx, call{
		method: http.MethodPost, path: c.data(pool, "files"), query: fileQuery(identifier, dir),
		header: http.Header{"Content-Type": {form.FormDataContentType()}}, stream: pr,
		timeout: transferTimeout,
	}, &f)
	if serr := source.failed(); serr != nil {
		return api.File{}, fmt.Errorf("upload %q: %w", name, serr)
	}
	return f, err
}

// source remembers why reading failed: to the transport, a body that cannot be
// read looks like a server that cannot be reached.
type source struct {
	r   io.Reader
	mu  sync.Mutex // guards err
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
	}
	return n, err
}

func (s *source) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

var errUploadOver = errors.New("upload is over")

func writeForm(form *multipart.Writer, name string, r io.Reader) error {
	part, err := form.CreateFormFile("file", name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(part, r); err != nil {
		return err
	}
	return form.Close()
}

// Files lists the files and directories of dir ("" means the file root); with recursive,
// also of all directories below it.
func (c *Client) Files(ctx context.Context, pool, identifier, dir string,
	recursive bool) ([]api.File, error) {
	query := fileQuery(identifier, dir)
	if recursive {
		query.Set("recursive", "true")
	}
	all := []api.File{}
	err := c.pages(ctx, call{method: http.MethodGet, path: c.data(pool, "files"), query: query},
		func(ctx context.Context, r call) (string, error) {
			var page api.Files
			_, _, err := c.do(ctx, r, &page)
			all = append(all, page.Value...)
			if page.NextLink == nil {
				return "", err
			}
			return *page.NextLink, err
		})
	return all, err
}

// WatchFiles calls each for what happens to the files beneath dir ("" means the file root), from an
// event of type "ready" on, until ctx or the session ends. After an event of type "overflow", some
// are lost: list again.
func (c *Client) WatchFiles(ctx context.Context, pool, identifier, dir string,
	each func(api.FileEvent) error) error {
	return readLines(ctx, c, call{method: http.MethodGet, path: c.data(pool, "watch"),
		query: fileQuery(identifier, dir), header: http.Header{"Accept": {"application/x-ndjson"}}},
		func(e api.FileEvent) error {
			if e.Type == api.EventError && e.Error != nil {
				return sandpool.Errorf(sandpool.Unavailable, e.Error.Code, "", "%s",
					e.Error.Message)
			}
			return each(e)
		})
}

// StatFile describes one file.
func (c *Client) StatFile(ctx context.Context, pool, identifier, name string) (api.File, error) {
	dir, base := splitName(strings.TrimRight(name, "/"))
	var f api.File
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: c.data(pool, "files", base),
		query: fileQuery(identifier, dir)}, &f)
	return f, err
}

// DeleteFile removes a file.
func (c *Client) DeleteFile(ctx context.Context, pool, identifier, name string) error {
	dir, base := splitName(strings.TrimRight(name, "/"))
	_, _, err := c.do(ctx, call{method: http.MethodDelete, path: c.data(pool, "files", base),
		query: fileQuery(identifier, dir)}, nil)
	return err
}

// MoveFile renames a file or a directory. What is at its new place already is an error of class
// Conflict, unless it is a file and overwrite says that it may go.
func (c *Client) MoveFile(ctx context.Context, pool, identifier, from, to string,
	overwrite bool) (api.File, error) {
	return c.changeFile(ctx, pool, identifier, from, url.Values{"operation": {"move"}, "to": {to},
		"overwrite": {strconv.FormatBool(overwrite)}})
}

// CopyFile copies a file, or a directory with all that is in it, as MoveFile moves.
func (c *Client) CopyFile(ctx context.Context, pool, identifier, from, to string,
	overwrite bool) (api.File, error) {
	return c.changeFile(ctx, pool, identifier, from, url.Values{"operation": {"copy"}, "to": {to},
		"overwrite": {strconv.FormatBool(overwrite)}})
}

// MakeDirectory makes a directory and its parents. One that exists is not an error.
func (c *Client) MakeDirectory(ctx context.Context, pool, identifier,
	name string) (api.File, error) {
	return c.changeFile(ctx, pool, identifier, name, url.Values{"operation": {"mkdir"}})
}

func (c *Client) changeFile(ctx context.Context, pool, identifier, name string,
	query url.Values) (api.File, error) {
	dir, base := splitName(strings.TrimRight(name, "/"))
	for k, v := range fileQuery(identifier, dir) {
		query[k] = v
	}
	var f api.File
	_, _, err := c.do(ctx, call{method: http.MethodPost, path: c.data(pool, "files", base),
		query: query, timeout: transferTimeout}, &f)
	return f, err
}

// DigestFile describes a file with the SHA-256 of its content.
func (c *Client) DigestFile(ctx context.Context, pool, identifier, name string) (api.File, error) {
	dir, base := splitName(name)
	query := fileQuery(identifier, dir)
	query.Set("digest", "sha256")
	var f api.File
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: c.data(pool, "files", base),
		query: query, timeout: transferTimeout}, &f)
	return f, err
}

// AppendFile writes what r holds to a file at an offset, which must be the file's size: 0 begins
// it, or begins it again, and a negative one is its end. What has arrived before an error stays: go
// on at the size that StatFile tells.
func (c *Client) AppendFile(ctx context.Context, pool, identifier, name string, offset int64,
	r io.Reader) (api.File, error) {
	dir, base := splitName(name)
	query := fileQuery(identifier, dir)
	query.Set("offset", "end")
	if offset >= 0 {
		query.Set("offset", strconv.FormatInt(offset, 10))
	}
	var f api.File
	err := c.give(ctx, r, call{method: http.MethodPatch,
		path: c.data(pool, "files", base, "content"), query: query}, &f)
	return f, err
}

// give makes a call whose body is what r holds. An error of r is returned as it is.
func (c *Client) give(ctx context.Context, r io.Reader, req call, out any) error {
	from := &source{r: r}
	req.stream, req.timeout = from, transferTimeout
	_, _, err := c.do(ctx, req, out)
	if failed := from.failed(); failed != nil {
		return fmt.Errorf("read what to send: %w", failed)
	}
	return err
}

// Pack opens a directory ("" means the file root) as an archive, "tar" or "zip".
func (c *Client) Pack(ctx context.Context, pool, identifier, dir, format string) (*Content, error) {
	query := fileQuery(identifier, dir)
	query.Set("format", format)
	req := call{method: http.MethodGet, path: c.data(pool, "archive"), query: query,
		timeout: transferTimeout}
	ctx, cancel := req.bound(ctx)
	resp, err := c.send(ctx, req)
	if err != nil {
		cancel()
		return nil, err
	}
	return &Content{ReadCloser: &content{body: resp.Body, cancel: cancel}, Size: -1,
		ContentType: resp.Header.Get("Content-Type")}, nil
}

// Unpack makes what an archive holds beneath a directory and returns how many files and
// directories that were.
func (c *Client) Unpack(ctx context.Context, pool, identifier, dir, format string,
	r io.Reader) (int, error) {
	query := fileQuery(identifier, dir)
	query.Set("format", format)
	var done api.Unpacked
	err := c.give(ctx, r, call{method: http.MethodPut, path: c.data(pool, "archive"), query: query},
		&done)
	return done.Files, err
}

// Range is a part of a file: Length bytes from Offset. A Length of zero means
// up to the end; the zero Range is the whole file.
type Range struct {
	Offset, Length int64
}

func (r Range) header() http.Header {
	switch {
	case r == Range{}:
		return nil
	case r.Length <= 0:
		return http.Header{"Range": {fmt.Sprintf("bytes=%d-", r.Offset)}}
	}
	return http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", r.Offset, r.Offset+r.Length-1)}}
}

// Content is a file on its way. The caller reads it to the end and closes it.
type Content struct {
	io.ReadCloser
	// Size is how many bytes will come; -1 means the server did not say.
	Size int64
	// ContentType is the server's idea of what they are.
	ContentType string
}

// Download opens a file, or a part of it. A server that ignores the range and
// sends the whole file is an error.
func (c *Client) Download(ctx context.Context, pool, identifier, name string, r Range) (*Content,
	error) {
	dir, base := splitName(name)
	req := call{method: http.MethodGet, path: c.data(pool, "files", base, "content"),
		query:  fileQuery(identifier, dir),
		header: r.header(), timeout: transferTimeout}
	ctx, cancel := req.bound(ctx)
	resp, err := c.send(ctx, req)
	if err != nil {
		cancel()
		return nil, err
	}
	body := &content{body: resp.Body, cancel: cancel}
	if (r != Range{}) && resp.StatusCode != http.StatusPartialContent {
		return nil, errors.Join(fmt.Errorf("download %q: the server sent the whole file instead "+
			"of a part", name), body.Close())
	}
	return &Content{ReadCloser: body, Size: resp.ContentLength,
		ContentType: resp.Header.Get("Content-Type")}, nil
}

// content gives back the connection and the deadline with the body.
type content struct {
	body   io.ReadCloser
	cancel context.CancelFunc
}

func (c *content) Read(p []byte) (int, error) { return c.body.Read(p) }

// Close cuts off what was not read: the rest of a large file is not worth
// keeping the connection for.
func (c *content) Close() error {
	err := c.body.Close()
	c.cancel()
	return err
}

// splitName separates directory and base name. The directory travels in the query, as az
// sends it, because a slash in a path element does not survive every proxy.
func splitName(name string) (dir, base string) {
	name = strings.TrimPrefix(name, "/mnt/data/")
	dir, base = path.Split(strings.TrimLeft(name, "/"))
	return strings.TrimRight(dir, "/"), base
}

func fileQuery(identifier, dir string) url.Values {
	q := sessionQuery(identifier)
	if dir != "" {
		q.Set("path", dir)
	}
	return q
}
