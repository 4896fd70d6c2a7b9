package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

const controlRoot = "/subscriptions/" + sandpool.DefaultSubscription +
	"/resourceGroups/default/providers/Microsoft.App/sessionPools"

// states answers every GET with the next of the states, and stays at the last.
func states(t *testing.T, names ...string) (*Client, *int) {
	t.Helper()
	gets := new(int)
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != controlRoot+"/one" || r.URL.Query().Get("api-version") == "" {
			t.Errorf("request to %s", r.URL)
		}
		switch r.Method {
		case http.MethodDelete:
			w.WriteHeader(http.StatusAccepted)
			return
		case http.MethodGet:
			*gets++
		}
		state := names[min(max(*gets-1, 0), len(names)-1)]
		if state == "gone" {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"error":{"code":"SessionPoolNotFound","message":"none"}}`)
			return
		}
		_ = json.NewEncoder(w).Encode(api.SessionPool{Name: "one",
			Properties: &api.SessionPoolProperties{
				ProvisioningState: state, Sandpool: &api.SandpoolSettings{Problem: "no image"}}})
	}), gets
}

func TestPutPoolWaits(t *testing.T) {
	c, gets := states(t, "InProgress", "InProgress", "Succeeded")
	p, err := c.PutPool(t.Context(), "one", api.SessionPool{})
	if err != nil || p.Properties.ProvisioningState != "Succeeded" || *gets != 3 {
		t.Errorf("%+v, %v after %d looks", p, err, *gets)
	}
}

func TestPutPoolSaysWhyItFailed(t *testing.T) {
	c, _ := states(t, "InProgress", "Failed")
	_, err := c.PutPool(t.Context(), "one", api.SessionPool{})
	if sandpool.ClassOf(err) != sandpool.Unavailable || !strings.Contains(err.Error(), "no image") {
		t.Errorf("err = %v, want class Unavailable with the reason", err)
	}
}

// TestShortNameIsNotAsked: a name that no pool can have is refused here, in words.
func TestShortNameIsNotAsked(t *testing.T) {
	c, _ := states(t)
	for _, name := range []string{"py", "", strings.Repeat("x", 64), "a_b", "1ab", "ab-"} {
		if _, err := c.PutPool(t.Context(), name, api.SessionPool{}); sandpool.ClassOf(
			err) != sandpool.Invalid || !strings.Contains(err.Error(), "3 to 63") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestWaitingEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c, _ := states(t, "InProgress")
	_, err := c.WaitPool(ctx, "one", func(api.SessionPool) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	short, done := context.WithTimeout(t.Context(), pollInterval*2)
	defer done()
	if _, err := c.WaitPool(short, "one", nil); sandpool.ClassOf(err) != sandpool.Unavailable ||
		err == nil {
		t.Errorf("out of time: %v", err)
	}
}

func TestDeletePoolWaitsUntilGone(t *testing.T) {
	c, gets := states(t, "Deleting", "Deleting", "gone")
	if existed, err := c.DeletePool(t.Context(), "one"); err != nil || !existed || *gets != 3 {
		t.Errorf("%v, %v after %d looks", existed, err, *gets)
	}
	none := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	})
	if existed, err := none.DeletePool(t.Context(), "one"); err != nil || existed {
		t.Errorf("an absent pool: %v, %v", existed, err)
	}
}

func TestWaitReady(t *testing.T) {
	looks := 0
	answers := []api.PoolStatus{
		{ReadySessions: 3, MaxSessions: 4, Claimed: 2, Ready: 1},
		{ReadySessions: 3, MaxSessions: 4, Claimed: 2, Ready: 2, Starting: 1},
		{ReadySessions: 3, MaxSessions: 4, Claimed: 2, Ready: 2},
	}
	begun := time.Now()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(answers[min(looks, len(answers)-1)])
		looks++
	})
	// A wait must be within the rate that a server may allow its callers.
	defer func() {
		if took := time.Since(begun); took < time.Duration(looks-1)*time.Second/20 {
			t.Errorf("%d looks within %s are more than 20 a second", looks, took)
		}
	}()
	if s, err := c.WaitReady(t.Context(), "one", nil); err != nil || s.Ready != 2 || looks != 3 {
		t.Errorf("%+v, %v after %d looks; want 3", s, err, looks)
	}
}

func TestTokens(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.EscapedPath() {
		case "POST /sandpool/tokens":
			var req api.TokenRequest
			if err := json.NewDecoder(r.Body).Decode(&req); err != nil || req.Role != "admin" {
				t.Errorf("request = %+v, %v", req, err)
			}
			fmt.Fprint(w, `{"id":"i","token":"text"}`)
		case "GET /sandpool/tokens":
			fmt.Fprint(w, `{"value":[{"id":"i"}]}`)
		case "DELETE /sandpool/tokens/a%2Fb":
			w.WriteHeader(http.StatusNoContent)
		default:
			t.Errorf("request %s %s", r.Method, r.URL)
		}
	})
	if got, err := c.CreateToken(t.Context(), api.TokenRequest{Role: "admin"}); err != nil ||
		got.Text != "text" || got.ID != "i" {
		t.Errorf("created %+v, %v", got, err)
	}
	if got, err := c.Tokens(t.Context()); err != nil || len(got) != 1 {
		t.Errorf("tokens %+v, %v", got, err)
	}
	if err := c.RevokeToken(t.Context(), "a/b"); err != nil {
		t.Errorf("revoke: %v", err)
	}
}
