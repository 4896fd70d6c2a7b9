package body

import (
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/sandpool/sandpool"
)

// Gate stands between a body and the upload that reads it. An upload that is refused in the middle
// may leave a reader behind, which must not touch the request any more.
type Gate struct {
	body *Reader

	mu   sync.Mutex // guards the fields below it, and reading
	r    io.Reader
	err  error // of r
	over bool
}

// Gate returns the gate before r, which reads from the body.
func (s *Reader) Gate(r io.Reader) *Gate { return &Gate{body: s, r: r} }

// Read reads on until the gate is shut.
func (t *Gate) Read(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := t.r.Read(p)
	t.over = errors.Is(err, io.EOF)
	if err != nil && !t.over && !t.body.stopped.Load() {
		t.err = err
	}
	return n, err
}

// Shut ends reading and returns why an upload failed with err: for a reason of its
// own, or because the request's body or the form in it did.
func (t *Gate) Shut(err error) error {
	t.body.stop() // wakes a reader that holds the lock
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	giveUp(t.body.w)
	var ours *sandpool.Error
	if errors.As(err, &ours) {
		return err
	}
	if t.err != nil {
		err = BadForm(t.err)
	}
	return t.body.Or(err)
}
