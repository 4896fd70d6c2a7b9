package guest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/internal/agent"
)

// raw sends a request without the client and returns status and body; status 0 stands
// for no answer.
func (s *sandbox) raw(t testing.TB, method, path, token, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.addr+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestCell(t *testing.T) {
	s := start(t)
	res := s.run(t, "print('hi')\n1 + 1")
	if res.Outcome != agent.OK || res.Stdout != "hi\n" || !res.HasValue || res.Text != "2" {
		t.Errorf("result %+v", res)
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	s := start(b)
	for b.Loop() {
		if res := s.run(b, "1+1"); res.Text != "2" {
			b.Fatalf("result %+v", res)
		}
	}
}
