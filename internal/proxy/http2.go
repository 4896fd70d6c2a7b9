package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"time"
)

// An h2Client speaks HTTP/2 with one port of a container. Most requests share one stream.
type h2Client struct{ transport *http.Transport }

// client2 returns the session's client for port.
func (s *session) client2(port int) (*h2Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, context.Cause(s.to.Context())
	}
	if c := s.h2[port]; c != nil {
		return c, nil
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	c := &h2Client{&http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			st, err := s.take(ctx, port, true)
			if err != nil {
				return nil, err
			}
			return &h2Conn{st}, nil
		},
		Protocols:              &protocols,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHead,
		IdleConnTimeout:        s.proxy.options.IdleTime,
		HTTP2: &http.HTTP2Config{
			// What a container may send ahead of its reader, per request and in all.
			MaxReceiveBufferPerStream:     256 << 10,
			MaxReceiveBufferPerConnection: 4 << 20,
			SendPingTimeout:               s.proxy.options.Quiet,
			PingTimeout:                   s.proxy.options.Stall,
			WriteByteTimeout:              s.proxy.options.Stall,
		},
	}}
	if s.h2 == nil {
		s.h2 = map[int]*h2Client{}
	}
	s.h2[port] = c
	return c, nil
}

func (c *h2Client) close() { c.transport.CloseIdleConnections() }

// An h2Conn is a stream that the session forgets when it is closed.
type h2Conn struct{ *stream }

// Close implements net.Conn.
func (c *h2Conn) Close() error {
	c.of.let(c.stream)
	return c.stream.Close()
}

// forward2 forwards a request by HTTP/2.
func (p *Proxy) forward2(q Request, s *session) error {
	r, t := q.r, q.t
	client, err := s.client2(t.Port)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.to.Context(), func() { cancel(context.Cause(s.to.Context())) })()
	x := newExchange(p, s, q)
	if r.ProtoMajor == 1 && x.kind != noBody {
		_ = x.control.EnableFullDuplex() // tests' writers have none
	}
	if x.kind != noBody {
		defer x.endBody(false) // the client may read on for a moment
	}
	trace := &httptrace.ClientTrace{Got1xxResponse: x.inform2}
	out := x.request2(httptrace.WithClientTrace(ctx, trace))
	resp, err := client.transport.RoundTrip(out)
	if err != nil {
		return x.failed2(ctx, err)
	}
	defer resp.Body.Close()
	return x.answer2(ctx, resp)
}

// request2 is r as the container gets it.
func (x *exchange) request2(ctx context.Context) *http.Request {
	target := x.t.Path
	if x.r.URL.RawQuery != "" || x.r.URL.ForceQuery {
		target += "?" + x.r.URL.RawQuery
	}
	host := x.r.Host
	if host == "" {
		host = "localhost"
	}
	out := &http.Request{
		Method: x.r.Method,
		// The client sends what is behind the host as it is: a path of url.URL would be escaped
		// anew.
		URL:           &url.URL{Scheme: "http", Host: host, Opaque: "//" + host + target},
		Host:          host,
		Header:        http.Header{},
		ContentLength: x.r.ContentLength,
	}
	x.p.each(x.r, x.t, func(name, value string) {
		out.Header[name] = append(out.Header[name], value)
	})
	if lists(x.r.Header, "Te", "trailers") {
		out.Header["Te"] = []string{"trailers"}
	}
	if out.Header["User-Agent"] == nil {
		out.Header["User-Agent"] = []string{""} // otherwise the client adds its own
	}
	if x.kind != noBody {
		out.Body = &body2{x: x, ReadCloser: x.r.Body, trailer: &out.Trailer}
		for name := range x.r.Trailer {
			if trailerAllowed(name) {
				if out.Trailer == nil {
					out.Trailer = http.Header{}
				}
				out.Trailer[name] = nil
			}
		}
	}
	return out.WithContext(ctx)
}

// A body2 is a request's body on its way to a container, with the deadlines of all bodies.
type body2 struct {
	x *exchange
	io.ReadCloser
	trailer *http.Header
}

// Read implements io.Reader.
func (b *body2) Read(p []byte) (int, error) {
	b.x.limitBody()
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		for name := range *b.trailer {
			if v := b.x.r.Trailer[name]; checkField(name, v) == nil {
				(*b.trailer)[name] = v
			}
		}
	}
	return n, err
}

// inform2 hands an informational head on.
func (x *exchange) inform2(status int, h textproto.MIMEHeader) error {
	if status == http.StatusContinue || !x.r.ProtoAtLeast(1, 1) {
		return nil
	}
	x.head = fromHeader(status, http.Header(h))
	x.inform()
	return nil
}

// fromHeader is a head that a library has parsed.
func fromHeader(status int, h http.Header) head {
	out := head{status: status, length: -1, drop: nominated(h)}
	for name, values := range h {
		for _, v := range values {
			out.fields = append(out.fields, name, v)
		}
	}
	return out
}

// failed2 says what an error before the answer means.
func (x *exchange) failed2(ctx context.Context, err error) error {
	switch {
	case x.r.Context().Err() != nil:
		return context.Cause(x.r.Context())
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	if known := asTold(err); known != nil {
		return known
	}
	return x.s.why(x.t.Port, lost(err))
}

// answer2 hands the answer on.
func (x *exchange) answer2(ctx context.Context, resp *http.Response) error {
	h := x.w.Header()
	x.head = fromHeader(resp.StatusCode, resp.Header)
	x.head.copyTo(h, x.t)
	for name := range resp.Trailer {
		if trailerAllowed(name) {
			h.Add("Trailer", name)
		}
	}
	if h["Trailer"] != nil && x.r.ProtoMajor == 1 {
		delete(h, "Content-Length") // HTTP/1.1 has trailers only behind chunks
	}
	x.allow()
	x.w.WriteHeader(resp.StatusCode)
	x.started = true
	// An answer that is over with its head must stay so: gRPC's "trailers only" is one.
	if resp.ContentLength != 0 && x.flush() != nil {
		return ErrCallerGone
	}
	quiet := time.AfterFunc(x.p.options.Quiet, func() { _ = resp.Body.Close() })
	defer quiet.Stop()
	buf := x.p.buffers.get(largeBuffer)
	defer x.p.buffers.put(buf)
	for {
		n, err := resp.Body.Read(buf)
		quiet.Reset(x.p.options.Quiet)
		if n > 0 {
			if werr := x.write(buf[:n]); werr != nil {
				return ErrCallerGone
			}
			if werr := x.flush(); werr != nil {
				return ErrCallerGone
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			for name, values := range resp.Trailer {
				for _, v := range values {
					if trailerAllowed(name) {
						x.trailer(name, v)
					}
				}
			}
			return nil
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return x.s.cut(err)
		}
	}
}
