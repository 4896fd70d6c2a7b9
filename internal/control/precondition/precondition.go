// Package precondition tells the versions of a pool apart (ETag) and checks what requests say of
// them (If-Match and If-None-Match), so that a change is made of what its caller has seen.
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
	text, err := json.Marshal(p)
	if err != nil {
		return `""`
	}
	sum := sha256.Sum256(text)
	return fmt.Sprintf("%q", hex.EncodeToString(sum[:12]))
}

// Matches reports whether one of the tags in headers is that of p, or a star and p is there.
func Matches(headers []string, p *sandpool.Pool) bool {
	for _, h := range headers {
		for tag := range strings.SplitSeq(h, ",") {
			tag = strings.TrimSpace(tag)
			if p != nil && (tag == "*" || strings.TrimPrefix(tag, "W/") == Tag(*p)) {
				return true
			}
		}
	}
	return false
}

// Check checks If-Match and If-None-Match of a change against the pool, nil if there is
// none.
func Check(r *http.Request, p *sandpool.Pool) error {
	if h := r.Header.Values("If-Match"); len(h) > 0 && !Matches(h, p) {
		return sandpool.Errorf(sandpool.Conflict, "PreconditionFailed", "If-Match",
			"The session pool has changed since If-Match was read. Read it again, and send its ETag.")
	}
	if h := r.Header.Values("If-None-Match"); Matches(h, p) {
		return sandpool.Errorf(sandpool.Conflict, "PreconditionFailed", "If-None-Match",
			"The session pool exists already, and If-None-Match says that it must not.")
	}
	return nil
}
