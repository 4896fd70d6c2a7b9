// Package otlp sends traces, metrics and logs to a collector of OpenTelemetry, by OTLP over HTTP or
// gRPC (https://opentelemetry.io/docs/specs/otlp/).
//
// The messages are written here, field by field: the protocol's own library and that of gRPC,
// linked into the program, would begin in every sandbox as well, which the program is started for
// again.
package otlp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// sendTime bounds one call.
const sendTime = 10 * time.Second

// Signal is what a call is about.
type Signal int

// The signals.
const (
	Traces Signal = iota
	Metrics
	Logs
)

// path is where a collector takes the signal by HTTP, and method by gRPC.
func (s Signal) path() string {
	return "/v1/" + [...]string{"traces", "metrics", "logs"}[s]
}

func (s Signal) method() string {
	name := [...]string{"trace.v1.Trace", "metrics.v1.Metrics", "logs.v1.Logs"}[s]
	return "/opentelemetry.proto.collector." + name + "Service/Export"
}

// Config says where a collector is.
type Config struct {
	// Setting is what the configuration is called in errors, such as "traces".
	Setting string
	// Endpoint is http://HOST:4318 or https://… for OTLP over HTTP, grpc://HOST:4317 or grpcs://…
	// for gRPC.
	Endpoint string
	// Whole says that a path of an Endpoint by HTTP is the whole one, and not what the signals'
	// paths are below.
	Whole bool
	// Headers are sent with every call, each as NAME=VALUE.
	Headers []string
}

// Client sends to one collector.
type Client struct {
	base   url.URL
	grpc   bool
	whole  bool
	header http.Header
	http   *http.Client
}

// New returns a Client.
func New(c Config) (*Client, error) {
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%s.endpoint is %q; use a URL such as http://localhost:4318 "+
			"or grpc://localhost:4317", c.Setting, c.Endpoint)
	}
	to := &Client{base: *u, whole: c.Whole && strings.Trim(u.Path, "/") != "",
		header: http.Header{}}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, IdleConnTimeout: time.Minute}
	switch u.Scheme {
	case "http", "https":
		to.header.Set("Content-Type", "application/x-protobuf")
	case "grpc", "grpcs":
		to.grpc, to.whole = true, false
		to.base.Scheme, to.base.Path = "http"+strings.TrimPrefix(u.Scheme, "grpc"), ""
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetHTTP2(to.base.Scheme == "https")
		transport.Protocols.SetUnencryptedHTTP2(to.base.Scheme == "http")
		to.header.Set("Content-Type", "application/grpc")
		to.header.Set("Te", "trailers")
	default:
		return nil, fmt.Errorf("%s.endpoint is %q; begin it with http://, https://, grpc:// "+
			"or grpcs://", c.Setting, c.Endpoint)
	}
	for _, line := range c.Headers {
		name, value, ok := strings.Cut(line, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%s.headers: each is NAME=VALUE, but one is not", c.Setting)
		}
		to.header.Add(name, value)
	}
	// A redirect would take the headers, which have keys, and what is sent to somebody else.
	to.http = &http.Client{Transport: transport, Timeout: sendTime,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}}
	return to, nil
}

// CloseIdle closes connections that are not in use.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

// maxAnswer is how much of an answer is read.
const maxAnswer = 64 << 10

// Outlive returns a context that ends a time after ctx does, or when it is cancelled: what is under
// way to a collector when the server ends still gets there.
func Outlive(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(by, cancel) })
	return longer, func() { stop(); cancel() }
}

// Send sends the request of a signal once: a collector that is away is not waited for.
func (c *Client) Send(ctx context.Context, s Signal, body []byte) error {
	at := c.base
	switch {
	case c.grpc: // one message, not compressed
		at.Path = s.method()
		body = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
	case !c.whole:
		at.Path = strings.TrimRight(at.Path, "/") + s.path()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = c.header.Clone()
	res, err := c.http.Do(req)
	if err != nil {
		return plainly(err)
	}
	defer func() { _ = res.Body.Close() }() // it is read
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the collector says %s: %.200q", res.Status, answer)
	}
	if code := res.Trailer.Get("Grpc-Status") + res.Header.Get("Grpc-Status"); c.grpc &&
		code != "0" {
		return fmt.Errorf("the collector says gRPC status %.20q: %.200q", code,
			res.Trailer.Get("Grpc-Message")+res.Header.Get("Grpc-Message"))
	}
	return nil
}

// plainly is err without the collector's URL, which may hold a password.
func plainly(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}
