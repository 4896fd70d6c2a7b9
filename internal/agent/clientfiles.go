package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

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

// FileEventType says what has happened to a file or a directory.
type FileEventType string

// The types of events of files.
const (
	FileReady    FileEventType = "ready"    // what happens from now on is told
	FileCreated  FileEventType = "created"  // or moved here from outside
	FileModified FileEventType = "modified" // its content, its times or its rights
	FileRemoved  FileEventType = "removed"  // or moved away
	FileMoved    FileEventType = "moved"
	FileOverflow FileEventType = "overflow" // some of what has happened is not told: list again
)

// known reports whether a type is one of those: callers get it as a line of a stream.
func (t FileEventType) known() bool {
	switch t {
	case FileReady, FileCreated, FileModified, FileRemoved, FileMoved, FileOverflow:
		return true
	}
	return false
}

// FileEvent is something that has happened beneath a directory that is watched.
type FileEvent struct {
	Type FileEventType `json:"type"`
	Path string        `json:"path,omitempty"` // from DataDir
	// From is the name that was moved.
	From      string `json:"from,omitempty"`
	Directory bool   `json:"directory,omitempty"`
	// Raw and RawFrom are the bytes of paths that are no UTF-8.
	Raw     []byte `json:"raw,omitempty"`
	RawFrom []byte `json:"rawFrom,omitempty"`
}

// MaxWatches is how many watches a sandbox has at the same time.
const MaxWatches = 16

// Watch calls emit with what happens beneath a directory, first with FileReady, until ctx ends. An
// error of emit ends the call.
func (c *Client) Watch(ctx context.Context, dir string, emit func(FileEvent) error) error {
	query, err := pathQuery(dir)
	if err != nil {
		return err
	}
	return c.frames(ctx, http.MethodGet, "/watch", query, nil, func(r *FrameReader) error {
		r.Limit = 1 << 20
		for {
			var e FileEvent
			if err := r.Next(&e); err != nil {
				return err
			}
			if !e.Type.known() {
				return errors.New("agent: a watch tells of something that is no event")
			}
			if err := emit(e); err != nil {
				return err
			}
		}
	})
}

// ListPage returns at most limit entries of a directory after the one of the path after, which may
// be "", in the order of their paths, name by name; with recursive also what is in its
// subdirectories. room is as for List.
func (c *Client) ListPage(ctx context.Context, dir string, recursive bool, after string, limit int,
	room Room) ([]FileInfo, error) {
	query, err := pathQuery(dir)
	if err != nil {
		return nil, err
	}
	if recursive {
		query.Set("recursive", "true")
	}
	query.Set("after", after)
	query.Set("limit", strconv.Itoa(limit))
	files := listing{}
	err = c.callIn(ctx, room, http.MethodGet, "/files", query, nil, &files, maxListing)
	return files, err
}
