package front

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"time"
)

// Of RFC 8446, section 5.1, and RFC 9849, section 5.
const (
	recordHandshake = 22
	extensionECH    = 0xfe0d
)

// serverName reads the first message of TLS. name is the one that it asks for; empty if there is
// none, if it is hidden, or if this is no such message. said is what was read, for the server.
func serverName(in io.Reader) (name string, said []byte) {
	var read bytes.Buffer
	hidden := false
	conn := tls.Server(&listening{io.TeeReader(io.LimitReader(in, maxHello), &read)}, &tls.Config{
		MinVersion: tls.VersionTLS10, // nothing is negotiated here
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			name, hidden = h.ServerName, slices.Contains(h.Extensions, extensionECH)
			return nil, errors.New("that is all")
		}})
	_ = conn.Handshake()
	if hidden {
		name = ""
	}
	return name, read.Bytes()
}

// listening is a connection that is only read.
type listening struct{ io.Reader }

func (*listening) Write(p []byte) (int, error)      { return len(p), nil }
func (*listening) Close() error                     { return nil }
func (*listening) LocalAddr() net.Addr              { return nil }
func (*listening) RemoteAddr() net.Addr             { return nil }
func (*listening) SetDeadline(time.Time) error      { return nil }
func (*listening) SetReadDeadline(time.Time) error  { return nil }
func (*listening) SetWriteDeadline(time.Time) error { return nil }
