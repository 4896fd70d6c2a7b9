package control

import (
	"context"
	"net/http"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/event"
)

// The bounds of a question for events.
const (
	maxEvents = 1000
	// maxWait is below the idle time of common proxies.
	maxWait = 30
)

// poolEvents answers with what happened to a pool lately, or waits for the next.
func (c *Control) poolEvents(w http.ResponseWriter, r *http.Request, id sandpool.PoolID) error {
	if _, err := c.pools.Pool(r.Context(), id); err != nil {
		return err
	}
	return c.events(w, r, id)
}

// serverEvents is poolEvents for the server with all of its pools.
func (c *Control) serverEvents(w http.ResponseWriter, r *http.Request) error {
	if err := auth.Require(r.Context(), auth.ReadHost, sandpool.Scope{}); err != nil {
		return err
	}
	return c.events(w, r, sandpool.PoolID{})
}

func (c *Control) events(w http.ResponseWriter, r *http.Request, id sandpool.PoolID) error {
	query := arm.Query{Raw: r.URL.RawQuery}
	after, err := query.Number(api.AfterParameter, 0, 0, 1<<53)
	if err != nil {
		return err
	}
	limit, err := query.Number(api.LimitParameter, maxEvents, 0, maxEvents)
	if err != nil {
		return err
	}
	wait, err := query.Number(api.WaitParameter, 0, 0, maxWait)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Duration(wait)*time.Second)
	defer cancel()
	page := c.o.Events.Follow(ctx, event.Query{Pool: id, After: after, Limit: int(limit)})
	if err := r.Context().Err(); err != nil {
		return err
	}
	host := auth.Require(r.Context(), auth.ReadHost, sandpool.Scope{}) == nil
	out := api.Events{Value: make([]api.Event, 0, len(page.Events)), Next: page.Next,
		Missed: page.Missed}
	for _, e := range page.Events {
		out.Value = append(out.Value, renderEvent(e, host))
	}
	return arm.WriteJSON(w, http.StatusOK, out)
}

// renderEvent returns e as readers see it; host says that its cause is for them too.
func renderEvent(e event.Event, host bool) api.Event {
	out := api.Event{Sequence: e.Seq, Time: stamp(e.Time), Name: string(e.Name),
		Stream: string(e.Name.Stream()),
		Level:  e.Name.Level().String(), Text: e.Name.Text(), Sandbox: string(e.Sandbox), By: e.By,
		Outcome: e.Outcome, Message: e.Message, Count: e.Count, RetryAt: stamp(e.Retry)}
	if e.Pool != (sandpool.PoolID{}) {
		out.Pool = e.Pool.String()
	}
	if e.Took != 0 {
		seconds := e.Took.Seconds()
		out.Seconds = &seconds
	}
	if e.Err != nil && host {
		out.Error = e.Err.Error()
	}
	return out
}

// tell lets the server's observers know what the caller of r did to a pool.
func (c *Control) tell(r *http.Request, name event.Name, id sandpool.PoolID) {
	who, _ := auth.FromContext(r.Context())
	c.o.Events.Observe(event.Event{Name: name, Pool: id, By: who.Subject})
}
