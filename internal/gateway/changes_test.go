package gateway

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
)

// TestBadCallsOnFiles: what is wrong with a call that changes files is said of the parameter that
// it is wrong with, and no session is made for it.
func TestBadCallsOnFiles(t *testing.T) {
	w := newWorld(t, Options{MaxUpload: 1000})
	long, deep := strings.Repeat("x", 256), strings.Repeat("d/", 2001)
	for _, tt := range []struct {
		call   string
		status int
		target string
	}{
		{"POST files/a?operation=mkdir&path=..", 400, "path"},
		{"POST files/..%2fa?operation=mkdir", 400, "path"},
		{"POST files/a%00?operation=mkdir", 400, "path"},
		{"POST files/" + long + "?operation=mkdir", 400, "path"},
		{"POST files/" + deep + "?operation=mkdir", 400, "path"},
		{"POST files/a?", 400, "operation"},
		{"POST files/a?operation=link&to=b", 400, "operation"},
		{"POST files/a?operation=move", 400, "to"},
		{"POST files/a?operation=move&to=/mnt/data/", 400, "to"},
		{"POST files/a?operation=move&to=../b", 400, "to"},
		{"POST files/a?operation=copy&to=b%00", 400, "to"},
		{"POST files/a?operation=copy&to=" + long, 400, "to"},
		{"POST files/a?operation=copy&to=" + deep, 400, "to"},
		{"POST files/a?operation=copy&to=b&overwrite=perhaps", 400, "overwrite"},
		{"POST files/..%2fa?operation=move&to=b", 400, "path"},
		{"PATCH files/a/content?", 400, "offset"},
		{"PATCH files/a/content?offset=-1", 400, "offset"},
		{"PATCH files/a/content?offset=1e3", 400, "offset"},
		{"PATCH files/a/content?offset=9223372036854775808", 400, "offset"},
		{"PATCH files/..%2fa/content?offset=end", 400, "path"},
		{"PUT files/a%00/content?", 400, "path"},
		{"PUT files/" + long + "/content?", 400, "path"},
		{"GET files/a?digest=md5", 400, "digest"},
		{"GET archive?format=7z", 400, "format"},
		{"GET archive?path=../a", 400, "path"},
		{"PUT archive?format=rar", 400, "format"},
		{"PUT archive?path=a%00", 400, "path"},
		{"PUT archive?path=" + long, 400, "path"},
	} {
		method, path, _ := strings.Cut(tt.call, " ")
		got := w.do(method, path+"&identifier=abcd", "body")
		e, _ := got.json(t)["error"].(map[string]any)
		if got.status != tt.status || e["target"] != tt.target {
			t.Errorf("%.60s: %d %.300s, want %d for %s", tt.call, got.status, got.body, tt.status,
				tt.target)
		}
	}
	if acquired, _ := w.counts(); acquired != 0 {
		t.Errorf("%d sessions were made", acquired)
	}
}

// TestLongList: a list that needs room on the server arrives whole, and the room comes back.
func TestLongList(t *testing.T) {
	w := newWorldOf(t, Options{}, nil)
	one := `{"name":"` + strings.Repeat("n", 250) + `","path":"` + strings.Repeat("n", 250) +
		`","type":"file"}`
	text := "[" + strings.Repeat(one+",", agent.MaxEntries-1) + one + "]"
	w.served(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, text) })
	for range 3 { // more than have room at the same time
		for _, version := range []string{oldVersion, newVersion} {
			got := w.do("GET", "files?"+version, "")
			if n := strings.Count(got.body, strings.Repeat("n", 250)); got.status != 200 ||
				n != agent.MaxEntries {
				t.Fatalf("%s: %d, %d files", version, got.status, n)
			}
		}
	}
}

// TestRefusedBodiesAreRead: most clients look for the answer only when they have sent everything.
func TestRefusedBodiesAreRead(t *testing.T) {
	w := newWorld(t, Options{MaxUpload: 1000})
	for _, path := range []string{"PUT files/../content", "PATCH files/../content",
		"PUT files/a/content", "PATCH files/a/content", "PUT archive", "POST files"} {
		method, rest, _ := strings.Cut(path, " ")
		body := strings.NewReader(strings.Repeat("x", 3<<20))
		c := &call{w: httptest.NewRecorder(), query: arm.Query{Raw: "offset=0&identifier=abcd"},
			r: httptest.NewRequestWithContext(t.Context(), method, "/", body)}
		route, err := w.gateway.find(c, strings.Split(rest, "/"))
		if err != nil {
			t.Fatal(err)
		}
		if err := route.serve(w.gateway, c); err == nil || body.Len() > 0 {
			t.Errorf("%s: %v, and %d bytes are left", path, err, body.Len())
		}
	}
}

// TestHeadOfAnArchive: who asks what an archive would be waits for none of it.
func TestHeadOfAnArchive(t *testing.T) {
	w := newWorldOf(t, Options{}, nil)
	w.served(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, "the beginning")
		_ = http.NewResponseController(rw).Flush()
		<-r.Context().Done()
	})
	for query, name := range map[string]string{"path=a/out&format=zip": "out.zip", "": "data.tar"} {
		got := w.do("HEAD", "archive?identifier=abcd&"+query, "")
		if as := got.header.Get("Content-Disposition"); got.status != http.StatusOK ||
			as != "attachment; filename="+name {
			t.Errorf("%q: %d %v", query, got.status, got.header)
		}
	}
}
