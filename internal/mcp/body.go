package mcp

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/budget"
)

const (
	// small is what a body may have without counting against a budget.
	small = 64 << 10
	// bodyGrace and bodyPace bound the time of a body: the grace, and so many bytes a second.
	bodyGrace = 30 * time.Second
	bodyPace  = 32 << 10
)

// read returns the body of the request, whose memory share takes.
func (c *call) read(share *budget.Share) ([]byte, error) {
	most := c.s.o.MaxBody
	if c.r.ContentLength > most {
		return nil, tooLarge(most)
	}
	plain, err := arm.Body(c.w, c.r)
	if err != nil {
		return nil, err
	}
	control := http.NewResponseController(c.w)
	started, read := time.Now(), int64(0)
	body := http.MaxBytesReader(c.w, plain, most)
	b, taken := make([]byte, 0, min(max(c.r.ContentLength, 0), small)+bytes.MinRead), int64(0)
	for {
		if len(b) == cap(b) {
			if need := int64(2*cap(b)) - small - bytes.MinRead - taken; need > 0 {
				if err := share.Try(need); err != nil {
					return nil, crowded(err)
				}
				taken += need
			}
			b = append(make([]byte, 0, 2*cap(b)), b...)
		}
		deadline := started.Add(bodyGrace + time.Duration(read/bodyPace)*time.Second)
		if err := control.SetReadDeadline(
			deadline,
		); err != nil &&
			!errors.Is(err, http.ErrNotSupported) {
			return nil, err
		}
		n, err := body.Read(b[len(b):cap(b)])
		b, read = b[:len(b)+n], read+int64(n)
		switch {
		case errors.Is(err, io.EOF):
			_ = control.SetReadDeadline(
				time.Time{},
			) // the server reads on, to notice a caller that leaves
			return arm.UTF8(b, c.r.Header.Get("Content-Type"))
		case err != nil:
			c.w.Header().Set("Connection", "close") // the rest would be waited for
			return nil, unread(err, most)
		}
	}
}

func tooLarge(most int64) error {
	return sandpool.Errorf(sandpool.TooLarge, "", "body",
		"The request body is larger than %d bytes; upload large data as a file, by POST to "+
			"'files'.",
		most)
}

// unread says in the caller's terms why a body could not be read.
func unread(err error, most int64) error {
	var big *http.MaxBytesError
	var ours *sandpool.Error
	switch {
	case errors.As(err, &ours):
		return err
	case errors.As(err, &big):
		return tooLarge(most)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &sandpool.Error{
			Class:   sandpool.Invalid,
			Target:  "body",
			Err:     err,
			Message: "The request body came too slowly; send it without pauses.",
		}
	}
	return &sandpool.Error{
		Class:   sandpool.Invalid,
		Target:  "body",
		Err:     err,
		Message: "The request body ended early; send it whole.",
	}
}

// crowded says to the caller what err, a budget.FullError, means.
func crowded(err error) error {
	var full *budget.FullError
	if !errors.As(err, &full) {
		return err
	}
	return &sandpool.Error{
		Class:      sandpool.Unavailable,
		Code:       "TooMuchCodeWaiting",
		Target:     "body",
		RetryAfter: time.Second,
		Err:        err,
		Message: "The " + string(
			full.Kind,
		) + " has as much on its way to sandboxes as it may have. Try again, or upload large " +
			"data as " +
			"a file.",
	}
}
