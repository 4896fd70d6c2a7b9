package guest_test

import (
	"os"
	"strconv"
	"testing"
)

// TestFresh: a session begins as an interpreter that was just started, but for what is on a list.
func TestFresh(t *testing.T) {
	source, err := os.ReadFile("testdata/fresh.py")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(agentWarm, "all")
	s := start(t)
	code := string(source) + "\nsource = " + strconv.Quote(string(source)) + "\ndifferences(source)"
	if res := s.run(t, code); res.Error != nil || res.Stdout != "" || res.Stderr != "" {
		t.Errorf("differences:\n%s\n%s\nerror %+v", res.Stdout, res.Stderr, res.Error)
	}
}
