package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
)

// Entry is an issuer that people sign in with: they go to its pages, and come back.
type Entry struct {
	// Name is the issuer's in addresses, and Title the one for people.
	Name, Title string
	// Begin returns the issuer's address, and what the browser keeps until it comes back, to go on
	// to a path then.
	Begin func(ctx context.Context, to string) (address, kept string, err error)
	// Finish returns who has come back, by what the browser has kept and the query that it comes
	// with. Errors of class Unauthenticated and Unavailable are for whoever signs in to read.
	Finish func(ctx context.Context, kept string, query url.Values) (Visitor, error)
}

// Visitor is somebody who has signed in with an issuer.
type Visitor struct {
	// Token is what they show to the API, until Ends; empty for one without any role.
	Token string
	Ends  time.Time
	// Subject and Name say who they are.
	Subject, Name string
	// To is the path to go on to.
	To string
	// Command, or else an entry of the issuer's Rule, gives one without any role one.
	Command, Rule string
}

// entryCookie keeps what a sign-in is bound to. It must come with a navigation from the issuer's
// pages, so it is not strict. With its prefix no other host, and nobody without TLS, can set it in
// a browser: somebody else's sign-in cannot be slipped to its holder.
const (
	entryCookie       = "sandpool-ui-entry"
	secureEntryCookie = "__Host-sandpool-ui-entry"
)

// maxTo bounds the path to go on to. It is in the cookie, and browsers drop one of more than 4 KiB:
// then nobody could come back.
const maxTo = 1000

func (w *Web) entryCookie(value string) *http.Cookie {
	c := &http.Cookie{Name: entryCookie, Value: value, Path: "/", HttpOnly: true,
		SameSite: http.SameSiteLaxMode, MaxAge: int(linkTime / time.Second)}
	if strings.HasPrefix(w.public, "https://") {
		c.Name, c.Secure = secureEntryCookie, true
	}
	if value == "" {
		c.MaxAge = -1
	}
	return c
}

// entry returns the issuer of a path; others get an answer.
func (w *Web) entry(rw http.ResponseWriter, r *http.Request) (Entry, bool) {
	for _, e := range w.entries {
		if e.Name == r.PathValue("name") {
			return e, true
		}
	}
	w.askIn(rw, http.StatusNotFound, Prefix, "Nobody signs in by this address. Choose below.")
	return Entry{}, false
}

// beginEntry leads to the issuer's pages.
func (w *Web) beginEntry(rw http.ResponseWriter, r *http.Request) {
	e, ok := w.entry(rw, r)
	if !ok {
		return
	}
	to := safePath(r.URL.Query().Get("to"))
	// Another site's page signs nobody in: it may lead here, where its visitor decides.
	if from := r.Header.Get("Sec-Fetch-Site"); from != "" && from != "same-origin" &&
		from != "none" {
		http.Redirect(rw, r, "/ui/sign-in?to="+url.QueryEscape(to), http.StatusSeeOther)
		return
	}
	if len(to) > maxTo {
		to = Prefix
	}
	address, kept, err := e.Begin(r.Context(), to)
	if err != nil {
		w.failEntry(rw, to, err)
		return
	}
	w.visits.remove(r) // the cookie of that visit does not come along on the way back
	http.SetCookie(rw, cookie(r, ""))
	http.SetCookie(rw, w.entryCookie(kept))
	http.Redirect(rw, r, address, http.StatusSeeOther)
}

// finishEntry signs in whoever comes back from the issuer's pages.
func (w *Web) finishEntry(rw http.ResponseWriter, r *http.Request) {
	e, ok := w.entry(rw, r)
	if !ok {
		return
	}
	kept := ""
	if all := r.CookiesNamed(w.entryCookie("").Name); len(all) == 1 {
		kept = all[0].Value
	}
	http.SetCookie(rw, w.entryCookie("")) // once
	who, err := e.Finish(r.Context(), kept, r.URL.Query())
	if err != nil {
		w.tellRefused(r, err)
		w.failEntry(rw, Prefix, err)
		return
	}
	if w.entered != nil {
		w.entered(r, who)
	}
	if who.Token == "" {
		w.log.Info("somebody without a role has signed in", "who", who.Subject)
		w.render(rw, http.StatusForbidden, "no-role", view{Title: "No role", Version: w.version,
			Data: who})
		return
	}
	w.log.Info("somebody has signed in", "who", who.Subject, "until", who.Ends)
	http.SetCookie(rw, cookie(r, w.visits.add(who.Token, who.Ends)))
	// Not a redirect: a strict cookie does not come with one that the issuer's page began.
	w.render(rw, http.StatusOK, "entered", view{Title: "Signed in", Version: w.version,
		Data: safePath(who.To)})
}

// tellRefused tells that nobody has signed in, unless that is the issuer's fault.
func (w *Web) tellRefused(r *http.Request, err error) {
	var e *sandpool.Error
	if w.refused != nil && errors.As(err, &e) && e.Class == sandpool.Unauthenticated {
		w.refused(r, http.StatusUnauthorized, e)
	}
}

// failEntry says why nobody has signed in.
func (w *Web) failEntry(rw http.ResponseWriter, to string, err error) {
	message, status := explain(err)
	if class := sandpool.ClassOf(err); class != sandpool.Unauthenticated &&
		class != sandpool.Unavailable {
		w.log.Error("a sign-in has failed", "error", err)
	}
	w.askIn(rw, status, to, message)
}
