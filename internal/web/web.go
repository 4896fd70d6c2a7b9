package web

import (
	"context"
	"embed"
	"errors"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/fault"
)

//go:embed templates/*.html static/*
var files embed.FS

// Prefix is where the dashboard is.
const Prefix = "/ui/"

// policy is that of every page. Scripts and styles are the files of this package; a figure is in
// the page itself; the frame is for HTML that sessions show.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self'; " +
	"frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// framePolicy is that of the frame that draws HTML of sessions: it has no origin, runs the one
// script that fills it, and loads nothing.
const framePolicy = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src " +
	"data:; font-src data:; " +
	"form-action 'none'; base-uri 'none'; frame-ancestors 'self'; sandbox allow-scripts"

// Web is the dashboard. Use New.
type Web struct {
	log     *slog.Logger
	api     http.Handler
	version string
	doctor  func(*http.Request) []Check
	may     func(of api.Token, pool, session string) ([]Ability, error)
	system  func(context.Context) []Fact
	entries []Entry
	public  string
	entered func(*http.Request, Visitor)
	refused func(*http.Request, int, *sandpool.Error)
	// location is that of pools which name none.
	location func() string
	pages    *template.Template
	visits   *visits
	mux      *http.ServeMux
	origin   *http.CrossOriginProtection
}

// Fact is something that the server says of itself.
type Fact struct{ Name, Value string }

// Check is a line of what the server needs of its machine.
type Check struct{ Name, Level, Detail string }

// Options are what the dashboard shows of the server.
type Options struct {
	// API is the whole API, with its authentication. Required.
	API http.Handler
	// Version is the program's.
	Version string
	// Doctor looks at the machine; nil means that the page does not say.
	Doctor func(*http.Request) []Check
	// May says what a token may do on a pool, by its id, and a session of it; an empty pool or
	// session stands for all. Nil means that the page does not say.
	May func(of api.Token, pool, session string) ([]Ability, error)
	// System says what else administrators want to know of the server; nil means nothing.
	System func(context.Context) []Fact
	// Entries are the issuers that people sign in with; Public is this server's one address that
	// those know, without a slash at its end.
	Entries []Entry
	Public  string
	// SignedIn and NotSignedIn hear of who has come back from an issuer, and of who was refused;
	// nil means that nobody does.
	SignedIn    func(r *http.Request, who Visitor)
	NotSignedIn func(r *http.Request, status int, e *sandpool.Error)
	// Location is that of pools which name none; nil means that it is called "local".
	Location func() string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// New returns the dashboard of a server.
func New(log *slog.Logger, o Options) (*Web, error) {
	if log == nil || o.API == nil {
		return nil, errors.New("dashboard: the logger or the API is nil")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Location == nil {
		o.Location = func() string { return "local" }
	}
	w := &Web{log: log, api: o.API, version: o.Version, doctor: o.Doctor, may: o.May,
		system: o.System, entries: o.Entries, public: o.Public, visits: newVisits(o.Now),
		location: o.Location, entered: o.SignedIn, refused: o.NotSignedIn, mux: http.NewServeMux(),
		origin: http.NewCrossOriginProtection()}
	var err error
	if w.pages, err = template.New("").Funcs(funcs(o.Now)).ParseFS(files,
		"templates/*.html"); err != nil {
		return nil, err
	}
	static, err := fs.Sub(files, "static")
	if err != nil {
		return nil, err
	}
	assets := http.StripPrefix("/ui/static/", http.FileServerFS(static))
	w.mux.HandleFunc("GET /ui/static/", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Cross-Origin-Resource-Policy", "cross-origin") // for the frame, see below
		// Nobody has signed in, and who does not read keeps a connection from others.
		_ = http.NewResponseController(rw).SetWriteDeadline(time.Now().Add(takeTime))
		assets.ServeHTTP(rw, r)
	})
	w.mux.HandleFunc("GET /ui/frame", w.frame)
	w.mux.HandleFunc("GET /ui/sign-in", w.signInPage)
	w.mux.HandleFunc("POST /ui/sign-in", w.signIn)
	w.mux.HandleFunc("GET /ui/sign-in/with/{name}", w.beginEntry)
	w.mux.HandleFunc("GET /ui/sign-in/{name}", w.finishEntry)
	w.mux.HandleFunc("POST /ui/sign-out", w.signOut)
	w.mux.HandleFunc("/ui/api/", w.door)
	w.mux.HandleFunc("GET /ui/{$}", w.page(w.poolsPage))
	w.mux.HandleFunc("/ui/", w.page(w.nothing))
	w.mux.HandleFunc("GET /ui/new", w.page(w.newPage))
	w.mux.HandleFunc("POST /ui/new", w.form(w.create))
	w.mux.HandleFunc("GET /ui/pools/{name}", w.page(w.poolPage))
	w.mux.HandleFunc("POST /ui/pools/{name}", w.form(w.update))
	w.mux.HandleFunc("POST /ui/pools/{name}/delete", w.form(w.remove))
	w.mux.HandleFunc("POST /ui/pools/{name}/end", w.form(w.endSession))
	w.mux.HandleFunc("GET /ui/pools/{name}/play", w.page(w.playPage))
	w.mux.HandleFunc("GET /ui/pools/{name}/sessions/{identifier}", w.page(w.sessionPage))
	w.mux.HandleFunc("GET /ui/pools/{name}/session", w.findSession)
	w.mux.HandleFunc("POST /ui/pools/{name}/share", w.shareSession)
	w.mux.HandleFunc("PUT /ui/shared/{secret}", w.board)
	w.mux.HandleFunc("GET /ui/shared/{secret}", w.looking(w.sharedPage))
	w.mux.HandleFunc("GET /ui/shared/{secret}/board", w.looking(w.sharedBoard))
	w.mux.HandleFunc("GET /ui/access", w.page(w.accessPage))
	w.mux.HandleFunc("GET /ui/device", w.page(w.devicePage))
	w.mux.HandleFunc("POST /ui/device", w.device)
	w.mux.HandleFunc("GET /ui/audit", w.page(w.auditPage))
	w.mux.HandleFunc("GET /ui/audit.csv", w.auditFile)
	w.mux.HandleFunc("GET /ui/usage", w.page(w.usagePage))
	w.mux.HandleFunc("GET /ui/usage.csv", w.usageFile)
	w.mux.HandleFunc("GET /ui/system", w.page(w.systemPage))
	return w, nil
}

// SignInLink returns the path and query of a link that signs in once, with a token, within ten
// minutes.
func (w *Web) SignInLink(token string) string {
	return "/ui/sign-in?link=" + w.visits.newLink(token)
}

// takeTime is how long a browser may take to read a file of the dashboard's own.
const takeTime = time.Minute

// Takes reports whether a request is for the dashboard.
func Takes(r *http.Request) bool {
	return r.URL.Path == "/ui" || strings.HasPrefix(r.URL.Path, Prefix)
}

// ServeHTTP implements http.Handler, for requests that Takes.
func (w *Web) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/ui" {
		http.Redirect(rw, r, Prefix, http.StatusFound)
		return
	}
	r = w.behindTLS(r)
	h := rw.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
	if !strings.HasPrefix(r.URL.Path, "/ui/static/") {
		h.Set("Cache-Control", "no-store")
	}
	if err := w.origin.Check(r); err != nil {
		http.Error(rw, "This request does not come from a page of the dashboard.",
			http.StatusForbidden)
		return
	}
	w.mux.ServeHTTP(rw, r)
}

// frame is the page that draws HTML of sessions.
func (w *Web) frame(rw http.ResponseWriter, _ *http.Request) {
	rw.Header().Set("Content-Security-Policy", framePolicy)
	// the frame has no origin of its own
	rw.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
	w.render(rw, http.StatusOK, "frame", nil)
}

// render writes a page.
func (w *Web) render(rw http.ResponseWriter, status int, name string, data any) {
	var page strings.Builder
	if err := w.pages.ExecuteTemplate(&page, name, data); err != nil {
		w.log.Error("a page cannot be made", "page", name, "error", err)
		http.Error(rw, "This page cannot be made; the server's log says why.",
			http.StatusInternalServerError)
		return
	}
	rw.Header().Set("Content-Type", "text/html; charset=utf-8")
	rw.WriteHeader(status)
	_, _ = rw.Write([]byte(page.String())) // a reader that has gone does not matter
}

// explain is what a page says of an error of the API.
func explain(err error) (message string, status int) {
	var e *sandpool.Error
	if !errors.As(err, &e) {
		return "The server could not answer; its log says why.", http.StatusInternalServerError
	}
	status = fault.Status(e.Class, e.Code, http.StatusNotFound)
	return e.Message, status
}
