package arm

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
)

// TestLogHoldsNoSecrets: whatever a request holds and an error repeats of it, the log has no
// identifier, no query and no text without bound.
func TestLogHoldsNoSecrets(t *testing.T) {
	const pool = "/subscriptions/s/resourceGroups/g/sessionPools/p"
	secret := "hidden-name"
	for _, target := range []string{
		pool + "/executions?identifier=hidden-name", pool +
			"/executions?Identifier=hidden-name&x=1", pool + "/executions?identifier=hidden%2dname",
		pool + "/identifier/hidden-name/executions", pool + "/IDENTIFIER/hidden%2Dname/files/x",
		pool + "/hidden-name/x", pool + "//hidden-name",
		pool + "/files/hidden-name", pool + "/files?filename=hidden-name",
		"//subscriptions/s//resourceGroups/g/sessionPools/p/files/hidden-name",
		pool + "/" + strings.Repeat("x", 1000) + "?q=hidden-name",
	} {
		for name, err := range map[string]error{
			"internal": fmt.Errorf("claim for %q: disk %s", secret,
				strings.Repeat("full ", 5<<20)),
			"unavailable": &sandpool.Error{Class: sandpool.Unavailable, Code: "X",
				Err: errors.New("dial for hidden-name")},
			"invalid": &sandpool.Error{Class: sandpool.Invalid, Code: "X",
				Message: "hidden-name", Err: errors.New("bad number hidden-name")},
			"panic": &panicError{value: "hidden-name",
				stack: bytes.Repeat([]byte("goroutine"), 1<<20)},
		} {
			if (name == "internal" || name == "panic" || name == "unavailable") &&
				!strings.Contains(target, "dentifier") && !strings.Contains(target, "IDENTIFIER") {
				continue // the name is then nothing that the server could know to be an identifier
			}
			var logged bytes.Buffer
			rs := &Responder{Log: slog.New(slog.NewTextHandler(&logged,
				&slog.HandlerOptions{Level: slog.LevelDebug}))}
			rs.Error(httptest.NewRecorder(), httptest.NewRequest("POST", target, nil), err)
			if got := logged.String(); strings.Contains(got, secret) || len(got) > 10<<10 ||
				strings.Count(got, "\n") != 1 {
				t.Errorf("%s of %.100s: %d bytes: %.300s", name, target, len(got), got)
			}
		}
	}
}

func TestLoggedPath(t *testing.T) {
	const pool = "/subscriptions/s/resourceGroups/g/sessionPools/p"
	for path, want := range map[string]string{
		pool:                        pool + "/",
		pool + "/":                  pool + "/",
		pool + "/executions":        pool + "/executions",
		pool + "/.management/x":     pool + "/.management/…",
		pool + "/files/a/b":         pool + "/files/…",
		pool + "/identifier/abcd":   pool + "/identifier/…",
		pool + "/a-secret/x":        pool + "/…",
		pool + "/" + "a%2Fb":        pool + "/…",
		"/sandpool/tokens/x":        "/sandpool/tokens/x",
		"/":                         "/",
		"":                          "",
		strings.Repeat("/x", 1<<20): strings.Repeat("/x", 150) + "…",
		"/subscriptions/s":          "/subscriptions/s",
		"/subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools/p": "/subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools/p",
	} {
		if got := LoggedPath(path); got != want {
			t.Errorf("LoggedPath(%.100q) = %.100q, want %.100q", path, got, want)
		}
	}
}

func FuzzLoggedPath(f *testing.F) {
	f.Add("/subscriptions/s/resourceGroups/g/sessionPools/p/files/x")
	f.Fuzz(func(t *testing.T, path string) {
		if got := LoggedPath(path); len(got) > maxLoggedPath+40 {
			t.Fatalf("%q is logged as %q", path, got)
		}
	})
}
