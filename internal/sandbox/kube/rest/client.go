package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Client asks one API server. All methods may be called at the same time.
type Client struct {
	cfg  Config
	http *http.Client
}

// How long a silent connection is trusted: a watch says nothing for minutes, and a server that is
// gone says nothing at all.
const (
	pingAfter = 15 * time.Second
	pingWait  = 10 * time.Second
)

// New returns a client.
func New(cfg Config) (*Client, error) {
	if cfg.Host == "" {
		return nil, errors.New("Config.Host is empty; set it to the address of the API server")
	}
	t := &http.Transport{
		TLSClientConfig:     cfg.TLS,
		ForceAttemptHTTP2:   true,
		Proxy:               http.ProxyFromEnvironment,
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     90 * time.Second,
		MaxIdleConnsPerHost: 16,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingWait},
	}
	return &Client{cfg: cfg, http: &http.Client{Transport: t,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // a token goes nowhere else
		}}}, nil
}

// Namespace is the one that the configuration names, or empty.
func (c *Client) Namespace() string { return c.cfg.Namespace }

// Host is the address of the API server.
func (c *Client) Host() string { return c.cfg.Host }

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// StatusError is the API server's refusal.
type StatusError struct {
	Status     Status
	RetryAfter time.Duration // zero if it does not say
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("the API server answers %d (%s): %s", e.Status.Code, e.Status.Reason,
		e.Status.Message)
}

// CodeOf is the HTTP status of a refusal, and 0 for any other error.
func CodeOf(err error) int {
	var e *StatusError
	if errors.As(err, &e) {
		return e.Status.Code
	}
	return 0
}

// IsGone reports whether a watch or a list has to begin anew.
func IsGone(err error) bool { return CodeOf(err) == http.StatusGone }

// Attempts of one call that the server puts off, and the longest it may put one off.
const (
	attempts = 6
	longest  = 10 * time.Second
)

// answerLimit bounds one answer: 10,000 pods take some 40 MB.
const answerLimit = 256 << 20

// Do makes a call and decodes its answer into out, unless that is nil. A server that asks for
// patience (429, or 5xx with Retry-After) is given it.
func (c *Client) Do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	for attempt := 1; ; attempt++ {
		err := c.once(ctx, method, path, query, body, out)
		wait, again := patience(err, attempt)
		if !again || attempt == attempts {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// objects is the path of a namespace's objects of one kind, or of the one that has a name.
func objects(api, namespace, kind, name string) string {
	path := api + "/namespaces/" + url.PathEscape(namespace) + "/" + kind
	if name != "" {
		path += "/" + url.PathEscape(name)
	}
	return path
}

// create makes an object and returns it as the server has it.
func create[T any](ctx context.Context, c *Client, path string, query url.Values, in *T) (*T,
	error) {
	out := new(T)
	return out, c.Do(ctx, http.MethodPost, path, query, in, out)
}

// get returns the object at a path.
func get[T any](ctx context.Context, c *Client, path string) (*T, error) {
	out := new(T)
	return out, c.Do(ctx, http.MethodGet, path, nil, nil, out)
}

// patience says whether a call is to be made again, and when.
func patience(err error, attempt int) (time.Duration, bool) {
	var e *StatusError
	if !errors.As(err, &e) {
		return 0, false
	}
	if e.Status.Code != http.StatusTooManyRequests &&
		(e.Status.Code < 500 || e.RetryAfter == 0) {
		return 0, false
	}
	wait := e.RetryAfter
	if wait == 0 {
		wait = 100 * time.Millisecond << attempt
	}
	wait = min(wait, longest)
	return wait + rand.N(wait/4+1), true
}

func (c *Client) once(ctx context.Context, method, path string, query url.Values, body []byte,
	out any) error {
	resp, err := c.send(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode >= 300 {
		return refusal(resp, data)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s %s: the answer is no JSON of this kind: %w", method, path, err)
	}
	return nil
}

// send returns the answer as it comes.
func (c *Client) send(ctx context.Context, method, path string, query url.Values,
	body []byte) (*http.Response, error) {
	target := c.cfg.Host + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "sandpool")
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if err := c.authorize(req); err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return resp, err
}

func (c *Client) authorize(req *http.Request) error {
	if c.cfg.Token == nil {
		return nil
	}
	token, err := c.cfg.Token(req.Context())
	if err == nil {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return err
}

// refusal is the error of an answer.
func refusal(resp *http.Response, data []byte) error {
	e := &StatusError{}
	if json.Unmarshal(data, &e.Status) != nil || e.Status.Message == "" {
		e.Status.Message = fmt.Sprintf("%.200q", data)
	}
	e.Status.Code = resp.StatusCode
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil && e.Status.Details != nil {
		seconds = e.Status.Details.RetryAfterSeconds
	}
	e.RetryAfter = time.Duration(max(0, seconds)) * time.Second
	return e
}
