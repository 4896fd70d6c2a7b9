package gateway

import (
	"net/http"
	"strings"

	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/gateway/wire"
)

// route is one operation of the data plane. Its path is below the pool's
// endpoint; "*" stands for one or more segments, because clients send file names
// with slashes both encoded and not.
type route struct {
	method  string
	path    string
	action  auth.Action
	touches extent
	serve   func(*Gateway, *call) error
}

// onlyLooks reports whether an operation changes nothing.
func (r route) onlyLooks() bool {
	return r.method == http.MethodGet && r.path != ".management/stopSession"
}

// extent is what an operation touches, and so what its caller's grants must include.
type extent int

const (
	// ofPool: the pool as a whole.
	ofPool extent = iota
	// ofSession: one session, whose identifier call.identifier returns to callers who may
	// use it.
	ofSession
	// ofList: a list of sessions, which holds those that the caller may see.
	ofList
)

// routes lists the data plane. If two routes match, the first is taken:
// the path files/content/content is the file "content" in the old spelling.
func routes() []route {
	const run, look = auth.Execute, auth.ReadSessions
	const pool, one, list = ofPool, ofSession, ofList
	return []route{
		{"POST", "code/execute", run, one, executeAs(wire.Old)},
		{"POST", "executions", run, one, (*Gateway).executeNew},
		{"POST", "execute", run, one, executeAs(wire.Legacy)},
		{"POST", "python/execute", run, one, executeAs(wire.Legacy)},
		{"GET", "executions", run, one, (*Gateway).listExecutions},
		{"GET", "executions/*", run, one, (*Gateway).getExecution},
		{"DELETE", "executions/*", run, one, (*Gateway).cancelExecution},

		{"GET", "kernels", run, one, (*Gateway).listKernels},
		{"GET", "contexts", run, one, (*Gateway).listContexts},
		{"POST", "contexts/*/interrupt", run, one, changeInside(interruptContext)},
		{"POST", "contexts/*/restart", run, one, changeInside(restartContext)},
		{"GET", "contexts/*", run, one, (*Gateway).getContext},
		{"PUT", "contexts/*", run, one, (*Gateway).makeContext},
		{"DELETE", "contexts/*", run, one, changeInside(deleteContext)},

		{"POST", "processes", run, one, (*Gateway).startProcess},
		{"GET", "processes", run, one, (*Gateway).listProcesses},
		{"POST", "processes/*/signal", run, one, changeInside(signalProcess)},
		{"GET", "processes/*/logs", run, one, (*Gateway).processLogs},
		{"GET", "processes/*", run, one, (*Gateway).getProcess},
		{"DELETE", "processes/*", run, one, changeInside(removeProcess)},

		{"GET", "terminals", run, one, (*Gateway).listTerminals},
		{"GET", "terminals/*", run, one, (*Gateway).terminal},
		{"DELETE", "terminals/*", run, one, changeInside(endTerminal)},

		{"POST", "files/upload", run, one, uploadAs(true)},
		{"POST", "python/uploadFile", run, one, uploadAs(true)},
		{"POST", "files", run, one, uploadAs(false)},
		{"GET", "files", run, one, (*Gateway).listFiles},
		{"GET", "python/files", run, one, (*Gateway).listFilesOld},
		{"GET", "python/downloadFile", run, one, (*Gateway).downloadFile},
		{"GET", "files/content/*", run, one, (*Gateway).fileContent},
		{"GET", "files/*/content", run, one, (*Gateway).fileContent},
		{"PUT", "files/*/content", run, one, receives((*Gateway).putFile)},
		{"PATCH", "files/*/content", run, one, receives((*Gateway).patchFile)},
		{"POST", "files/*", run, one, (*Gateway).changeFile},
		{"GET", "watch", run, one, (*Gateway).watchFiles},
		{"GET", "archive", run, one, (*Gateway).packFiles},
		{"PUT", "archive", run, one, receives((*Gateway).unpackFiles)},
		{"GET", "files/*", run, one, (*Gateway).statFile},
		{"DELETE", "files/*", run, one, (*Gateway).deleteFile},

		{"GET", "session", look, one, (*Gateway).getSession},
		{"DELETE", "session", run, one, (*Gateway).deleteSession},
		{"GET", "listSessions", look, list, (*Gateway).listSessions},
		{"GET", "metadata", run, pool, (*Gateway).metadata},
		{"POST", ".management/getSession", look, one, (*Gateway).getSession},
		{"GET", ".management/getSession", look, one, (*Gateway).getSession},
		{"POST", ".management/listSessions", look, list, (*Gateway).manageSessions},
		{"GET", ".management/listSessions", look, list, (*Gateway).manageSessions},
		{"GET", ".management/session", look, one, (*Gateway).sessionDetail},
		{"GET", ".management/logs", run, one, (*Gateway).logs},
		{"GET", ".management/history", run, one, (*Gateway).pastExecutions},
		{"DELETE", ".management/history", run, one, (*Gateway).forgetExecutions},
		{"POST", ".management/stopSession", run, one, (*Gateway).stopSession},
		{"GET", ".management/stopSession", run, one, (*Gateway).stopSession},
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
