package arm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// maxErrorBody bounds what ReadError takes from an answer.
const maxErrorBody = 64 << 10

// ReadError reads the error that an answer with a status of 400 or above
// carries. It consumes the body but leaves closing it to the caller. An answer
// that is not of this API (a proxy's page, say) gives an error that shows its beginning.
func ReadError(resp *http.Response) *sandpool.Error {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	var b api.ErrorBody
	if json.Unmarshal(raw, &b) != nil || b.Error.Code == "" && b.Error.Message == "" {
		text := strings.TrimSpace(string(raw))
		b.Error.Message = fmt.Sprintf("The server answered %s", resp.Status)
		if text != "" {
			b.Error.Message += fmt.Sprintf(": %.200q", text)
		}
	}
	if b.Error.Code == "" {
		b.Error.Code = resp.Header.Get("X-Ms-Error-Code")
	}
	e := fromDetail(resp.StatusCode, b.Error)
	e.TraceID = b.Error.TraceID
	if e.TraceID == "" {
		e.TraceID = resp.Header.Get("X-Ms-Request-Id")
	}
	if s, convErr := strconv.Atoi(resp.Header.Get("Retry-After")); convErr == nil && s > 0 {
		e.RetryAfter = time.Duration(min(s, 24*3600)) * time.Second
	}
	if err != nil {
		e.Err = errors.Join(e.Err, err)
	}
	return e
}

func fromDetail(status int, d api.ErrorDetail) *sandpool.Error {
	class := ClassOf(status, d.Code)
	if d.InnerError != nil {
		if c, known := classOfCode(d.InnerError.Code); known {
			class = c
		}
	}
	e := &sandpool.Error{Class: class, Code: d.Code, Target: d.Target, Message: d.Message}
	for _, sub := range d.Details {
		e.Details = append(e.Details, fromDetail(status, sub))
	}
	return e
}
