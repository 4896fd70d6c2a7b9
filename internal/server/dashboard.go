package server

import (
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/sandpool/sandpool/internal/web"
)

// dashboard is the pages of a server whose API is given, with its authentication.
func dashboard(log *slog.Logger, cfg Config, api http.Handler) (*web.Web, error) {
	o := web.Options{API: api, Doctor: func(*http.Request) []web.Check { return checks(cfg) }}
	if info, ok := debug.ReadBuildInfo(); ok {
		o.Version = info.Main.Version
	}
	return web.New(log, o)
}

// checks is what doctor says.
func checks(cfg Config) []web.Check {
	var list []web.Check
	for _, r := range Check(cfg) {
		c := web.Check{Name: r.Name, Level: "ok", Detail: r.Detail}
		if !r.OK {
			c.Level = "missing"
		}
		if r.Fix != "" {
			c.Detail += " – " + r.Fix
		}
		list = append(list, c)
	}
	return list
}

// SignInLink is the URL of a page that signs its reader in to the dashboard as the administrator, once,
// within ten minutes; empty if there is no dashboard.
func (s *Server) SignInLink() string {
	if s.dashboard == nil {
		return ""
	}
	return s.URL() + s.dashboard.SignInLink(s.token)
}
