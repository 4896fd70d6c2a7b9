package proxy

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/sandpool/sandpool"
)

// IdentifierHeader is the request header that names a session instead of the query. It never
// reaches a container.
const IdentifierHeader = "X-Ms-Session-Identifier"

// The cookie's names. A browser accepts the first only from the very host, over TLS: no page of
// another pool, whose host has the same parent, can plant it.
const (
	secureCookie = "__Host-sandpool-session"
	plainCookie  = "sandpool-session"
)

func cookieName(r *http.Request) string {
	if r.TLS != nil {
		return secureCookie
	}
	return plainCookie
}

// Identify returns the identifier of the session that r is for. fromQuery is the query's, empty if
// it has none; then the header IdentifierHeader counts, and then, at a host of the pool's own, the
// cookie that Remember sets.
//
// The cookie is not a key: it names a session, and the request needs the pool's authentication like
// any other. A browser may have a way to authenticate by itself, however, and a page elsewhere can
// make it send requests. So the cookie counts only in requests that the pool's own pages make, or
// that somebody typed or followed; a page of another origin gets an error of class Denied.
func Identify(r *http.Request, fromQuery string, ownHost bool) (sandpool.Identifier, error) {
	header := r.Header.Values(IdentifierHeader)
	switch {
	case len(header) > 1:
		return "", refuse(IdentifierHeader, "The header %s is given %d times; give it once.",
			IdentifierHeader, len(header))
	case len(header) == 1 && fromQuery != "" && header[0] != fromQuery:
		return "", refuse("identifier", "The query and the header %s name two sessions; name one.",
			IdentifierHeader)
	case fromQuery != "":
		return sandpool.ParseIdentifier(fromQuery)
	case len(header) == 1:
		return sandpool.ParseIdentifier(header[0])
	case !ownHost:
		return sandpool.ParseIdentifier("")
	}
	value, err := cookieValue(r)
	if err != nil {
		return "", err
	}
	if value != "" && !ownPage(r) {
		return "", sandpool.Errorf(sandpool.Denied, "CrossSiteRequest", "Origin",
			"A page of another site may not use the session that this browser has open. "+
				"Name the session with ?identifier=NAME.")
	}
	return sandpool.ParseIdentifier(value)
}

// cookieValue returns the value of r's session cookie, empty if it has none.
func cookieValue(r *http.Request) (string, error) {
	name, value, found := cookieName(r), "", 0
	for _, line := range r.Header["Cookie"] {
		for part := range strings.SplitSeq(line, ";") {
			if k, v, ok := strings.Cut(strings.Trim(part, " \t"), "="); ok && k == name {
				value = v
				found++
			}
		}
	}
	if found > 1 {
		return "", refuse("Cookie",
			"The cookie %s is given %d times; delete the cookies of this site.", name, found)
	}
	plain, err := url.PathUnescape(value)
	if err != nil {
		return "", refuse("Cookie",
			"The cookie %s is not escaped as it was set; delete the cookies of this site.", name)
	}
	return plain, nil
}

// ownPage reports whether a page of r's own origin makes the request, or no page at all.
func ownPage(r *http.Request) bool {
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "same-origin", "none":
		return true
	case "":
	default:
		// Following a link from elsewhere is no more than typing the address.
		return r.Header.Get("Sec-Fetch-Mode") == "navigate" &&
			r.Header.Get("Sec-Fetch-Dest") == "document" &&
			(r.Method == http.MethodGet || r.Method == http.MethodHead)
	}
	// Browsers leave the header out where the address is not HTTPS, but for loopback.
	origin := r.Header.Get("Origin")
	if origin == "" {
		return r.Method == http.MethodGet || r.Method == http.MethodHead
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}

// Remember sets the cookie that names the session, if r opens a page at a host of the pool's own
// with the identifier in its query: the page's relative links, scripts and WebSockets then find the
// same session. Other clients never see a cookie. It must be called before Serve.
func Remember(w http.ResponseWriter, r *http.Request, identifier sandpool.Identifier) {
	navigates := r.Header.Get("Sec-Fetch-Mode") == "navigate" ||
		r.Header.Get("Sec-Fetch-Mode") == "" &&
			strings.Contains(r.Header.Get("Accept"), "text/html")
	if r.Method != http.MethodGet || !navigates {
		return
	}
	c := http.Cookie{Name: cookieName(r), Value: url.PathEscape(string(identifier)), Path: "/",
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode}
	w.Header().Add("Set-Cookie", c.String())
}

// otherCookies returns a Cookie field without the cookies of ours, byte for byte.
func otherCookies(field string) string {
	if !strings.Contains(field, plainCookie) {
		return field
	}
	var kept []string
	for part := range strings.SplitSeq(field, ";") {
		if !isOurCookie(part) {
			kept = append(kept, part)
		}
	}
	return strings.Trim(strings.Join(kept, ";"), " \t")
}

// isOurCookie reports whether a Set-Cookie field, or a part of a Cookie field, is one of ours.
func isOurCookie(field string) bool {
	name, _, _ := strings.Cut(field, "=")
	switch strings.ToLower(strings.Trim(name, " \t")) {
	case strings.ToLower(secureCookie), plainCookie:
		return true
	}
	return false
}
