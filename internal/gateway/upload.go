package gateway

import (
	"bufio"
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/gateway/filename"
	"github.com/sandpool/sandpool/internal/gateway/wire"
	"github.com/sandpool/sandpool/internal/interpreter"
)

const (
	// formOverhead is what a form may take beside its file.
	formOverhead = 1 << 20
	// drainMost and drainTime bound what is read of a refused upload. Most clients
	// look for the answer only when they have sent everything.
	drainMost = 64 << 20
	drainTime = 5 * time.Second
)

// uploadAs stores a file and answers in the old or the new envelope.
func uploadAs(old bool) func(*Gateway, *call) error {
	return receives(func(g *Gateway, c *call) error { return g.upload(c, old) })
}

// receives is serve of a call with a large body, whose rest is read if it is refused.
func receives(serve func(*Gateway, *call) error) func(*Gateway, *call) error {
	return func(g *Gateway, c *call) error {
		err := serve(g, c)
		if err != nil {
			g.drain(c)
		}
		return err
	}
}

func (g *Gateway) upload(c *call, old bool) error {
	if c.r.ContentLength > g.options.MaxUpload+formOverhead {
		return agent.TooLarge(g.options.MaxUpload)
	}
	f, err := g.openForm(c)
	if err != nil {
		return err
	}
	// The form is read up to the file before a session is made for it.
	part, err := f.next()
	if err != nil {
		return err
	}
	if part == nil {
		return sandpool.Errorf(sandpool.Invalid, codeValidation, "file",
			"The form has no part named 'file'; send the content as multipart/form-data under "+
				"that name, with a filename.")
	}
	file, err := c.resolve(filename.Of(disposition(part), c.r.UserAgent()))
	if err != nil {
		return err
	}
	return g.use(c, func(ctx context.Context, in *interpreter.Interpreter) error {
		content := &gate{body: f.body, r: part}
		stored, err := in.Upload(ctx, file, content, g.options.MaxUpload)
		if err != nil {
			return content.shut(err)
		}
		switch extra, err := f.next(); {
		case err != nil:
			return err
		case extra != nil:
			return sandpool.Errorf(sandpool.Invalid, codeValidation, "file",
				"The form has more than one part named 'file'; send one file a request. The "+
					"first, %s, is stored.", clip(file))
		case old:
			return arm.WriteJSON(c.w, http.StatusOK, wire.OldFiles([]agent.FileInfo{stored}))
		}
		return arm.WriteJSON(c.w, http.StatusOK, wire.File(stored))
	})
}

// form is a multipart body that is read as it comes.
type form struct {
	parts *multipart.Reader
	body  *steady
}

// openForm checks that the call has a form, and bounds it.
func (g *Gateway) openForm(c *call) (*form, error) {
	plain, err := arm.Body(c.w, c.r)
	if err != nil {
		return nil, err
	}
	body := newSteady(c.w, http.MaxBytesReader(c.w, plain, g.options.MaxUpload+formOverhead),
		g.options.Stall)
	content := bufio.NewReader(body)
	_, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	boundary := params["boundary"]
	if boundary == "" {
		boundary = sniffBoundary(content)
	}
	if boundary == "" {
		return nil, body.or(&sandpool.Error{Class: sandpool.Invalid, Code: codeValidation,
			Target: "Content-Type", Err: err,
			Message: "The body is not multipart/form-data with a boundary; send the file as a " +
				"form with a part named 'file'."})
	}
	return &form{parts: multipart.NewReader(content, boundary), body: body}, nil
}

// sniffBoundary reads the boundary of a form from its first line. Semantic Kernel
// for Python, once it has executed code, sends its forms as application/json.
func sniffBoundary(r *bufio.Reader) string {
	const longest = 2 + 70 + 2 // RFC 2046: "--", the boundary, the end of the line
	head, _ := r.Peek(longest)
	line, _, ok := strings.Cut(string(head), "\r\n")
	boundary, dashes := strings.CutPrefix(line, "--")
	if !ok || !dashes || strings.HasSuffix(boundary, "--") {
		return ""
	}
	return boundary
}

// next returns the next part named file, or nil after the last. Other parts are skipped.
func (f *form) next() (*multipart.Part, error) {
	for {
		part, err := f.parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return nil, f.body.or(badForm(err))
		}
		if strings.EqualFold(filename.Parameter(disposition(part), "name"), "file") {
			return part, nil
		}
	}
}

// disposition is the header of a part that has its names.
func disposition(part *multipart.Part) string { return part.Header.Get("Content-Disposition") }

// gate stands between a form and the upload that reads it. An upload that is
// refused in the middle may leave a reader behind, which must not touch the
// request any more.
type gate struct {
	body *steady

	mu   sync.Mutex // guards the fields below it, and reading
	r    io.Reader
	err  error // of r
	over bool
}

// Read reads from the form until the gate is shut.
func (t *gate) Read(p []byte) (int, error) {
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

// shut ends reading and returns why an upload failed with err: for a reason of its
// own, or because the request's body or the form in it did.
func (t *gate) shut(err error) error {
	t.body.stop() // wakes a reader that holds the lock
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	giveUp(t.body.w)
	if asError(err) != nil {
		return err
	}
	if t.err != nil {
		err = badForm(t.err)
	}
	return t.body.or(err)
}

func badForm(err error) error {
	return &sandpool.Error{Class: sandpool.Invalid, Code: codeValidation, Target: "body", Err: err,
		Message: "The form is not valid multipart/form-data, or it ends early."}
}

// drain reads what a refused upload still has to send, within bounds.
func (g *Gateway) drain(c *call) {
	patience := min(drainTime, g.options.Stall)
	control := http.NewResponseController(c.w)
	if setReadDeadline(control, time.Now().Add(patience)) != nil {
		return
	}
	if _, err := io.CopyN(io.Discard, c.r.Body, drainMost); !errors.Is(err, io.EOF) {
		giveUp(c.w)
		return
	}
	_ = setReadDeadline(control, time.Time{})
}
