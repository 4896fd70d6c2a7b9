package client

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/fault"
)

// CodeUnreachable is the code of an error that says that the server gave no
// answer at all. The server never sends it.
const CodeUnreachable = "ServerUnreachable"

// readError turns an answer with an error status into a *sandpool.Error. An answer
// that no sandpool server wrote (a proxy's page) still becomes one with its
// status and the beginning of its text.
func readError(resp *http.Response) error {
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var body api.ErrorBody
	if err := json.Unmarshal(data, &body); err != nil || (body.Error.Code == "" &&
		body.Error.Message == "") {
		body.Error = api.ErrorDetail{Code: resp.Header.Get("X-Ms-Error-Code"),
			Message: foreignMessage(resp, data)}
	}
	e := toError(resp.StatusCode, body.Error)
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	return e
}

func toError(status int, d api.ErrorDetail) *sandpool.Error {
	e := &sandpool.Error{Class: fault.ClassOf(status, d.Code), Code: d.Code, Target: d.Target,
		Message: d.Message}
	if status >= http.StatusInternalServerError {
		e.TraceID = d.TraceID // the log has nothing on an answer that says it all
	}
	if d.InnerError != nil {
		// The particular code is in Code; the class's own decides the class.
		e.Class = fault.ClassOf(status, d.InnerError.Code)
	}
	for _, sub := range d.Details {
		e.Details = append(e.Details, toError(status, sub))
	}
	return e
}

func foreignMessage(resp *http.Response, data []byte) string {
	text := strings.Join(strings.Fields(string(data)), " ")
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	if size, ok := strings.CutPrefix(resp.Header.Get("Content-Range"), "bytes */"); ok &&
		resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return fmt.Sprintf("The range begins beyond the end of the file, which has %s bytes.", size)
	}
	if text == "" {
		return fmt.Sprintf("The server answered %s.", resp.Status)
	}
	return fmt.Sprintf("The server answered %s: %s", resp.Status, text)
}
