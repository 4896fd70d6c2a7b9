// Package entry lets people sign in to the dashboard with foreign issuers: it joins the flow, which
// is package oidc's, to the pages, which are package web's.
package entry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/sandpool/sandpool/internal/loopback"
	"github.com/sandpool/sandpool/internal/oidc"
	"github.com/sandpool/sandpool/internal/web"
)

// New returns how people sign in with the issuers in all. public is the server's one address that
// those issuers know, without a slash at its end.
func New(v *oidc.Verifier, all []oidc.Settings, public string) (out []web.Entry, err error) {
	ways, err := v.SignIns(all, public+web.Prefix+"sign-in")
	for _, way := range ways {
		out = append(out, web.Entry{Name: way.Name(), Title: way.Title(), Begin: way.Begin,
			Finish: func(ctx context.Context, kept string, query url.Values) (web.Visitor, error) {
				v, err := way.Finish(ctx, kept, query)
				return web.Visitor{Token: v.Token, Ends: v.Ends, Subject: v.Subject, Name: v.Name,
					To: v.To, Command: v.Remedy.Command, Rule: v.Remedy.Rule}, err
			}})
	}
	return out, err
}

// Server is what of a server's settings decides where issuers send browsers back to.
type Server struct {
	Dashboard         bool
	PublicURL, Listen string
	TLS               bool // the server itself ends TLS
}

// Check reports that people are to sign in with one of the issuers, but could not come back. Others
// on the way could read what comes back without TLS.
func Check(all []oidc.Settings, s Server) error {
	if !oidc.SignsIn(all) {
		return nil
	}
	if !s.Dashboard {
		return errors.New("configuration: dashboard is false; it is what people sign in to, so " +
			"set it to true, or leave sign_in of the issuers out")
	}
	host, _, _ := net.SplitHostPort(s.Listen) // that it is wrong is reported elsewhere
	secure := s.TLS
	if s.PublicURL != "" {
		u, err := url.Parse(s.PublicURL)
		if err != nil {
			return fmt.Errorf("configuration: public_url: %w", err)
		}
		host, secure = u.Hostname(), u.Scheme == "https"
	}
	ip := net.ParseIP(host)
	if loopback.Is(host) ||
		secure && host != "" && (ip == nil || !ip.IsUnspecified()) {
		return nil
	}
	return fmt.Errorf("configuration: public_url is %q; use the https address by which browsers "+
		"reach this server, such as https://pools.example.com, since an issuer with sign_in "+
		"sends them back to it", s.PublicURL)
}
