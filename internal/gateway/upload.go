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

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/gateway/body"
	"github.com/sandpool/sandpool/internal/gateway/filename"
	"github.com/sandpool/sandpool/internal/gateway/wire"
	"github.com/sandpool/sandpool/internal/interpreter"
)

// formOverhead is what a form may take beside its file.
const formOverhead = 1 << 20

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

// drain reads what a refused call still has to send, within bounds.
func (g *Gateway) drain(c *call) { body.Drain(c.w, c.r, g.options.Stall) }

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
		return sandpool.Errorf(sandpool.Invalid, wire.CodeValidation, "file",
			"The form has no part named 'file'; send the content as multipart/form-data under "+
				"that name, with a filename.")
	}
	file, err := c.resolve(filename.Of(disposition(part), c.r.UserAgent()))
	if err != nil {
		return err
	}
	return g.use(c, func(ctx context.Context, in *interpreter.Interpreter) error {
		content := f.body.Gate(part)
		stored, err := in.Upload(ctx, file, content, g.options.MaxUpload)
		if err != nil {
			return content.Shut(err)
		}
		switch extra, err := f.next(); {
		case err != nil:
			return err
		case extra != nil:
			return sandpool.Errorf(sandpool.Invalid, wire.CodeValidation, "file",
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
	body  *body.Reader
}

// openForm checks that the call has a form, and bounds it.
func (g *Gateway) openForm(c *call) (*form, error) {
	plain, err := arm.Body(c.w, c.r)
	if err != nil {
		return nil, err
	}
	in := body.New(c.w, http.MaxBytesReader(c.w, plain, g.options.MaxUpload+formOverhead),
		g.options.Stall)
	content := bufio.NewReader(in)
	_, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	boundary := params["boundary"]
	if boundary == "" {
		boundary = sniffBoundary(content)
	}
	if boundary == "" {
		return nil, in.Or(&sandpool.Error{Class: sandpool.Invalid, Code: wire.CodeValidation,
			Target: "Content-Type", Err: err,
			Message: "The body is not multipart/form-data with a boundary; send the file as a " +
				"form with a part named 'file'."})
	}
	return &form{parts: multipart.NewReader(content, boundary), body: in}, nil
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
			return nil, f.body.Or(body.BadForm(err))
		}
		if strings.EqualFold(filename.Parameter(disposition(part), "name"), "file") {
			return part, nil
		}
	}
}

// disposition is the header of a part that has its names.
func disposition(part *multipart.Part) string { return part.Header.Get("Content-Disposition") }
