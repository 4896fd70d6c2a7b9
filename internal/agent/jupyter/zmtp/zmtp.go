// Package zmtp is the part of ZeroMQ's wire protocol, ZMTP 3.0 (RFC 23), that a client of Jupyter
// kernels needs: sockets that connect over TCP, with the mechanism NULL.
//
// # Why not a library
//
// The code is in the program that starts in every sandbox. A ZeroMQ socket hides a set of
// connections, their reconnection, queues and routing; a client of one kernel has one connection
// for each socket, and a kernel that went away takes them with it. What is left is a greeting, a
// handshake and frames, and here they have bounds: the lengths in a frame's head are 64 bits that
// the peer chooses.
//
// # The wire
//
// A connection begins with a greeting of 64 bytes from each side: a signature (FF, eight bytes,
// 7F), the version, the mechanism's name in 20 bytes, whether the side is a server, and filler.
// Then each side sends the command READY with the type of its socket, and its identity where it has
// one. From then on there are frames:
//
//	flags (1: more parts follow, 2: long, 4: command), length (1 byte, or 8 if long), body
//
// A message is its frames up to the one without "more". Commands stand between messages.
package zmtp

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// The types of sockets that a client has.
const (
	Dealer = "DEALER"
	Sub    = "SUB"
)

// Bounds of what a peer may send.
const (
	MaxMessage = 64 << 20 // bytes of a message
	MaxParts   = 1024     // frames of a message
	maxCommand = 4 << 10  // bytes of a command
)

const (
	greetingSize = 64
	mechanism    = "NULL"
	shakeTime    = 10 * time.Second

	flagMore    = 1
	flagLong    = 2
	flagCommand = 4
)

// ErrSelf is returned when a connection has met itself: TCP allows that where nobody listens.
var ErrSelf = errors.New("zmtp: the connection is to itself")

// Conn is a connection of one socket to one peer. Send may be called from several goroutines,
// Receive from one.
type Conn struct {
	conn net.Conn
	r    *bufio.Reader
	mu   sync.Mutex // guards writes to conn, a message at a time
}

// Dial connects a socket of the given type to a TCP address. identity is what a ROUTER on the other
// side calls this one; it may be "".
func Dial(ctx context.Context, addr, socket, identity string) (*Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if conn.LocalAddr().String() == conn.RemoteAddr().String() {
		return nil, errors.Join(ErrSelf, conn.Close())
	}
	c, err := New(conn, socket, identity)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// New greets the peer at the other end of conn.
func New(conn net.Conn, socket, identity string) (*Conn, error) {
	c := &Conn{conn: conn, r: newReader(conn)}
	if err := conn.SetDeadline(time.Now().Add(shakeTime)); err != nil {
		return nil, err
	}
	greeting := make([]byte, greetingSize)
	greeting[0], greeting[9], greeting[10] = 0xff, 0x7f, 3
	copy(greeting[12:], mechanism)
	if _, err := conn.Write(append(greeting, ready(socket, identity)...)); err != nil {
		return nil, fmt.Errorf("zmtp: greet: %w", err)
	}
	if err := c.greeted(); err != nil {
		return nil, err
	}
	if socket == Sub {
		// A subscription to everything: in version 3.0 a message, "\x01" and a prefix.
		if err := c.Send([]byte{1}); err != nil {
			return nil, err
		}
	}
	return c, conn.SetDeadline(time.Time{})
}

func newReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, 64<<10) }

// greeted reads the peer's greeting and READY.
func (c *Conn) greeted() error {
	var g [greetingSize]byte
	if _, err := io.ReadFull(c.r, g[:]); err != nil {
		return fmt.Errorf("zmtp: greeting: %w", err)
	}
	var name [20]byte
	copy(name[:], mechanism)
	if g[0] != 0xff || g[9]&1 != 1 || g[10] < 3 || [20]byte(g[12:32]) != name {
		return fmt.Errorf("zmtp: the peer greets with %q, not with version 3 and NULL", g[:32])
	}
	flags, body, err := c.frame(maxCommand)
	if err != nil {
		return fmt.Errorf("zmtp: handshake: %w", err)
	}
	if name, _ := command(body); flags&flagCommand == 0 || name != "READY" {
		return fmt.Errorf("zmtp: the peer says %.64q, not READY", body)
	}
	return nil
}

// ready is the command READY as a frame.
func ready(socket, identity string) []byte {
	body := []byte("\x05READY")
	for _, p := range [][2]string{{"Socket-Type", socket}, {"Identity", identity}} {
		body = append(body, byte(len(p[0])))
		body = append(body, p[0]...)
		body = binary.BigEndian.AppendUint32(body, uint32(len(p[1]))) // short words of ours
		body = append(body, p[1]...)
	}
	return appendFrame(nil, flagCommand, body)
}

// command splits the body of a command into its name and its data.
func command(body []byte) (name string, data []byte) {
	if len(body) == 0 || int(body[0]) >= len(body) {
		return "", nil
	}
	return string(body[1 : 1+body[0]]), body[1+body[0]:]
}

func appendFrame(to []byte, flags byte, body []byte) []byte {
	if len(body) > 255 {
		to = append(to, flags|flagLong)
		to = binary.BigEndian.AppendUint64(to, uint64(len(body)))
	} else {
		to = append(to, flags, byte(len(body)))
	}
	return append(to, body...)
}

// Send sends a message of at least one part.
func (c *Conn) Send(parts ...[]byte) error {
	var out []byte
	for i, p := range parts {
		flags := byte(0)
		if i < len(parts)-1 {
			flags = flagMore
		}
		out = appendFrame(out, flags, p)
	}
	return c.write(out)
}

func (c *Conn) write(out []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.conn.Write(out)
	return err
}

// Receive returns the next message. It answers the peer's heartbeats on its way.
func (c *Conn) Receive() ([][]byte, error) {
	var parts [][]byte
	left := MaxMessage
	for {
		flags, body, err := c.frame(left)
		if err != nil {
			return nil, err
		}
		if flags&flagCommand != 0 {
			if err := c.obey(body); err != nil {
				return nil, err
			}
			continue
		}
		left -= len(body)
		if parts = append(parts, body); len(parts) > MaxParts {
			return nil, fmt.Errorf("zmtp: a message has more than %d parts", MaxParts)
		}
		if flags&flagMore == 0 {
			return parts, nil
		}
	}
}

// obey does what a command asks for: PING (RFC 37) wants a PONG with its context, which follows
// two bytes; ERROR ends the connection; others are for sockets that we are not.
func (c *Conn) obey(body []byte) error {
	name, data := command(body)
	switch {
	case name == "PING" && len(data) >= 2:
		return c.write(appendFrame(nil, flagCommand, append([]byte("\x04PONG"), data[2:]...)))
	case name == "ERROR":
		return fmt.Errorf("zmtp: the peer ends with %.256q", data)
	}
	return nil
}

// frame reads one frame of at most limit bytes. Memory grows with what arrives, not with what the
// head says.
func (c *Conn) frame(limit int) (flags byte, body []byte, err error) {
	if flags, err = c.r.ReadByte(); err != nil {
		return 0, nil, err
	}
	if flags&^(flagMore|flagLong|flagCommand) != 0 ||
		flags&flagCommand != 0 && flags&flagMore != 0 {
		return 0, nil, fmt.Errorf("zmtp: a frame has the flags %#x", flags)
	}
	if flags&flagCommand != 0 {
		limit = min(limit, maxCommand)
	}
	head := make([]byte, 8)
	size := head[7:]
	if flags&flagLong != 0 {
		size = head
	}
	if _, err := io.ReadFull(c.r, size); err != nil {
		return 0, nil, whole(err)
	}
	n := binary.BigEndian.Uint64(head)
	if n > uint64(max(limit, 0)) {
		return 0, nil, fmt.Errorf("zmtp: a message has more than %d bytes", MaxMessage)
	}
	const atOnce = 1 << 20
	for body = make([]byte, 0, min(n, atOnce)); uint64(len(body)) < n; {
		start := len(body)
		step := min(n-uint64(start), atOnce)
		body = append(body, make([]byte, step)...)
		if _, err := io.ReadFull(c.r, body[start:]); err != nil {
			return 0, nil, whole(err)
		}
	}
	return flags, body, nil
}

// whole makes an end within a frame an error that is not io.EOF.
func whole(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Close ends the connection.
func (c *Conn) Close() error { return c.conn.Close() }
