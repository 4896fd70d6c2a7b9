package template

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
)

// TestBounds: a small template asks for no more work or memory than a server has to give.
func TestBounds(t *testing.T) {
	nested := `"x"`
	for i := range 4 {
		nested = fmt.Sprintf(`{"copy":[{"name":"l%d","count":800,"input":%s}]}`, i, nested)
	}
	doubling := `"v0":"[split(padLeft(',', 4096, ','), ',')]"`
	for i := range 12 {
		doubling += fmt.Sprintf(`,"v%d":"[concat(variables('v%d'), variables('v%d'))]"`, i+1, i, i)
	}
	large := fmt.Sprintf(`"big":%q,"copy":[{"name":"many","count":800,"input":"[concat(variables('big'), copyIndex())]"}]`,
		strings.Repeat("x", 100_000))
	for name, text := range map[string]string{
		"copies within copies": `{"variables":{"v":` + nested + `},"parameters":{"p":{"type":"object","defaultValue":"[variables('v')]"}}}`,
		"empty texts":          `{"variables":{` + doubling + `},"parameters":{"p":{"type":"array","defaultValue":"[variables('v12')]"}}}`,
		"large values":         `{"variables":{` + large + `},"parameters":{"p":{"type":"array","defaultValue":"[variables('many')]"}}}`,
		"depth":                `{"parameters":{"p":{"type":"array","defaultValue":"[json('` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `')]"}}}`,
		"dependencies": `{"resources":[{"type":"A.B/c","name":"x","apiVersion":"1"},{"type":"A.B/c","name":"y",` +
			`"apiVersion":"1","dependsOn":["x"` + strings.Repeat(`,"x"`, 1000) + `]}]}`,
		"a long name": `{"resources":[{"type":"A.B/c","name":"` + strings.Repeat("x", 2000) + `","apiVersion":"1"}]}`,
	} {
		in := input(t, text)
		if _, err := New(in); err == nil || sandpool.ClassOf(err) != sandpool.Invalid {
			t.Errorf("%s: %.300v", name, err)
		}
	}
	for _, open := range []string{"[", `{"a":`} {
		text := strings.Repeat(open, 9_000) + "1" + strings.Repeat(map[string]string{"[": "]"}[open], 9_000)
		if _, err := Clean([]byte(text)); err == nil || !strings.Contains(err.Error(), "deep") {
			t.Errorf("%q 9000 times: %.200v", open, err)
		}
	}
}

// TestExtremes: no argument is a panic, and large sets are no error.
func TestExtremes(t *testing.T) {
	for expression, want := range map[string]any{
		"[padLeft('7', -9223372036854775808)]":                              "7",
		"[length(union(range(0, 5000), range(4000, 5000)))]":                int64(9000),
		"[length(intersection(range(0, 5000), range(4000, 5000)))]":         int64(1000),
		"[length(union(createArray('1', 1, true()), createArray('True')))]": int64(4),
	} {
		if v, err := evaluate(t, expression); err != nil || v != want {
			t.Errorf("%s: %v, %v", expression, v, err)
		}
	}
}
