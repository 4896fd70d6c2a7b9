package main

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
)

// Sandboxes execute this program, so what its packages do before main is a part of every restore.
// The client of the database and that of the cluster do next to nothing then, and the program has
// no other client of a cluster.
func TestInit(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	// What each package did before main, as the Go runtime reports it.
	initialised := regexp.MustCompile(
		`(?m)^init (\S+) @\S+ ms, \S+ ms clock, (\d+) bytes, (\d+) allocs$`)
	optional := regexp.MustCompile(`^(github\.com/jackc/|github\.com/sandpool/sandpool/internal/` +
		`(postgres|peer|sandbox/kube)(/|$))`)
	foreign := regexp.MustCompile(`^(k8s\.io|sigs\.k8s\.io|helm\.sh)/`)
	var packages, bytes, allocs, allBytes int
	for _, m := range initialised.FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		allBytes += n
		if foreign.MatchString(m[1]) {
			t.Errorf("the program has %s", m[1])
		}
		if !optional.MatchString(m[1]) {
			continue
		}
		times, err := strconv.Atoi(m[3])
		if err != nil {
			t.Fatal(err)
		}
		packages, bytes, allocs = packages+1, bytes+n, allocs+times
	}
	t.Logf("%d packages allocate %d bytes in %d pieces, of %d bytes in all", packages, bytes,
		allocs, allBytes)
	if packages == 0 || bytes == 0 {
		t.Fatalf("nothing was found in:\n%s", text)
	}
	if most := 32 << 10; bytes > most || allocs > 400 {
		t.Errorf("the clients of database and cluster allocate %d bytes in %d pieces before main, "+
			"want at most %d in 400", bytes, allocs, most)
	}
}
