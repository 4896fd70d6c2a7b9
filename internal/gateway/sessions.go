package gateway

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/gateway/wire"
	"github.com/sandpool/sandpool/internal/history/executions"
)

// pageSize is the most sessions that one page lists, the documented figure of the service.
const pageSize = 300

// getSession describes a session and creates none.
func (g *Gateway) getSession(c *call) error {
	identifier, err := c.identifier()
	if err != nil {
		return err
	}
	s, err := g.pools.Session(c.r.Context(), c.pool, identifier)
	if err != nil {
		return err
	}
	return arm.WriteJSON(c.w, http.StatusOK, wire.Session(s))
}

// sessionDetail is getSession with what else is known.
func (g *Gateway) sessionDetail(c *call) error {
	identifier, err := c.identifier()
	if err != nil {
		return err
	}
	s, err := g.pools.Session(c.r.Context(), c.pool, identifier)
	if err != nil {
		return err
	}
	out := api.SessionDetail{SessionView: wire.Session(s), Sandbox: string(s.Sandbox),
		Use: []api.UsePoint{}, Runs: []api.RunNote{}, Callers: []string{}}
	if g.options.Detail != nil {
		if err := g.options.Detail(c.r.Context(), s, &out); err != nil {
			return err
		}
	}
	return arm.WriteJSON(c.w, http.StatusOK, out)
}

// noHistory is the error of a question for what is not kept.
func noHistory(pool string) error {
	return sandpool.Errorf(sandpool.Conflict, "HistoryNotKept", "identifier",
		"The pool %s does not keep what its sessions run. Whoever may change it turns that on with "+
			"'sandpool pool update %s --history'.", pool, pool)
}

// past returns what keeps the executions of the call's pool, and the identifier that it is about.
// There need be no session.
func (g *Gateway) past(c *call) (*executions.Keeper, sandpool.Identifier, error) {
	identifier, err := c.identifier()
	if err != nil {
		return nil, "", err
	}
	p, err := g.pools.Pool(c.r.Context(), c.pool)
	if err == nil && (p.Spec.History == nil || g.options.History == nil) {
		err = noHistory(p.ID.Name)
	}
	return g.options.History, identifier, err
}

// pastExecutions answers with what sessions of an identifier ran, as far as it is kept.
func (g *Gateway) pastExecutions(c *call) error {
	kept, identifier, err := g.past(c)
	if err != nil {
		return err
	}
	after, err := c.number(api.AfterParameter, 0, 0, math.MaxInt)
	if err != nil {
		return err
	}
	b, err := arm.Encode(kept.List(c.pool, identifier, int64(after)))
	if err != nil {
		return err
	}
	return g.deliver(c, http.StatusOK, b)
}

// forgetExecutions drops what is kept of an identifier's sessions.
func (g *Gateway) forgetExecutions(c *call) error {
	kept, identifier, err := g.past(c)
	if err != nil {
		return err
	}
	kept.Forget(c.pool, identifier)
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// deleteSession ends a session; the identifier's next call gets a fresh one.
func (g *Gateway) deleteSession(c *call) error {
	if _, err := g.stop(c); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// stopSession is deleteSession in the words of .management.
func (g *Gateway) stopSession(c *call) error {
	identifier, err := g.stop(c)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	c.w.Header().Set("X-Content-Type-Options", "nosniff")
	if _, err := io.WriteString(c.w, fmt.Sprintf("Session %s in session pool %s stopped.",
		identifier, c.pool.Name)); err != nil {
		return arm.NotTaken(err)
	}
	return nil
}

func (g *Gateway) stop(c *call) (sandpool.Identifier, error) {
	identifier, err := c.identifier()
	if err != nil {
		return "", err
	}
	if err := g.pools.StopSession(c.r.Context(), c.pool, identifier); err != nil {
		return "", err
	}
	return identifier, nil
}

func (g *Gateway) listSessions(c *call) error {
	views, next, err := g.page(c)
	if err != nil {
		return err
	}
	return arm.WriteJSON(c.w, http.StatusOK, api.Sessions{Sessions: views, NextLink: next})
}

func (g *Gateway) manageSessions(c *call) error {
	views, next, err := g.page(c)
	if err != nil {
		return err
	}
	return arm.WriteJSON(c.w, http.StatusOK, api.ManagedSessions{Value: views, Count: len(views),
		NextLink: next})
}

// page reads skip and limit and returns that page of sessions, with a link to the next.
func (g *Gateway) page(c *call) ([]api.SessionView, string, error) {
	skip, err := c.number("skip", 0, 0, 1<<31-1)
	if err != nil {
		return nil, "", err
	}
	limit, err := c.number("limit", pageSize, 1, pageSize)
	if err != nil {
		return nil, "", err
	}
	sessions, more, err := g.sessions(c, skip, limit)
	if err != nil {
		return nil, "", err
	}
	views := make([]api.SessionView, len(sessions))
	for i, s := range sessions {
		views[i] = wire.Session(s)
	}
	if !more {
		return views, "", nil
	}
	return views, g.link(c, "skip", strconv.Itoa(skip+len(sessions))), nil
}

// sessions returns limit of the sessions that the caller may see, after the first skip of
// them, and whether there are more.
func (g *Gateway) sessions(c *call, skip, limit int) ([]sandpool.Session, bool, error) {
	if !c.narrow {
		return g.pools.Sessions(c.r.Context(), c.pool, skip, limit)
	}
	var seen []sandpool.Session
	for from, more := 0, true; more && len(seen) <= skip+limit; from += pageSize {
		var page []sandpool.Session
		var err error
		if page, more, err = g.pools.Sessions(c.r.Context(), c.pool, from, pageSize); err != nil {
			return nil, false, err
		}
		for _, s := range page {
			if c.may(s.Identifier) == nil {
				seen = append(seen, s)
			}
		}
	}
	seen = seen[min(skip, len(seen)):]
	return seen[:min(limit, len(seen))], len(seen) > limit, nil
}
