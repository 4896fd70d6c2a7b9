package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// UploadPrefix marks files that are still arriving; listings and archives leave them out.
const UploadPrefix = ".sandpool-upload-"

// Unpacked says what came of an archive.
type Unpacked struct {
	Files int `json:"files"` // that were made, directories included
}

// Move renames a file or a directory; directories on the way to its new place are made. What is
// there already is an error of class Conflict, unless it is a file and overwrite says that it may
// go.
func (c *Client) Move(ctx context.Context, from, to string, overwrite bool) (FileInfo, error) {
	return c.fromTo(ctx, "/file/move", from, to, overwrite)
}

// Copy copies a file, or a directory with all that is in it, as Move moves.
func (c *Client) Copy(ctx context.Context, from, to string, overwrite bool) (FileInfo, error) {
	return c.fromTo(ctx, "/file/copy", from, to, overwrite)
}

func (c *Client) fromTo(ctx context.Context, endpoint, from, to string,
	overwrite bool) (FileInfo, error) {
	var info FileInfo
	query, err := pathQuery(from)
	if err != nil {
		return info, err
	}
	if to, err = CleanPathOf("to", to); err != nil {
		return info, err
	}
	query.Set("to", to)
	query.Set("overwrite", strconv.FormatBool(overwrite))
	err = c.call(ctx, http.MethodPost, endpoint, query, nil, &info, maxAnswer)
	return info, err
}

// Patch writes r to a file at an offset, which must be the file's size: 0 begins it, or begins it
// again, and a negative one is its end. What has arrived before an error stays.
func (c *Client) Patch(ctx context.Context, path string, offset int64, r io.Reader,
	limit int64) (FileInfo, error) {
	query, err := pathQuery(path)
	if err != nil {
		return FileInfo{}, err
	}
	query.Set("offset", strconv.FormatInt(offset, 10))
	var info FileInfo
	err = c.sendBody(ctx, http.MethodPatch, "/file", query, r, limit, &info)
	return info, err
}

// Digest describes a file with the SHA-256 of its content.
func (c *Client) Digest(ctx context.Context, path string) (FileInfo, error) {
	query, err := pathQuery(path)
	if err != nil {
		return FileInfo{}, err
	}
	var info FileInfo
	err = c.call(ctx, http.MethodGet, "/file/digest", query, nil, &info, maxAnswer)
	return info, err
}

// Pack opens a directory as an archive, "tar" or "zip", to be read and closed.
func (c *Client) Pack(ctx context.Context, dir, format string) (io.ReadCloser, error) {
	query, err := pathQuery(dir)
	if err != nil {
		return nil, err
	}
	query.Set("format", format)
	resp, err := c.send(ctx, http.MethodGet, "/archive", query, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Unpack makes what an archive holds beneath a directory. What was made before an error stays.
func (c *Client) Unpack(ctx context.Context, dir, format string, r io.Reader,
	limit int64) (Unpacked, error) {
	query, err := pathQuery(dir)
	if err != nil {
		return Unpacked{}, err
	}
	query.Set("format", format)
	var done Unpacked
	err = c.sendBody(ctx, http.MethodPut, "/archive", query, r, limit, &done)
	return done, err
}

// sendBody sends what r holds, at most limit bytes, and reads an answer.
func (c *Client) sendBody(ctx context.Context, method, endpoint string, query url.Values,
	r io.Reader, limit int64, out any) error {
	query.Set("limit", strconv.FormatInt(limit, 10))
	req, err := c.request(ctx, method, endpoint, query, &limited{r: r, left: limit, limit: limit})
	if err != nil {
		return err
	}
	// The agent may refuse the path before the body has been read in vain.
	req.Header.Set("Expect", "100-continue")
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	defer discard(resp)
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(out); err != nil {
		return fmt.Errorf("agent: %s %q: decode: %w", method, endpoint, err)
	}
	return nil
}
