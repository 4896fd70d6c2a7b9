package arm

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/sandpool/sandpool"
)

// Normalise gives every path one spelling before it reaches a mux:
//
//   - repeated slashes are one, and a trailing slash is dropped: clients join the
//     endpoint and a path with and without a slash between them;
//   - the fixed words of resource ids have their canonical case, because Resource
//     Manager compares them without regard to case (names keep theirs);
//   - a path with a dot segment, plain or encoded, is refused.
//
// Escapes are kept: %2F in a file's name stays part of the name. Everything
// below a pool's data-plane endpoint (…/sessionPools/NAME/…) keeps its case.
// http.ServeMux answers a path that it would spell differently with a
// redirect, which many clients do not follow for POST; after Normalise it never does.
func (rs *Responder) Normalise(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		esc, err := normalPath(r.URL.EscapedPath())
		if err != nil {
			rs.Error(w, r, err)
			return
		}
		if esc == r.URL.EscapedPath() {
			next.ServeHTTP(w, r)
			return
		}
		r2 := *r
		u := *r.URL
		u.Path, err = url.PathUnescape(esc)
		if err != nil {
			rs.Error(w, r, badPath("has an invalid escape"))
			return
		}
		u.RawPath = esc
		r2.URL = &u
		next.ServeHTTP(w, &r2)
	})
}

// dots is what is wrong with a path that leads up.
const dots = "has a segment that is . or .. ; write the path without it"

func badPath(what string) error {
	return sandpool.Errorf(sandpool.Invalid, "InvalidRequestUri", "path", "The path %s.", what)
}

// normalPath returns the one spelling of an escaped path. The path of OPTIONS *
// and the empty path of CONNECT are returned as they are.
func normalPath(esc string) (string, error) {
	if esc == "" || esc == "*" {
		return esc, nil
	}
	if esc[0] != '/' {
		return "", badPath("does not begin with a slash")
	}
	segs := make([]string, 0, 16)
	for s := range strings.SplitSeq(esc, "/") {
		if s == "" {
			continue
		}
		plain, err := url.PathUnescape(s)
		if err != nil {
			return "", badPath("has an invalid escape")
		}
		if plain == "." || plain == ".." {
			return "", badPath(dots)
		}
		segs = append(segs, s)
	}
	foldResourceID(segs)
	return "/" + strings.Join(segs, "/"), nil
}

// Segments returns the segments of an escaped path, each decoded once and after the cut, so that an
// encoded slash is part of a name. Repeated slashes and one at the end make no segment; one that
// is a dot or two, plain or encoded, is refused.
func Segments(esc string) ([]string, error) {
	segs := make([]string, 0, 4)
	for s := range strings.SplitSeq(esc, "/") {
		if s == "" {
			continue
		}
		plain, err := url.PathUnescape(s)
		if err != nil {
			return nil, badPath("has an invalid escape")
		}
		if plain == "." || plain == ".." {
			return nil, badPath(dots)
		}
		segs = append(segs, plain)
	}
	return segs, nil
}

// words are the fixed words of the resource ids that are served, by their
// lower-case form.
var words = func() map[string]string {
	m := map[string]string{}
	for _, w := range []string{"subscriptions", "resourceGroups", "providers", "sessionPools",
		"locations",
		"containerappOperationStatuses", "containerappOperationResults", "Microsoft.App",
		"Microsoft.Authorization",
		"roleAssignments", "fetchMCPServerCredentials", "rotateMCPServerCredentials",
		"regenerateCredentials", "status", "events", "register", "unregister", "tenants",
		"resources", "managedEnvironments", "Microsoft.ManagedIdentity", "userAssignedIdentities",
		"Microsoft.Resources", "roleDefinitions", "locks",
		"deployments", "operations", "operationStatuses", "operationresults", "validate", "whatIf",
		"cancel", "exportTemplate", "usages"} {
		m[strings.ToLower(w)] = w
	}
	return m
}()

// foldResourceID gives the fixed words of a resource id their canonical case,
// in place. An id is a list of pairs: a fixed word and a name. After the word
// providers the name is fixed too. Below a data-plane endpoint, which is a pool
// directly below its resource group, nothing is touched.
func foldResourceID(segs []string) {
	if len(segs) == 0 {
		return
	}
	switch strings.ToLower(unescaped(segs[0])) {
	case "subscriptions", "providers", "tenants":
	default:
		return
	}
	provider := false
	for i := 0; i < len(segs); i += 2 {
		segs[i] = fold(segs[i])
		switch {
		case segs[i] == "providers":
			provider = true
			if i+1 < len(segs) {
				segs[i+1] = fold(segs[i+1])
			}
			// A provider's name stands alone: the pairs go on after it.
		case segs[i] == "sessionPools" && !provider:
			return
		}
	}
}

// fold returns the canonical form of the fixed word seg, and seg itself if it is none.
func fold(seg string) string {
	if w, ok := words[strings.ToLower(unescaped(seg))]; ok {
		return w
	}
	return seg
}

func unescaped(seg string) string {
	s, err := url.PathUnescape(seg)
	if err != nil {
		return seg
	}
	return s
}
