package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sandpool/sandpool"
)

const (
	// fruitless is how often in a row a download may break without a byte more.
	fruitless = 5
	// breaks is how often it may break at all.
	breaks     = 100
	firstPause = 200 * time.Millisecond
	longPause  = 5 * time.Second
)

// download is one blob on its way to a file.
type download struct {
	from  source
	blob  descriptor
	stall time.Duration
	note  func(int64) // told how many bytes more there are, or fewer, after a start anew

	file *os.File
	sum  hash.Hash
	have int64
}

// run brings the blob. It goes on where it broke, if the source can do that; a source that
// answers wrongly, or not at all for long, ends it.
func (d *download) run(ctx context.Context) error {
	d.sum = sha256.New()
	pause, idle := firstPause, 0
	for range breaks {
		before := d.have
		err := d.attempt(ctx)
		if err == nil {
			return d.check()
		}
		if ctx.Err() != nil || lasting(err) {
			return err
		}
		if d.have > before {
			pause, idle = firstPause, 0
		} else if idle++; idle >= fruitless {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, longPause)
	}
	return errors.New("the download broke too often")
}

// lasting says whether it is no use to try again.
func lasting(err error) bool {
	var (
		known  *sandpool.Error
		answer *transport.Error
		file   *os.PathError
		out    blocked
	)
	switch {
	case errors.As(err, &known), errors.As(err, &file), errors.Is(err,
		fs.ErrNotExist), errors.As(err, &out), tlsTrouble(err) != "":
		return true
	case errors.As(err, &answer):
		return answer.StatusCode < http.StatusInternalServerError &&
			answer.StatusCode != http.StatusTooManyRequests &&
			answer.StatusCode != http.StatusRequestTimeout
	}
	return false
}

// attempt reads from where the last attempt ended, until the blob ends or nothing comes for the
// time of stall.
func (d *download) attempt(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := errors.New("nothing came for " + d.stall.String())
	timer := time.AfterFunc(d.stall, func() { cancel(stalled) })
	defer timer.Stop()
	r, start, err := d.from.blob(ctx, d.blob, d.have)
	if err != nil {
		return ended(ctx, stalled, err)
	}
	defer r.Close()
	if start != d.have {
		if err := d.restart(); err != nil {
			return err
		}
	}
	buffer := make([]byte, 128<<10)
	for {
		n, err := r.Read(buffer)
		if n > 0 {
			timer.Reset(d.stall)
			if d.have+int64(n) > d.blob.Size {
				return damaged("A layer has more than the %d bytes that the manifest says.",
					d.blob.Size)
			}
			if _, err := d.file.Write(buffer[:n]); err != nil {
				return err
			}
			d.sum.Write(buffer[:n])
			d.have += int64(n)
			d.note(int64(n))
		}
		switch {
		case errors.Is(err, io.EOF) && d.have == d.blob.Size:
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("the download broke after %d of %d bytes", d.have, d.blob.Size)
		case err != nil:
			return ended(ctx, stalled, err)
		}
	}
}

// ended is err, unless the reason is that nothing came: then it is no deadline of the caller's.
func ended(ctx context.Context, stalled, err error) error {
	if errors.Is(context.Cause(ctx), stalled) {
		return stalled
	}
	return err
}

// restart forgets what came so far.
func (d *download) restart() error {
	d.note(-d.have)
	d.have = 0
	d.sum.Reset()
	if _, err := d.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return d.file.Truncate(0)
}

// check compares the blob with its digest.
func (d *download) check() error {
	got := digest("sha256:" + hex.EncodeToString(d.sum.Sum(nil)))
	if d.blob.Digest != "" && got != d.blob.Digest {
		return damaged("A layer is not what its digest says: %s was sent for %s.",
			got, d.blob.Digest)
	}
	return nil
}
