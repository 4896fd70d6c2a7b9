// Package precondition tells the versions of a resource apart (ETag) and checks what requests say
// of them (If-Match and If-None-Match), so that a change is made of what its caller has seen.
package precondition

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
)

// Tag names what a pool is set to: every change of its settings has another one (RFC 9110, 8.8.3).
// How far the server is with them is no change.
func Tag(p sandpool.Pool) string {
	p.State, p.Problem, p.Cause, p.Notice, p.UpdatedAt = "", "", "", "", time.Time{}
	p.SettledAt, p.UpdatedBy = time.Time{}, sandpool.Author{}
	return TagOf(p)
}

// TagOf names what v says.
func TagOf(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return `""`
	}
	sum := sha256.Sum256(text)
	return fmt.Sprintf("%q", hex.EncodeToString(sum[:12]))
}

// Matches reports whether one of the tags in headers is that of p, or a star and p is there.
func Matches(headers []string, p *sandpool.Pool) bool { return MatchesTag(headers, tag(p)) }

func tag(p *sandpool.Pool) string {
	if p == nil {
		return ""
	}
	return Tag(*p)
}

// MatchesTag reports whether one of the tags in headers is that of a resource, or a star and the
// resource is there. The tag of one that is not there is empty.
func MatchesTag(headers []string, of string) bool {
	for _, h := range headers {
		for tag := range strings.SplitSeq(h, ",") {
			tag = strings.TrimSpace(tag)
			if of != "" && (tag == "*" || strings.TrimPrefix(tag, "W/") == of) {
				return true
			}
		}
	}
	return false
}

// Check checks If-Match and If-None-Match of a change against the pool, nil if there is
// none.
func Check(r *http.Request, p *sandpool.Pool) error {
	return CheckTag(r, tag(p), "session pool")
}

// CheckTag is Check for a resource of some kind by its tag, which is empty if there is none.
func CheckTag(r *http.Request, of, kind string) error {
	if h := r.Header.Values("If-Match"); len(h) > 0 && !MatchesTag(h, of) {
		return sandpool.Errorf(sandpool.Conflict, "PreconditionFailed", "If-Match",
			"The %s has changed since If-Match was read. Read it again, and send its ETag.", kind)
	}
	if h := r.Header.Values("If-None-Match"); MatchesTag(h, of) {
		return sandpool.Errorf(sandpool.Conflict, "PreconditionFailed", "If-None-Match",
			"The %s exists already, and If-None-Match says that it must not.", kind)
	}
	return nil
}
