package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/sandpool/sandpool"
)

// tunnelHelp tells how a tunnel is opened.
const tunnelHelp = "GET .management/tunnel?port=PORT with the header Upgrade: tcp, " +
	"or as a WebSocket"

// CheckTunnel makes a Request of r that connects the caller with a port of the container, for
// whatever protocol. port is as the caller wrote it; empty means the target port. Others must be
// among Target.Ports.
//
// With Upgrade: tcp, the caller's connection becomes the tunnel, and each side can end what it
// sends on its own. As a WebSocket, bytes go in binary messages whose bounds mean nothing; a close
// ends both directions.
func CheckTunnel(w http.ResponseWriter, r *http.Request, t Target, port string) (Request, error) {
	number, err := tunnelPort(t, port)
	if err != nil {
		return Request{}, err
	}
	protocol := tunnelProtocol(r)
	if r.Method != http.MethodGet || protocol != "tcp" && protocol != "websocket" {
		w.Header().Set("Upgrade", "tcp, websocket")
		return Request{}, sandpool.Errorf(sandpool.Unsupported, "UpgradeRequired", "Upgrade",
			"A tunnel is opened by %s.", tunnelHelp)
	}
	return Request{w: w, r: r, t: t, tunnel: number}, nil
}

func tunnelProtocol(r *http.Request) string { return strings.ToLower(upgradeOf(r)) }

// dig makes the tunnel that q asks for, and returns when it has ended.
func (p *Proxy) dig(q Request, session *session) error {
	st, err := session.take(q.r.Context(), q.tunnel, true)
	if err != nil {
		return err
	}
	defer session.drop(st)
	stop := context.AfterFunc(q.r.Context(), st.abort)
	caller, err := open(q.w, q.r, tunnelProtocol(q.r))
	switch {
	case errors.Is(err, errAnswered):
		return nil
	case err != nil:
		return err
	}
	defer caller.Close()
	if !stop() {
		return nil // the caller has gone
	}
	if !session.hold(caller) {
		return nil
	}
	defer session.let(caller)
	begun(q.hold)
	p.pump(caller, st.Conn, q.t.Idle)
	return nil
}

// tunnelPort is the port of a tunnel, if the pool lets tunnels reach it.
func tunnelPort(t Target, port string) (int, error) {
	if port == "" {
		return t.Port, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return 0, refuse("port", "The port is %q; use 1 to 65535.", clip(port))
	}
	if number := int(n); number == t.Port || slices.Contains(t.Ports, number) {
		return number, nil
	}
	return 0, sandpool.Errorf(sandpool.Denied, "PortNotExposed", "port",
		"The pool does not expose port %d. It exposes its target port, %d, and those of "+
			"properties.sandpool.ports.", n, t.Port)
}

// open makes the caller's connection the end of a tunnel.
func open(w http.ResponseWriter, r *http.Request, protocol string) (net.Conn, error) {
	if protocol == "websocket" {
		c, err := websocket.Accept(w, r,
			&websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
		if err != nil {
			return nil, errAnswered
		}
		c.SetReadLimit(-1) // messages are read piece by piece
		return websocket.NetConn(context.WithoutCancel(r.Context()), c, websocket.MessageBinary),
			nil
	}
	caller, err := takeOver(w)
	if err != nil {
		return nil, err
	}
	_ = caller.SetWriteDeadline(time.Now().Add(openTime)) // the write will tell what is wrong
	h := w.Header()
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{"tcp"}
	if _, err := caller.Write(switchHead(h)); err != nil {
		_ = caller.Close()
	}
	return caller, nil
}

// openTime is how long a caller may take to accept the first bytes of a tunnel.
const openTime = 30 * time.Second
