package guest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/guest/output"
	"github.com/sandpool/sandpool/internal/quiet"
)

// maxRequest bounds a request in JSON, which makes six bytes of a control character.
const maxRequest = 6*agent.MaxCode + 64<<10

// takeOver takes the connection of the request out of HTTP and tells the host what it
// speaks from now on, with more lines of the header. That the host is gone shows at the next read.
func takeOver(w http.ResponseWriter, protocol string, more ...string) (net.Conn, error) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("take the connection over: %w", err)
	}
	lines := append([]string{"HTTP/1.1 101 Switching Protocols", "Connection: Upgrade",
		"Upgrade: " + protocol}, more...)
	_, _ = io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n")
	return conn, nil
}

// link serves executions on the connection of the request.
func (s *Server) link(w http.ResponseWriter, r *http.Request) error {
	conn, err := takeOver(w, agent.LinkProtocol, agent.RecordsHeader+": 1")
	if err != nil {
		return err
	}
	defer conn.Close()
	if line, ok := conn.(linkConn); ok { // as all are that have a descriptor
		s.serveLink(context.WithoutCancel(r.Context()), line)
	}
	return nil
}

// serveLink answers requests until the host is gone, or does not speak as it should.
func (s *Server) serveLink(ctx context.Context, conn linkConn) {
	host, err := newCaller(ctx, conn)
	if err != nil {
		return // the connection is closed
	}
	defer host.leave()
	frames := agent.NewFrameReader(conn, maxRequest)
	for s.serveOne(host, frames) == nil {
	}
}

// serveChannel serves executions on a link that is there from the start: the agent's
// standard input, if that is a socket. Nobody but the host has its other end, so it
// needs no secret. An input of another kind is left as it is: the host opens links itself.
func (s *Server) serveChannel(ctx context.Context, input *os.File) {
	if info, err := input.Stat(); err != nil || info.Mode()&os.ModeSocket == 0 {
		return
	}
	defer input.Close() // at the end, so that the host learns of it
	conn, err := quiet.FromFile(input)
	if err != nil {
		return
	}
	defer conn.Close()
	s.serveLink(ctx, conn)
}

// serveOne answers one request. Nothing is said to a host that has hung up.
func (s *Server) serveOne(host *caller, frames *agent.FrameReader) error {
	var req agent.StartRequest
	if err := frames.Next(&req); err != nil {
		return err
	}
	var a agent.Answer
	var err error
	if req.ID != "" {
		var sent bool
		if sent, err = s.record(host, req); sent {
			return err
		}
	} else {
		var res agent.ExecuteResult
		res, err = s.perform(host, req.ExecuteRequest, nil)
		host.rest()
		if gone := host.Context.Err(); gone != nil {
			return gone
		}
		a.Result = &res
	}
	if err != nil {
		a = agent.Answer{Fault: agent.FaultOf(err)}
	}
	frame, err := agent.EncodeFrame(a)
	if err != nil {
		return err
	}
	_, err = host.conn.Write(frame)
	return err
}

// record runs a cell that goes on if its host leaves, and sends its records. An error without any
// is why it was not begun.
func (s *Server) record(host *caller, req agent.StartRequest) (sent bool, err error) {
	if err := normalise(&req.ExecuteRequest); err != nil {
		return false, err
	}
	return s.executions.Run(host.Context, req, s.perform, host.conn)
}

// perform runs the cell of a request, for as long as ctx says that somebody waits for it.
func (s *Server) perform(ctx context.Context, req agent.ExecuteRequest,
	f *output.Feed) (agent.ExecuteResult, error) {
	d, err := s.contexts.of(ctx, s.driver.Load(), req)
	if err != nil {
		return agent.ExecuteResult{}, err
	}
	return perform(ctx, d, req, f)
}

func perform(ctx context.Context, d *Driver, req agent.ExecuteRequest,
	f *output.Feed) (agent.ExecuteResult, error) {
	if err := d.normalise(&req); err != nil {
		return agent.ExecuteResult{}, err
	}
	return d.Execute(ctx, req, f)
}

// rehearsals is how often a cell is executed before the first of a user. Each takes a little more
// memory, which in a machine that has not used it lately costs more than the cell: after one, a
// first answer touched 13 new pieces of 64 KB, after three it touches 3 to 7.
const rehearsals = 3

// rehearse executes cells as requests on a link do. Before the snapshot they leave in
// memory what is made at the first use; after the restore they touch the pages of which
// the first request would otherwise wait for each.
func rehearse(ctx context.Context, d *Driver) error {
	for range rehearsals {
		if err := rehearseOnce(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

func rehearseOnce(ctx context.Context, d *Driver) error {
	request, err := agent.EncodeFrame(agent.ExecuteRequest{Code: d.cfg.Kernel.Rehearsal})
	if err != nil {
		return err
	}
	var req agent.ExecuteRequest
	if err := agent.NewFrameReader(bytes.NewReader(request), maxRequest).Next(&req); err != nil {
		return err
	}
	res, err := perform(ctx, d, req, nil)
	if err != nil {
		return err
	}
	_, err = agent.EncodeFrame(agent.Answer{Result: &res})
	return err
}
