package agent

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/sandpool/sandpool"
)

// Upload writes r to a file beneath DataDir, whole or not at all; directories on the way
// are made. More than limit bytes are an error of class TooLarge.
func (c *Client) Upload(ctx context.Context, path string, r io.Reader, limit int64) (FileInfo,
	error) {
	query, err := pathQuery(path)
	if err != nil {
		return FileInfo{}, err
	}
	var info FileInfo
	err = c.sendBody(ctx, http.MethodPut, "/file", query, r, limit, &info)
	return info, err
}

// limited reads until the limit and fails beyond it, which aborts the upload.
type limited struct {
	r           io.Reader
	left, limit int64
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, TooLarge(l.limit)
	}
	return n, err
}

// TooLarge is the error of an upload beyond limit bytes.
func TooLarge(limit int64) error {
	return sandpool.Errorf(sandpool.TooLarge, "FileTooLarge", "file",
		"The file is larger than the limit of %d bytes. Send a smaller one, or split it.", limit)
}

// List returns what is in a directory, sorted by path; with recursive also
// what is in its subdirectories. room is the host's memory for a large list; nil means that there
// always is some.
func (c *Client) List(ctx context.Context, dir string, recursive bool, room Room) ([]FileInfo,
	error) {
	query, err := pathQuery(dir)
	if err != nil {
		return nil, err
	}
	if recursive {
		query.Set("recursive", "true")
	}
	files := listing{}
	err = c.callIn(ctx, room, http.MethodGet, "/files", query, nil, &files, maxListing)
	return files, err
}

// listing is the list as it is read.
type listing []FileInfo

// UnmarshalJSON implements json.Unmarshaler.
func (l *listing) UnmarshalJSON(text []byte) (err error) {
	*l, err = decodeList[FileInfo](text, MaxEntries)
	return err
}

// Stat describes a file or directory.
func (c *Client) Stat(ctx context.Context, path string) (FileInfo, error) {
	query, err := pathQuery(path)
	if err != nil {
		return FileInfo{}, err
	}
	var info FileInfo
	err = c.call(ctx, http.MethodGet, "/stat", query, nil, &info, maxAnswer)
	return info, err
}

// Content is an opened file: what an HTTP answer about it needs.
type Content struct {
	// Status is 200, 206 or 416.
	Status int
	// Header holds Content-Type, Content-Length, Content-Range, Accept-Ranges and Last-Modified.
	Header http.Header
	// Body must be closed.
	Body io.ReadCloser
}

// Open opens a file for reading. rangeHeader is the value of an HTTP Range
// header, or empty.
func (c *Client) Open(ctx context.Context, path, rangeHeader string) (*Content, error) {
	query, err := pathQuery(path)
	if err != nil {
		return nil, err
	}
	req, err := c.request(ctx, http.MethodGet, "/file", query, nil)
	if err != nil {
		return nil, err
	}
	if rangeHeader != "" {
		req.Header.Set("Range", rangeHeader)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("agent: open a file: %w", nameless(err))
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
	default:
		defer discard(resp)
		return nil, readError("open", resp)
	}
	header := http.Header{}
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Range",
		"Accept-Ranges", "Last-Modified"} {
		if v := resp.Header.Get(name); v != "" {
			header.Set(name, v)
		}
	}
	return &Content{Status: resp.StatusCode, Header: header, Body: resp.Body}, nil
}

// Delete deletes a file, or a directory with everything in it.
func (c *Client) Delete(ctx context.Context, path string) error {
	return c.onPath(ctx, http.MethodDelete, "/file", path)
}

// Mkdir makes a directory and its parents. One that exists is not an error.
func (c *Client) Mkdir(ctx context.Context, path string) error {
	return c.onPath(ctx, http.MethodPost, "/directory", path)
}

func (c *Client) onPath(ctx context.Context, method, endpoint, path string) error {
	query, err := pathQuery(path)
	if err != nil {
		return err
	}
	return c.call(ctx, method, endpoint, query, nil, nil, 0)
}

func pathQuery(path string) (url.Values, error) {
	clean, err := CleanPath(path)
	if err != nil {
		return nil, err
	}
	return url.Values{"path": {clean}}, nil
}
