// Package pattern has regular expressions that cost nothing until they are used. Every sandbox
// executes this program anew, and what packages prepare when they are loaded delays each start.
package pattern

import (
	"regexp"
	"sync"
)

// Lazy returns a function that compiles text when it is first called. It panics then if text is no
// regular expression.
func Lazy(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}
