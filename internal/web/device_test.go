package web_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestDevice: somebody who has signed in lets a program sign in; nobody else does, and no other
// site's page in their name.
func TestDevice(t *testing.T) {
	s := newSite(t)
	var approved []string
	s.useAPI(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/sandpool/devices" {
			fakeAPI(w, r)
			return
		}
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if strings.Contains(string(text), "BAD") {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"error":{"code":"InvalidUserCode","message":%q}}`, hostile)
			return
		}
		approved = append(approved, string(text))
		w.WriteHeader(http.StatusNoContent)
	}))
	const path = "/ui/device?user_code=BCDFG-HJKLM"
	res := s.ask("GET", path, "")
	s.want(res, http.StatusSeeOther)
	if to := res.Header.Get("Location"); !strings.Contains(to, "user_code%3DBCDFG-HJKLM") {
		t.Errorf("after the sign-in the code is lost: %s", to)
	}
	s.want(s.ask("POST", "/ui/device", "code=BCDFG-HJKLM"), http.StatusSeeOther)
	word := s.signIn()
	if page := s.want(s.ask("GET", path, ""), http.StatusOK); !strings.Contains(page,
		`value="BCDFG-HJKLM"`) || !strings.Contains(page, "somebody sent you") {
		t.Errorf("the page: %s", page)
	}
	if page := s.want(s.ask("GET", "/ui/device?user_code=%22%3E%3Cscript%3Ealert(1)", ""),
		http.StatusOK); strings.Contains(page, "<script>alert") {
		t.Errorf("the page has a script of the address in it: %s", page)
	}
	s.want(s.ask("POST", "/ui/device", "code=BCDFG-HJKLM&csrf=wrong"), http.StatusForbidden)
	s.want(s.ask("POST", "/ui/device", "code=BCDFG-HJKLM&csrf="+word, "Sec-Fetch-Site",
		"cross-site"), http.StatusForbidden)
	if len(approved) != 0 {
		t.Fatalf("%q is approved by somebody else", approved)
	}
	if page := s.want(s.ask("POST", "/ui/device", "code=BAD&csrf="+word),
		http.StatusBadRequest); strings.Contains(page, "<script>alert") {
		t.Errorf("an error is a part of the page: %s", page)
	}
	if page := s.want(s.ask("POST", "/ui/device", "code=BCDFG-HJKLM&csrf="+word),
		http.StatusOK); !strings.Contains(page, "signs in now") {
		t.Errorf("afterwards: %s", page)
	}
	if len(approved) != 1 || approved[0] != `{"userCode":"BCDFG-HJKLM"}` {
		t.Errorf("%q is approved", approved)
	}
}
