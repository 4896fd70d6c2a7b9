package web

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

func sessionPath(pool, identifier string) string {
	return poolPath(pool) + "/sessions/" + url.PathEscape(identifier)
}

// sessionView is the page of one session.
type sessionView struct {
	Pool         string
	Custom       bool
	EndpointPath string
	Query        string // names the session to the API
	api.SessionDetail
	Keeps bool // what it runs
	Over  bool // there is its history alone
}

// keeps reports whether a pool keeps what its sessions run.
func keeps(p api.SessionPool) bool {
	s := p.Properties.Sandpool
	return s != nil && s.History != nil && s.History.Enabled != nil && *s.History.Enabled
}

// findSession leads from a form to the page of a session, which may have ended.
func (w *Web) findSession(rw http.ResponseWriter, r *http.Request) {
	http.Redirect(rw, r, sessionPath(r.PathValue("name"),
		strings.TrimSpace(r.URL.Query().Get("identifier"))), http.StatusSeeOther)
}

func (w *Web) sessionPage(ctx context.Context, a asked) (string, view, error) {
	name, identifier := a.PathValue("name"), a.PathValue("identifier")
	v := view{Title: identifier + " – session", Here: "pools"}
	p, err := a.api.Pool(ctx, name)
	if err != nil {
		return "", v, err
	}
	s, err := a.api.SessionDetail(ctx, name, identifier)
	over := false
	if sandpool.ClassOf(err) == sandpool.NotFound && keeps(p) {
		h, failed := a.api.SessionHistory(ctx, name, identifier, 0)
		if over = failed == nil && len(h.Value) > 0; over {
			s.Identifier, err = identifier, nil
		}
	}
	if err != nil {
		return "", v, err
	}
	v.Data = sessionView{Pool: p.Name, SessionDetail: s, Keeps: keeps(p), Over: over,
		EndpointPath: endpointPath(a.api.PoolEndpoint(p.Name)),
		Query:        "api-version=2025-10-02-preview&identifier=" + url.QueryEscape(identifier),
		Custom:       p.Properties.ContainerType == string(sandpool.CustomContainer)}
	return "session", v, nil
}

// rollout is how far a pool's sandboxes are at its revision.
type rollout struct{ New, Old, OldClaimed int }

func rolloutOf(s api.PoolStatus) (r rollout) {
	for _, b := range s.Sandboxes {
		switch {
		case b.State == string(sandpool.Stopping):
		case b.Revision == s.Revision:
			r.New++
		default:
			r.Old++
			if b.State == string(sandpool.Claimed) {
				r.OldClaimed++
			}
		}
	}
	return r
}

// cause is why sandboxes of a pool did not start or ended, and how often lately.
type cause struct {
	What, Why, Last string
	Count           int
}

// maxCauses bounds the causes that a page shows.
const maxCauses = 10

// causesOf sums up what went wrong, the latest first.
func causesOf(events []api.Event) (all []cause) {
	for _, e := range slices.Backward(events) {
		why := strings.Join(slices.DeleteFunc([]string{e.Outcome, e.Message, e.Error},
			func(s string) bool { return s == "" }), " – ")
		if e.Level != "warning" && e.Level != "error" {
			continue
		}
		i := slices.IndexFunc(all, func(c cause) bool { return c.What == e.Text && c.Why == why })
		if i >= 0 {
			all[i].Count++
		} else if len(all) < maxCauses {
			all = append(all, cause{e.Text, why, e.Time, 1})
		}
	}
	return all
}
