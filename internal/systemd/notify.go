// Package systemd tells the service manager how the server does.
package systemd

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// notifyVariable names the socket on which systemd learns of a service's state (sd_notify(3)).
const notifyVariable = "NOTIFY_SOCKET"

// notifyTimeout is more than a datagram on a local socket takes.
const notifyTimeout = time.Second

// Notify tells systemd a state, such as READY=1, if it has started this process and wants to know
// (a unit of Type=notify).
func Notify(ctx context.Context, state string) error {
	path := os.Getenv(notifyVariable)
	if path == "" {
		return nil
	}
	if name, ok := strings.CutPrefix(path, "@"); ok {
		path = "\x00" + name // of the abstract namespace (unix(7))
	}
	dialer := net.Dialer{Timeout: notifyTimeout}
	conn, err := dialer.DialContext(ctx, "unixgram", path)
	if err != nil {
		return fmt.Errorf("tell systemd %q: %w", state, err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell systemd %q: %w", state, err)
	}
	return nil
}
