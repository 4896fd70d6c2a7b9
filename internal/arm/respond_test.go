package arm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/fault"
)

// answer runs fn behind Trace and Handle and returns the answer and the log.
func answer(t *testing.T, rs *Responder, fn func(http.ResponseWriter,
	*http.Request) error) (*http.Response, api.ErrorDetail, string) {
	t.Helper()
	var logged bytes.Buffer
	rs.Log = slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	rec := httptest.NewRecorder()
	Trace(rs.Handle(fn)).ServeHTTP(rec, httptest.NewRequest("GET", "/x?identifier=secret-name",
		nil))
	resp := rec.Result()
	var body api.ErrorBody
	if resp.StatusCode >= 400 {
		if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
			t.Fatalf("error body: %v", err)
		}
	}
	return resp, body.Error, logged.String()
}

func fail(err error) func(http.ResponseWriter, *http.Request) error {
	return func(http.ResponseWriter, *http.Request) error { return err }
}

func TestInternalErrorsAreNotShown(t *testing.T) {
	resp, e, logged := answer(t, &Responder{},
		fail(fmt.Errorf("open %q: disk on fire", "/secret/path")))
	if resp.StatusCode != 500 || e.Code != "InternalServerError" ||
		resp.Header.Get("X-Ms-Error-Code") != e.Code {
		t.Errorf("status %d, code %q", resp.StatusCode, e.Code)
	}
	if strings.Contains(e.Message, "disk") || !strings.Contains(e.Message, e.TraceID) ||
		e.TraceID == "" {
		t.Errorf("message %q", e.Message)
	}
	if e.TraceID != resp.Header.Get("X-Ms-Request-Id") {
		t.Errorf("trace id %q, header %q", e.TraceID, resp.Header.Get("X-Ms-Request-Id"))
	}
	if strings.Count(logged, "disk on fire") != 1 || !strings.Contains(logged, e.TraceID) ||
		!strings.Contains(logged, `"ERROR"`) {
		t.Errorf("log %s", logged)
	}
	if strings.Contains(logged, "secret-name") {
		t.Errorf("the log holds an identifier: %s", logged)
	}
}

func TestPanicIsAnInternalError(t *testing.T) {
	resp, e, logged := answer(t, &Responder{}, func(http.ResponseWriter, *http.Request) error {
		panic("boom at x")
	})
	if resp.StatusCode != 500 || strings.Contains(e.Message, "boom") ||
		!strings.Contains(logged, "boom at x") {
		t.Errorf("status %d, message %q, log %s", resp.StatusCode, e.Message, logged)
	}
}

func TestAnswersOfEveryClass(t *testing.T) {
	for class := sandpool.Internal + 1; class <= sandpool.Ended; class++ {
		t.Run(class.String(), func(t *testing.T) {
			err := &sandpool.Error{Class: class, Code: "Particular", Target: "f",
				Message: "Say it.", Err: errors.New("cause")}
			resp, e, logged := answer(t, &Responder{}, fail(fmt.Errorf("wrapped: %w", err)))
			if resp.StatusCode != fault.Status(class, "", 0) || e.Code != "Particular" ||
				e.Message != "Say it." || e.Target != "f" {
				t.Errorf("status %d, %+v", resp.StatusCode, e)
			}
			if e.InnerError == nil || fault.ClassOf(resp.StatusCode, e.InnerError.Code) != class {
				t.Errorf("the class is lost: %+v", e.InnerError)
			}
			ours := class == sandpool.Unavailable || class == sandpool.Ended
			if strings.Contains(logged, "cause") != ours || strings.Contains(e.Message, "cause") ||
				!strings.Contains(logged, "Particular") {
				t.Errorf("the code belongs in the log, and a cause if it may be the server's: %s",
					logged)
			}
			if (resp.Header.Get("Retry-After") != "") != (fault.RetryAfter(class) > 0) {
				t.Errorf("Retry-After %q", resp.Header.Get("Retry-After"))
			}
			resp, e, _ = answer(t, &Responder{}, fail(&sandpool.Error{Class: class}))
			if e.Code != fault.Code(class) || e.InnerError != nil ||
				fault.ClassOf(resp.StatusCode, e.Code) != class {
				t.Errorf("default code: %+v", e)
			}
		})
	}
}

func TestFullStatusIsASwitch(t *testing.T) {
	full := &sandpool.Error{Class: sandpool.Full, Code: "Own", RetryAfter: 1500 * time.Millisecond}
	for want, rs := range map[int]*Responder{404: {}, 429: {FullStatus: 429}} {
		resp, e, _ := answer(t, rs, fail(full))
		if resp.StatusCode != want || resp.Header.Get("Retry-After") != "2" {
			t.Errorf("status %d, Retry-After %q; want %d, 2", resp.StatusCode,
				resp.Header.Get("Retry-After"), want)
		}
		if c := fault.ClassOf(resp.StatusCode, e.InnerError.Code); c != sandpool.Full {
			t.Errorf("class %v after status %d", c, want)
		}
	}
}

func TestUnknownSessionIsStatus400(t *testing.T) {
	resp, e, _ := answer(t, &Responder{}, fail(&sandpool.Error{Class: sandpool.NotFound,
		Code: "SessionWithIdentifierNotFound"}))
	if resp.StatusCode != 400 || fault.ClassOf(resp.StatusCode, e.Code) != sandpool.NotFound {
		t.Errorf("status %d, %+v", resp.StatusCode, e)
	}
}

func TestHostileCodeStaysOutOfTheHeader(t *testing.T) {
	resp, e, _ := answer(t, &Responder{}, fail(&sandpool.Error{Class: sandpool.Invalid,
		Code: "a\r\nSet-Cookie: x=1"}))
	if e.Code != "InvalidRequest" || resp.Header.Get("Set-Cookie") != "" {
		t.Errorf("%+v %v", e, resp.Header)
	}
}

func TestDetailsAreAlwaysAnArray(t *testing.T) {
	var raw bytes.Buffer
	rs := &Responder{Log: slog.New(slog.DiscardHandler)}
	rec := httptest.NewRecorder()
	rs.Error(rec, httptest.NewRequest("GET", "/", nil), &sandpool.Error{Class: sandpool.Invalid})
	_, _ = raw.ReadFrom(rec.Body)
	if !strings.Contains(raw.String(), `"details":[]`) {
		t.Errorf("body %s", raw.String())
	}
}

func TestCallerThatWentAwayIsNotAnError(t *testing.T) {
	var logged bytes.Buffer
	rs := &Responder{Log: slog.New(slog.NewTextHandler(&logged, nil))}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rec := httptest.NewRecorder()
	rs.Handle(fail(fmt.Errorf("claim: %w", context.Canceled))).ServeHTTP(rec,
		httptest.NewRequest("GET", "/", nil).WithContext(ctx))
	if rec.Code != statusClientGone || logged.Len() != 0 {
		t.Errorf("status %d, log %s", rec.Code, logged.String())
	}
}

func TestErrorAfterTheAnswerBeganCutsTheConnection(t *testing.T) {
	rs := &Responder{Log: slog.New(slog.DiscardHandler)}
	srv := httptest.NewServer(rs.Handle(func(w http.ResponseWriter, _ *http.Request) error {
		if _, err := io.WriteString(w, "half"); err != nil {
			return err
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return err
		}
		return errors.New("broken")
	}))
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("a cut answer reads as whole: %q", b)
	}
}

func TestTraceparent(t *testing.T) {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	for header, want := range map[string]string{
		"00-" + id + "-00f067aa0ba902b7-01":                       id,
		"01-" + id + "-00f067aa0ba902b7-01-more":                  id,
		"00-" + id + "-00f067aa0ba902b7-01-more":                  "",
		"ff-" + id + "-00f067aa0ba902b7-01":                       "",
		"00-" + strings.ToUpper(id) + "-00f067aa0ba902b7-01":      "",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01": "",
		"00-" + id + "-0000000000000000-01":                       "",
		"<script>":                                                "",
		"":                                                        "",
	} {
		if got := parseTraceparent(header); got != want {
			t.Errorf("parseTraceparent(%q) = %q, want %q", header, got, want)
		}
	}
	var ids []string
	h := Trace(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ids = append(ids, TraceID(r.Context()))
	}))
	for range 2 {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}
	if !isHex(ids[0], 32) || ids[0] == ids[1] {
		t.Errorf("random trace ids %q", ids)
	}
}
