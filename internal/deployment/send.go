package deployment

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// answer is what the control plane says to a request from within.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// send asks the control plane as the principal in ctx. What is not a success is an error.
func (s *Service) send(ctx context.Context, base, method, id, version string,
	body any) (map[string]any, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	scheme, host, _ := strings.Cut(base, "://")
	target := url.URL{Scheme: scheme, Host: host, Path: id,
		RawQuery: url.Values{"api-version": {version}}.Encode()}
	r, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(text))
	if err != nil {
		return nil, sandpool.Errorf(sandpool.Invalid, "InvalidResourceId", "id",
			"%.200q is not the id of a resource.", id)
	}
	r.Header.Set("Content-Type", "application/json")
	if scheme == "https" { // links in answers begin with it
		r.TLS = &tls.ConnectionState{}
	}
	a := &answer{header: http.Header{}}
	s.planes.ServeHTTP(a, r)
	if a.status >= http.StatusBadRequest {
		return nil, failure(a)
	}
	if a.body.Len() == 0 {
		return map[string]any{}, nil
	}
	var out map[string]any
	if err := json.Unmarshal(a.body.Bytes(), &out); err != nil {
		return nil, err
	}
	return out, nil
}

// refused is an answer of the control plane that is no success.
type refused struct {
	status int
	detail api.ErrorDetail
}

func (r *refused) Error() string { return r.detail.Message }

func failure(a *answer) error {
	var body api.ErrorBody
	if err := json.Unmarshal(a.body.Bytes(), &body); err != nil || body.Error.Code == "" {
		body.Error = api.ErrorDetail{Code: "InternalServerError", Message: http.StatusText(a.status)}
	}
	return &refused{status: a.status, detail: body.Error}
}
