package server

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/control"
	"github.com/sandpool/sandpool/internal/logging"
	"github.com/sandpool/sandpool/internal/oidc"
	"github.com/sandpool/sandpool/internal/server/entry"
	"github.com/sandpool/sandpool/internal/web"
)

// pages are the dashboard of a server whose API is given, with its authentication.
func (s *Server) pages(log *slog.Logger, api http.Handler,
	foreign *oidc.Verifier) (*web.Web, error) {
	entries, err := entry.New(foreign, s.cfg.Issuers, s.URL())
	if err != nil {
		return nil, err
	}
	return web.New(log, web.Options{SignedIn: s.signedIn, NotSignedIn: s.audited.Failed,
		API: api, Version: sandpool.Version, May: may, System: s.facts,
		Entries: entries, Public: s.URL(), Location: s.location,
		Doctor: func(*http.Request) []web.Check { return checks(s.cfg) }})
}

// location is that of pools which name none.
func (s *Server) location() string {
	if known := s.manager.Locations(); len(known) > 0 {
		return known[0]
	}
	return control.AnyLocation
}

// may says what a token may do on a pool, by its id, and a session of it.
func may(of api.Token, poolID, session string) ([]web.Ability, error) {
	who := auth.Principal{Subject: "token:" + of.ID, Name: of.Name}
	for _, g := range of.Grants {
		scope, err := sandpool.ParseScope(g.Scope)
		if err != nil {
			return nil, err
		}
		grant := sandpool.Grant{Role: sandpool.Role(g.Role), Scope: scope}
		if g.ExpiresAt != "" {
			if grant.Expires, err = time.Parse(time.RFC3339, g.ExpiresAt); err != nil {
				return nil, fmt.Errorf("the end of a grant: %w", err)
			}
		}
		who.Grants = append(who.Grants, grant)
	}
	on, err := sandpool.ParseScope(cmp.Or(poolID, "/"))
	if err != nil {
		return nil, err
	}
	if session != "" {
		id, err := sandpool.ParseIdentifier(session)
		if err != nil {
			return nil, err
		}
		if on.Pool == "" {
			return nil, sandpool.Errorf(sandpool.Invalid, "", "pool",
				"Say which pool the session is of.")
		}
		on = on.Session(id)
	}
	who = who.At(time.Now())
	var all []web.Ability
	for _, a := range auth.Actions() {
		one := web.Ability{What: string(a), May: true, By: by(who, a, on)}
		if err := auth.Allow(who, a, on); err != nil {
			_, why, _ := strings.Cut(err.Error(), "may not "+string(a)+": ")
			one.May, one.Why = false, why
		}
		all = append(all, one)
	}
	return all, nil
}

// by are the grants of who that each permit an action by themselves.
func by(who auth.Principal, a auth.Action, on sandpool.Scope) (all []string) {
	for _, g := range who.Grants {
		alone := who
		alone.Grants = []sandpool.Grant{g}
		if auth.Allow(alone, a, on) != nil {
			continue
		}
		text := fmt.Sprintf("%s in %s", g.Role, g.Scope)
		if !g.Expires.IsZero() {
			text += " until " + g.Expires.UTC().Format(time.RFC3339)
		}
		all = append(all, text)
	}
	return all
}

// maxFacts bounds the images that are told.
const maxFacts = 20

// facts are what administrators want to know of the server, beside what doctor says.
func (s *Server) facts(context.Context) []web.Fact {
	all := []web.Fact{
		{Name: "running since", Value: s.began.UTC().Format(time.RFC3339)},
		{Name: "built with", Value: runtime.Version()},
		{Name: "engine", Value: string(s.cfg.Engine)},
		{Name: "address", Value: s.URL()},
		{Name: "data directory", Value: s.cfg.DataDir},
	}
	add := func(name, value string) { all = append(all, web.Fact{Name: name, Value: value}) }
	if u, err := url.Parse(s.cfg.Store); s.cfg.Store != "" && err == nil {
		add("store", "PostgreSQL at "+u.Host) // the rest may hold a password
	} else {
		add("store", "SQLite, in the data directory")
	}
	if s.member != "" {
		add("name among servers", s.member)
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(s.cfg.DataDir, &disk); err == nil {
		size := uint64(disk.Bsize)
		add("disk", fmt.Sprintf("%d MB free of %d MB", disk.Bavail*size>>20, disk.Blocks*size>>20))
	}
	images, err := s.images.List()
	if err != nil {
		add("images", "cannot be listed; the log says why")
		s.log.Warn("list images", "error", err)
	}
	for _, i := range images[:min(len(images), maxFacts)] {
		name := i.Name
		if name == "" && len(i.References) > 0 {
			name = i.References[0]
		}
		add("image "+cmp.Or(name, i.Digest), fmt.Sprintf("%d MB, of %s", i.Size>>20,
			i.Created.UTC().Format(time.DateOnly)))
	}
	if levels, ok := s.log.Handler().(*logging.Handler); ok {
		set := levels.Levels()
		for _, pkg := range slices.Sorted(maps.Keys(set)) {
			name := "log level"
			if pkg != "" {
				name += " of " + pkg
			}
			add(name, strings.ToLower(set[pkg].String()))
		}
	}
	return all
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

// SignInLink is the URL of a page that signs its reader in to the dashboard as the administrator,
// once, within ten minutes; empty if there is no dashboard.
func (s *Server) SignInLink() string {
	if s.dashboard == nil {
		return ""
	}
	return s.URL() + s.dashboard.SignInLink(s.token)
}

// signedIn records who has signed in with an issuer, and until when.
func (s *Server) signedIn(r *http.Request, who web.Visitor) {
	s.audited.SignedIn(r, who.Subject, who.Name, struct {
		Until string `json:"until,omitempty"`
		Role  bool   `json:"hasRole"`
	}{who.Ends.UTC().Format(time.RFC3339), who.Token != ""})
}
