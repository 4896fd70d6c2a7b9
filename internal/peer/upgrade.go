package peer

import (
	"bufio"
	"errors"
	"net"
	"net/http"
)

// taker is a ResponseWriter whose connection, once taken over, has what the server has read ahead
// of it: a caller may send before it knows that the protocol has changed.
type taker struct{ http.ResponseWriter }

// Unwrap is for http.ResponseController.
func (t taker) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// Hijack implements http.Hijacker.
func (t taker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, both, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	ahead, _ := both.Reader.Peek(both.Reader.Buffered()) // no more than there is
	return &taken{Conn: conn, ahead: append([]byte(nil), ahead...)}, both, nil
}

// taken is a connection of which something was read ahead.
type taken struct {
	net.Conn
	ahead []byte
}

// Read implements net.Conn.
func (c *taken) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// CloseWrite ends one direction, where the connection can.
func (c *taken) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
