package pattern_test

import (
	"testing"

	"github.com/sandpool/sandpool/internal/pattern"
)

// An expression is compiled once, when it is first asked for.
func TestLazy(t *testing.T) {
	digits := pattern.Lazy(`^[0-9]+$`)
	if !digits().MatchString("42") || digits().MatchString("x") {
		t.Error("the expression matches something else")
	}
	if first, again := digits(), digits(); first != again {
		t.Error("the expression is compiled twice")
	}
	bad := pattern.Lazy(`(`)
	defer func() {
		if recover() == nil {
			t.Error("a bad expression did not panic when it was used")
		}
	}()
	bad()
}
