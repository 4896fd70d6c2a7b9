// Package web is the dashboard: pages below /ui/, on the same listener as the API.
//
// # One door
//
// The dashboard has no rights of its own. Who signs in shows a token, and everything that a page
// shows or does is a request to the API with that token: the pages ask it inside the process, the
// pages' scripts through the door /ui/api/, which takes the cookie away and puts the token in its
// place. So a caller sees here what the API would give them, and no rule exists twice.
//
//	browser ── cookie ──▶ pages ─────────┐
//	   │                                 ├── token ──▶ the API: authentication, branch, planes
//	   └────── cookie ──▶ /ui/api/ ──────┘
//
// # What pages hold against
//
//   - A token is in the server's memory alone. The browser has a cookie that scripts cannot read
//     (HttpOnly, SameSite=Strict, with TLS Secure) and that goes nowhere but to /ui/. It is good
//     for 30 minutes without use and 12 hours in all, no longer than the token, and for nothing
//     after the server restarts.
//   - Who comes back from an issuer's pages is signed in only where the browser has begun: by a
//     cookie that is sealed, for ten minutes, and used up by the first answer. Other sites' pages
//     cannot begin. The page after it leads on by itself, since a strict cookie does not come with
//     a redirect that the issuer's page began.
//   - Whatever changes something needs the session's own token against forgery, in the form or in
//     the header X-Csrf-Token, and a browser that says that the request comes from the same origin.
//     A page on the same host at another port is the same site but not the same origin: it is
//     refused. The door asks for that token even to read, except for downloads: a page of
//     somebody's container may have the dashboard's origin.
//   - A WebSocket through the door needs the Origin of this host and that word, as a protocol, and
//     ends with the visit: it is no use of it.
//   - Names, outputs and logs are hostile text. Templates escape them, scripts only ever set text,
//     and the pages' policy allows no script and no style but the files of this package, which also
//     ask nobody else for anything. Nobody may frame a page.
//   - HTML that a session shows is drawn in a frame without an origin, scripts, forms and links,
//     whose policy lets it load nothing. What comes through the door is never a page: it is
//     sandboxed, is to be saved, and its type is believed.
//
// Cookies know no ports: a hostile server on the same host, at another port, gets what a browser
// sends to /ui/ there. Give the dashboard a host name of its own where that matters.
package web
