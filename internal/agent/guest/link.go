package guest

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/sandpool/sandpool/internal/agent"
)

// maxRequest bounds a request in JSON.
const maxRequest = 2 * agent.MaxCode

// link takes the connection of the request out of HTTP and serves executions on it.
func (s *Server) link(w http.ResponseWriter, r *http.Request) error {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("take the connection over: %w", err)
	}
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", agent.LinkProtocol)
	frames := agent.NewFrameReader(conn, maxRequest)
	ctx := context.WithoutCancel(r.Context())
	for err == nil {
		err = s.serveOne(ctx, conn, frames)
	}
	return nil // the host is gone, or does not speak as it should
}

// serveOne answers one request. The cell runs to its end even if the host is gone.
func (s *Server) serveOne(ctx context.Context, conn net.Conn, frames *agent.FrameReader) error {
	var req agent.ExecuteRequest
	if err := frames.Next(&req); err != nil {
		return err
	}
	var a agent.Answer
	err := normalise(&req)
	if err == nil {
		var res agent.ExecuteResult
		if res, err = s.driver.Load().Execute(ctx, req, nil); err == nil {
			a.Result = &res
		}
	}
	if err != nil {
		a.Fault = agent.FaultOf(err)
	}
	frame, err := agent.EncodeFrame(a)
	if err != nil {
		return err
	}
	_, err = conn.Write(frame)
	return err
}
