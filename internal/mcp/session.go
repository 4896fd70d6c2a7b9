package mcp

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/mcp/rpc"
)

// sessionHeader names an MCP session.
const sessionHeader = "Mcp-Session-Id"

// session is an MCP session's random number; "" is none.
type session string

// sessionLen is the length of a session's text: crypto/rand.Text gives 26 characters.
const sessionLen = 26

// newSession returns a session and its id, which says whose it is.
func (c *call) newSession() (session, string) {
	n := session(strings.ToLower(rand.Text()))
	return n, string(n) + "-" + c.seal(n)
}

// seal signs a session for the pool and the caller. One that another caller shows is none.
func (c *call) seal(n session) string {
	mac := hmac.New(sha256.New, c.s.o.Key)
	for _, part := range []string{"mcp session", c.pool.ID.Key(), c.who.Subject, string(n)} {
		_, _ = mac.Write([]byte(part + "\x00"))
	}
	return strings.ToLower(
		base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(mac.Sum(nil)[:20]),
	)
}

// openSession reads the session that the request names. One that is not the caller's, or was
// ended, is answered as the protocol has it: the client begins a new one.
func (c *call) openSession() *rpc.Error {
	ids := c.r.Header.Values(sessionHeader)
	if len(ids) == 0 {
		return nil
	}
	n, seal, _ := strings.Cut(ids[0], "-")
	if len(ids) > 1 || len(n) != sessionLen ||
		!hmac.Equal([]byte(seal), []byte(c.seal(session(n)))) ||
		c.s.ended.has(session(n)) {
		return &rpc.Error{Status: http.StatusNotFound, Code: rpc.CodeSession,
			Message: "The MCP session is not known, or was ended. Begin a new one with initialize."}
	}
	c.session = session(n)
	return nil
}

// environment is the pool's session that the tools of an MCP session use.
func (n session) environment() sandpool.Identifier {
	return sandpool.Identifier("mcp-" + string(n))
}

// end ends the MCP session that the request names, and its environment.
func (c *call) end() error {
	if e := c.openSession(); e != nil {
		return c.reply(e.Status, rpc.Response{Error: e})
	}
	if c.session == "" {
		return sandpool.Errorf(sandpool.Invalid, "", sessionHeader,
			"The request names no MCP session. Send the header %s.", sessionHeader)
	}
	c.s.ended.add(c.session)
	if err := c.s.pools.StopSession(
		c.r.Context(),
		c.pool.ID,
		c.session.environment(),
	); err != nil &&
		sandpool.ClassOf(err) != sandpool.NotFound {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// Sessions that were ended are remembered for endedTime, and endedMax of them. Whoever goes on
// with one after that begins it anew: it is empty.
const (
	endedTime = time.Hour
	endedMax  = 8192
)

// ended remembers the sessions that were ended.
type ended struct {
	mu sync.Mutex // guards at
	at map[session]time.Time
}

func newEnded() *ended { return &ended{at: map[session]time.Time{}} }

func (e *ended) add(n session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	for old, at := range e.at {
		if now.Sub(at) > endedTime {
			delete(e.at, old)
		}
	}
	for old := range e.at {
		if len(e.at) < endedMax {
			break
		}
		delete(e.at, old)
	}
	e.at[n] = now
}

func (e *ended) has(n session) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, ok := e.at[n]
	return ok
}

// running are the calls that can be cancelled, by session and the id of the request.
type running struct {
	mu sync.Mutex // guards of
	of map[string]context.CancelCauseFunc
}

func newRunning() *running { return &running{of: map[string]context.CancelCauseFunc{}} }

// begin returns a context that cancel ends. The caller calls done. A request whose id is running
// already cannot be cancelled: ids are unique in a session, and a second one's fault is its own.
func (r *running) begin(ctx context.Context, n session, id string) (context.Context, func()) {
	if n == "" {
		return ctx, func() {} // ids of different clients may be the same
	}
	ctx, cancel := context.WithCancelCause(ctx)
	key := string(n) + " " + id
	r.mu.Lock()
	_, taken := r.of[key]
	if !taken {
		r.of[key] = cancel
	}
	r.mu.Unlock()
	return ctx, func() {
		cancel(nil)
		if taken {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.of, key)
	}
}

// cancel ends the call with the given id.
func (r *running) cancel(n session, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cancel := r.of[string(n)+" "+id]; cancel != nil {
		cancel(errCancelled)
	}
}

// errCancelled is why a call ended that its client has cancelled.
var errCancelled = errors.New("the call was cancelled by its client")
