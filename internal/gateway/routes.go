package gateway

import (
	"net/url"
	"strings"

	"github.com/sandpool/sandpool/internal/auth"
)

// route is one operation of the data plane. Its path is below the pool's
// endpoint; "*" stands for one or more segments, because clients send file names
// with slashes both encoded and not.
type route struct {
	method string
	path   string
	action auth.Action
	serve  func(*Gateway, *call) error
}

// routes lists the data plane. Of two routes that match, the first is taken:
// the path files/content/content is the file "content" in the old spelling.
func routes() []route {
	const run, look = auth.Execute, auth.ReadSessions
	return []route{
		{"POST", "code/execute", run, executeAs(oldEnvelope)},
		{"POST", "executions", run, executeAs(newEnvelope)},
		{"POST", "execute", run, executeAs(legacyEnvelope)},
		{"POST", "python/execute", run, executeAs(legacyEnvelope)},
		{"GET", "executions/*", run, (*Gateway).getExecution},

		{"POST", "files/upload", run, (*Gateway).uploadOld},
		{"POST", "python/uploadFile", run, (*Gateway).uploadOld},
		{"POST", "files", run, (*Gateway).uploadNew},
		{"GET", "files", run, (*Gateway).listFiles},
		{"GET", "python/files", run, (*Gateway).listFilesOld},
		{"GET", "python/downloadFile", run, (*Gateway).downloadFile},
		{"GET", "files/content/*", run, (*Gateway).fileContent},
		{"GET", "files/*/content", run, (*Gateway).fileContent},
		{"GET", "files/*", run, (*Gateway).statFile},
		{"DELETE", "files/*", run, (*Gateway).deleteFile},

		{"GET", "session", look, (*Gateway).getSession},
		{"DELETE", "session", run, (*Gateway).deleteSession},
		{"GET", "listSessions", look, (*Gateway).listSessions},
		{"GET", "metadata", run, (*Gateway).metadata},
		{"POST", ".management/getSession", look, (*Gateway).getSession},
		{"GET", ".management/getSession", look, (*Gateway).getSession},
		{"POST", ".management/listSessions", look, (*Gateway).manageSessions},
		{"GET", ".management/listSessions", look, (*Gateway).manageSessions},
		{"POST", ".management/stopSession", run, (*Gateway).stopSession},
		{"GET", ".management/stopSession", run, (*Gateway).stopSession},
	}
}

// pattern is a route with its path cut at the slashes.
type pattern struct {
	route
	segments []string
}

func compile(rs []route) []pattern {
	ps := make([]pattern, len(rs))
	for i, r := range rs {
		ps[i] = pattern{r, strings.Split(r.path, "/")}
	}
	return ps
}

// match reports whether the segments of a request's path fit, and what "*"
// stands for, as a path.
func (p pattern) match(segments []string) (string, bool) {
	for i, want := range p.segments {
		if want == "*" {
			return matchTail(segments, i, p.segments[i+1:])
		}
		if i >= len(segments) || !strings.EqualFold(segments[i], want) {
			return "", false
		}
	}
	return "", len(segments) == len(p.segments)
}

// matchTail matches a "*" at position at, followed by the fixed segments tail.
func matchTail(segments []string, at int, tail []string) (string, bool) {
	end := len(segments) - len(tail)
	if end <= at {
		return "", false
	}
	for i, want := range tail {
		if !strings.EqualFold(segments[end+i], want) {
			return "", false
		}
	}
	return strings.Join(segments[at:end], "/"), true
}

// split cuts what follows the pool in an escaped path into decoded segments.
// Each is decoded once and after the cut, so that an encoded slash is part of a name.
func split(escaped string) []string {
	const before = 7 // "", subscriptions, S, resourceGroups, G, sessionPools, P
	parts := strings.SplitN(escaped, "/", before+1)
	if len(parts) <= before {
		return nil
	}
	rest := strings.TrimSuffix(parts[before], "/")
	if rest == "" {
		return nil
	}
	segments := strings.Split(rest, "/")
	for i, s := range segments {
		if d, err := url.PathUnescape(s); err == nil {
			segments[i] = d
		}
	}
	return segments
}
