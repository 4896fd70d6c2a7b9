package languages_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// TestNodeBoundedValues: of a value that has no room in an answer the beginning is shown, and its
// text is not made whole before.
func TestNodeBoundedValues(t *testing.T) {
	m := newMachine(t, "node")
	c := m.restore(t)
	run(t, c, time.Minute, `const nest = (d) => d ? Array.from({length: 100}, () => nest(d - 1)) : 1;
const big = {}; for (let i = 0; i < 300_000; i++) big["k" + i] = i; 0`)
	for _, v := range []struct{ code, begin, end string }{
		{"nest(3)", "[\n  [\n    [Array], [Array]", "[Array]\n  ]\n]"},
		{"nest(2)", "[\n  [\n    1, 1, 1,", "1\n  ]\n]"},
		{"big", "{\n  k0: 0,\n", "k9999: 9999\n}\n... 290000 more keys"},
		{"({big, x: 1})", "{ big: [Object], x: 1 }", "x: 1 }"},
		{"'x'.repeat(4e8)", "'xxxx", "\n... about 398951524 more characters"},
		{"Array(100).fill('y'.repeat(5e6))", "[\n  'yyy", "... 4999000 more characters\n]"},
		{"2n ** 30000000n", "<a BigInt of about 90309", " digits>"},
		{"new Map(Object.entries(big))", "Map(300000) {\n  'k0' => 0,", "... 299900 more items\n}"},
		{"new Proxy({a: 1}, {ownKeys() { for (;;); }})", "{ a: 1 }", "}"},
	} {
		res := run(t, c, time.Minute, v.code)
		if res.Outcome != agent.OK || !strings.HasPrefix(res.Text, v.begin) ||
			!strings.HasSuffix(res.Text, v.end) || len(res.Text) > 1<<20 {
			t.Errorf("%s: %s, %+v, %d bytes: %.80q … %q", v.code, res.Outcome, res.Error,
				len(res.Text), res.Text, res.Text[max(0, len(res.Text)-80):])
		}
	}
	res := run(t, c, time.Minute, "throw Object.assign(new Error('x'), {big})")
	if res.Error == nil ||
		!strings.Contains(res.Error.Traceback, "big: [Object]") {
		t.Errorf("an error with much in it: %+v", res.Error)
	}
}
