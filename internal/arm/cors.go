package arm

import (
	"net/http"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
)

// exposedHeaders are those that scripts of other origins may read: all of them, also those of an
// application in a container. The browser keeps Authorization to itself, and takes the asterisk
// for a name where credentials of its own are sent, which are never let through.
const exposedHeaders = "*"

// methods are those of the API; an application in a container may know others.
const methods = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"

// CORS lets pages of the given origins use next from a browser
// (https://fetch.spec.whatwg.org/#http-cors-protocol). An origin is a scheme, a host and a port
// if it is not the scheme's own, such as "https://app.example.com"; "*" is every origin. It
// answers preflights, which carry no token, by itself; those of other origins, and all if
// there are no origins, are told so. Cookies and other credentials of the browser's are never
// let through: a page needs a token, as everybody does.
func (rs *Responder) CORS(origins []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		if len(origins) > 0 {
			// Without an origin, too: a cache must not give that answer to a page.
			h.Add("Vary", "Origin")
		}
		origin := r.Header.Get("Origin")
		if origin == "" {
			next.ServeHTTP(w, r)
			return
		}
		wanted := r.Header.Get("Access-Control-Request-Method")
		preflight := r.Method == http.MethodOptions && wanted != ""
		if !allows(origins, origin) {
			if preflight {
				rs.Error(w, r, noCORS(origins))
				return
			}
			next.ServeHTTP(w, r) // the browser keeps the answer from the page
			return
		}
		h.Set("Access-Control-Allow-Origin", origin)
		if !preflight {
			h.Set("Access-Control-Expose-Headers", exposedHeaders)
			next.ServeHTTP(w, r)
			return
		}
		h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
		h.Set("Access-Control-Allow-Methods", methods)
		if !strings.Contains(methods, wanted) && isNameList(wanted) {
			h.Set("Access-Control-Allow-Methods", methods+", "+wanted)
		}
		if names := r.Header.Get("Access-Control-Request-Headers"); names != "" &&
			isNameList(names) {
			h.Set("Access-Control-Allow-Headers", names)
		}
		// From a public page to a server on a private address or on loopback
		// (https://wicg.github.io/private-network-access): the origin was named for that.
		if r.Header.Get("Access-Control-Request-Private-Network") == "true" {
			h.Add("Vary", "Access-Control-Request-Private-Network")
			h.Set("Access-Control-Allow-Private-Network", "true")
		}
		h.Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
	})
}

func allows(origins []string, origin string) bool {
	return slices.ContainsFunc(origins, func(o string) bool {
		return o == "*" || strings.EqualFold(o, origin)
	})
}

func noCORS(origins []string) error {
	message := "Pages of this origin may not use this server. An administrator can allow them " +
		"with the setting cors.origins."
	if len(origins) == 0 {
		message = "This server takes no requests from pages of other origins. An administrator " +
			"can allow them with the setting cors.origins."
	}
	return sandpool.Errorf(sandpool.Denied, "CorsNotAllowed", "Origin", "%s", message)
}

// isNameList reports whether s is a list of names of headers or methods, and no more.
func isNameList(s string) bool {
	return len(s) <= 4096 && strings.Trim(strings.ToLower(s),
		"abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~, ") == ""
}
