package web

import (
	"context"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
)

// pageTime bounds what a page asks of the API.
const pageTime = 20 * time.Second

// asked is a request of one who has signed in.
type asked struct {
	*http.Request
	visit visit
	api   *client.Client
}

// view is what every page is made from.
type view struct {
	Title   string
	Here    string // the part of the navigation that the page belongs to
	CSRF    string
	Version string
	Notice  string
	Error   string
	Data    any
}

// page serves a page to those who have signed in, and the sign-in to others.
func (w *Web) page(serve func(context.Context, asked) (name string, v view,
	err error)) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		a, ok := w.ask(rw, r)
		if !ok {
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), pageTime)
		defer cancel()
		name, v, err := serve(ctx, a)
		status := http.StatusOK
		if err != nil {
			if sandpool.ClassOf(err) == sandpool.Unauthenticated { // the token was revoked
				w.visits.remove(r)
				http.SetCookie(rw, cookie(r, ""))
				http.Redirect(rw, r, "/ui/sign-in", http.StatusSeeOther)
				return
			}
			name, v.Title = "error", "Error"
			v.Error, status = explain(err)
		}
		w.show(rw, a, status, name, v)
	}
}

// show renders a page for one who has signed in.
func (w *Web) show(rw http.ResponseWriter, a asked, status int, name string, v view) {
	v.CSRF, v.Version = a.visit.csrf, w.version
	if v.Notice == "" && a.visit.notice != "" {
		v.Notice = a.visit.notice
		w.visits.tell(a.Request, "")
	}
	w.render(rw, status, name, v)
}

// ask returns the request of one who has signed in; others are led to the sign-in.
func (w *Web) ask(rw http.ResponseWriter, r *http.Request) (asked, bool) {
	v, ok := w.visits.of(r)
	if !ok {
		http.Redirect(rw, r, "/ui/sign-in?to="+url.QueryEscape(r.URL.RequestURI()),
			http.StatusSeeOther)
		return asked{}, false
	}
	c, err := w.client(r, v.token)
	if err != nil {
		http.Error(rw, "The name of this server cannot be used: "+err.Error(),
			http.StatusBadRequest)
		return asked{}, false
	}
	return asked{Request: r, visit: v, api: c}, true
}

// form serves a form of a page: the path to go on to, or an error that the page shows.
func (w *Web) form(serve func(context.Context, asked) (to string, err error)) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(rw, r.Body, 1<<20)
		a, ok := w.ask(rw, r)
		if !ok {
			return
		}
		if !a.visit.knows(r.PostFormValue("csrf")) {
			http.Error(rw, "The page is out of date: reload it and try again.",
				http.StatusForbidden)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
		defer cancel()
		to, err := serve(ctx, a)
		if err != nil {
			message, status := explain(err)
			if name := r.PathValue("name"); name == "" {
				w.show(rw, a, status, "new", view{Title: "New pool", Here: "new", Error: message,
					Data: settingsOf(r).under(a, w.location())})
				return
			}
			w.visits.tell(r, message)
			to = poolPath(r.PathValue("name"))
		}
		http.Redirect(rw, r, to, http.StatusSeeOther)
	}
}

func poolPath(name string) string { return "/ui/pools/" + url.PathEscape(name) }

// poolRow is a pool with what its sandboxes do.
type poolRow struct {
	api.SessionPool
	Status api.PoolStatus
	Path   string // of the control plane, for scripts
}

// poolList is a page of the pools.
type poolList struct {
	Rows          []poolRow
	Search, After string
	Next          string // the query of the page after it; empty if it is the last
}

func (w *Web) poolsPage(ctx context.Context, a asked) (string, view, error) {
	v := view{Title: "Pools", Here: "pools"}
	query := a.URL.Query()
	list := poolList{Search: strings.TrimSpace(query.Get("search")), After: query.Get("after")}
	pools, next, err := a.api.PoolsOn(ctx, client.PoolPage{Search: list.Search, After: list.After})
	if err != nil {
		return "", v, err
	}
	if next != "" {
		list.Next = "?" + url.Values{"search": {list.Search}, "after": {next}}.Encode()
	}
	list.Rows = make([]poolRow, 0, len(pools))
	for _, p := range pools {
		row := poolRow{SessionPool: p, Path: p.ID}
		if s, err := a.api.PoolCounts(ctx, p.Name); err == nil {
			row.Status = s // whoever may not read it sees the pool without
		}
		list.Rows = append(list.Rows, row)
	}
	v.Data = list
	return "pools", v, nil
}

// poolView is the page of one pool.
type poolView struct {
	poolRow
	Sessions      []api.SessionView
	SessionsError string
	Events        []api.Event
	Endpoint      string
	EndpointPath  string
	Custom, Keeps bool
	Connect       []snippet
	Rollout       rollout
	Causes        []cause
}

func (w *Web) poolPage(ctx context.Context, a asked) (string, view, error) {
	name := a.PathValue("name")
	v := view{Title: name, Here: "pools"}
	p, err := a.api.Pool(ctx, name)
	if err != nil {
		return "", v, err
	}
	d := poolView{poolRow: poolRow{SessionPool: p, Path: p.ID},
		Endpoint: p.Properties.PoolManagementEndpoint,
		Custom:   p.Properties.ContainerType == string(sandpool.CustomContainer), Keeps: keeps(p)}
	d.EndpointPath = endpointPath(a.api.PoolEndpoint(p.Name))
	if s, err := a.api.PoolStatus(ctx, name); err == nil {
		d.Status = s
	}
	if d.Sessions, err = a.api.Sessions(ctx, name); err != nil {
		d.SessionsError, _ = explain(err)
	}
	if e, err := a.api.Events(ctx, client.Events{Pool: name}); err == nil {
		d.Events = e.Value
	}
	d.Connect, d.Rollout, d.Causes = connect(p, d.Endpoint), rolloutOf(d.Status), causesOf(d.Events)
	v.Data = d
	return "pool", v, nil
}

// endpointPath is the part of an endpoint that the door takes.
func endpointPath(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	return u.EscapedPath()
}

// playView is the page on which code runs.
type playView struct {
	Pool         string
	Type         string
	EndpointPath string
	Session      string
	Custom       bool
}

func (w *Web) playPage(ctx context.Context, a asked) (string, view, error) {
	name := a.PathValue("name")
	v := view{Title: name + " – playground", Here: "pools"}
	p, err := a.api.Pool(ctx, name)
	if err != nil {
		return "", v, err
	}
	v.Data = playView{Pool: p.Name, Type: p.Properties.ContainerType,
		EndpointPath: endpointPath(a.api.PoolEndpoint(p.Name)),
		Session:      a.URL.Query().Get("session"), Custom: p.Properties.ContainerType == string(
			sandpool.CustomContainer)}
	return "play", v, nil
}

// nothing is the page of a path that is none.
func (w *Web) nothing(context.Context, asked) (string, view, error) {
	return "", view{}, sandpool.Errorf(sandpool.NotFound, "", "", "There is no such page.")
}

// systemView is what the server says of itself.
type systemView struct {
	Version string
	Facts   []Fact
	Checks  []Check
}

func (w *Web) systemPage(ctx context.Context, a asked) (string, view, error) {
	v := view{Title: "System", Here: "system"}
	if _, err := a.api.Tokens(ctx); err != nil { // the machine is the administrators' matter
		return "", v, err
	}
	d := systemView{Version: w.version}
	if w.system != nil {
		d.Facts = w.system(ctx)
	}
	if w.doctor != nil {
		d.Checks = w.doctor(a.Request)
	}
	v.Data = d
	return "system", v, nil
}

// signInPage shows the form; a link that signs in does so.
func (w *Web) signInPage(rw http.ResponseWriter, r *http.Request) {
	to, message := safePath(r.URL.Query().Get("to")), ""
	if secret := r.URL.Query().Get("link"); secret != "" {
		if token, ok := w.visits.follow(secret); ok {
			w.enter(rw, r, token, Prefix)
			return
		}
		message = "This link has been used or is more than ten minutes old. Sign in with a token."
	}
	w.askIn(rw, http.StatusOK, to, message)
}

// signInView is the page on which one signs in.
type signInView struct {
	To      string
	Entries []Entry
	Public  string // before the entries' addresses
}

// askIn renders the page on which one signs in, to go on to a path then.
func (w *Web) askIn(rw http.ResponseWriter, status int, to, message string) {
	w.render(rw, status, "sign-in", view{Title: "Sign in", Version: w.version, Error: message,
		Data: signInView{to, w.entries, w.public}})
}

func (w *Web) enter(rw http.ResponseWriter, r *http.Request, token, to string) {
	w.visits.remove(r)
	http.SetCookie(rw, cookie(r, w.visits.add(token, time.Time{})))
	http.Redirect(rw, r, to, http.StatusSeeOther)
}

// signIn takes a token that the API knows.
func (w *Web) signIn(rw http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(rw, r.Body, 64<<10)
	to := safePath(r.PostFormValue("to"))
	token := strings.TrimSpace(r.PostFormValue("token"))
	message := ""
	c, err := w.client(r, token)
	if err == nil {
		_, _, err = c.PoolsOn(r.Context(), client.PoolPage{})
	}
	switch {
	case token == "":
		message = "Paste a token."
	case err != nil && sandpool.ClassOf(err) == sandpool.Unauthenticated:
		message = "The server does not know this token, or it has ended."
	case err != nil && sandpool.ClassOf(err) != sandpool.Denied:
		// of one pool, or of sessions alone
		message, _ = explain(err)
	}
	if message != "" {
		w.askIn(rw, http.StatusUnauthorized, to, message)
		return
	}
	w.enter(rw, r, token, to)
}

// signOut ends the visit.
func (w *Web) signOut(rw http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(rw, r.Body, 64<<10)
	if v, ok := w.visits.of(r); ok && !v.knows(r.PostFormValue("csrf")) {
		http.Error(rw, "The page is out of date: reload it and try again.", http.StatusForbidden)
		return
	}
	w.visits.remove(r)
	http.SetCookie(rw, cookie(r, ""))
	http.Redirect(rw, r, "/ui/sign-in", http.StatusSeeOther)
}

// safePath returns a path of the dashboard to go on to, whatever a link says.
func safePath(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.IsAbs() || u.Host != "" || path.Clean(u.Path)+"/" != Prefix &&
		!strings.HasPrefix(path.Clean(u.Path), Prefix) || strings.ContainsAny(to, "\\\r\n") {
		return Prefix
	}
	return u.RequestURI()
}

// spanOf is a time as people say it, in the two largest units that it has.
func spanOf(d time.Duration) string {
	days, hours, minutes, seconds := d/(24*time.Hour), d/time.Hour%24, d/time.Minute%60,
		d/time.Second%60
	switch {
	case days > 0:
		return fmt.Sprintf("%d d %d h", days, hours)
	case hours > 0:
		return fmt.Sprintf("%d h %d min", hours, minutes)
	case minutes > 0 && seconds > 0:
		return fmt.Sprintf("%d min %d s", minutes, seconds)
	case minutes > 0:
		return fmt.Sprintf("%d min", minutes)
	}
	return fmt.Sprintf("%d s", seconds)
}

// funcs are what templates use.
func funcs(now func() time.Time) template.FuncMap {
	return template.FuncMap{
		"ago": func(text string) string {
			t, err := time.Parse(time.RFC3339, text)
			if err != nil {
				return text
			}
			if d := now().Sub(t).Round(time.Second); d >= 0 {
				return spanOf(d) + " ago"
			}
			return "in " + spanOf(t.Sub(now()).Round(time.Second))
		},
		"day": func(text string) string {
			t, err := time.Parse(time.RFC3339, text)
			if err != nil {
				return text
			}
			return t.UTC().Format("2006-01-02 15:04:05") + " UTC"
		},
		"hours": func(seconds float64) string {
			return strconv.FormatFloat(seconds/3600, 'f', 3, 64) + " h"
		},
		"gibh": func(byteSeconds int64) string {
			return strconv.FormatFloat(float64(byteSeconds)/(1<<30)/3600, 'f', 3, 64) + " GiB h"
		},
		"size": func(bytes int64) string {
			return strconv.FormatFloat(float64(bytes)/(1<<20), 'f', 2, 64) + " MiB"
		},
		"short": func(id string) string { return id[:min(len(id), 8)] },
		"mib": func(n *int64) string {
			if n == nil {
				return "–"
			}
			return itoa(*n>>20) + " MiB"
		},
		"cpu": func(n *float64) string {
			if n == nil {
				return "–"
			}
			return strconv.FormatFloat(*n, 'f', 2, 64)
		},
		"num": func(n *int) string {
			if n == nil {
				return ""
			}
			return itoa(int64(*n))
		},
		"part": func(n, of int) int {
			if of <= 0 {
				return 0
			}
			return min(1000, 1000*n/of)
		},
		"sum": func(n ...int) (s int) {
			for _, each := range n {
				s += each
			}
			return s
		},
		"cooldown":    cooldown,
		"sessionPath": sessionPath,
	}
}
