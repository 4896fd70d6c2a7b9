// Package need is what tests ask of the machine that they run on. A test that finds less is
// skipped, so that "go test" is of use anywhere; under make test, which sets SANDPOOL_TEST_ALL, it
// fails, because what nobody runs holds nothing. What may be skipped even there has a Reason, and
// there are no others. Nothing else skips a test: internal/archtest sees to that.
package need

import (
	"os"
	"runtime"
	"testing"
)

// all is the variable whose presence says that everything is to run, as make test promises.
const all = "SANDPOOL_TEST_ALL"

// A Reason is why a test does not run even where all of them do.
type Reason string

// The reasons. A new one is a decision: something is then held by no run of make test.
const (
	// OnRequest is for what takes minutes or foreign files, and runs when a variable asks for it.
	OnRequest Reason = "runs on request"
	// Child is for the body of a process that another test starts.
	Child Reason = "runs in the process of another test"
	// OneCore is for what needs a second core, on a machine that has none. No package can add one.
	OneCore Reason = "needs a second core"
	// Processor is for machine code of another processor.
	Processor Reason = "is for another processor"
	// Cgroups is for the other version of cgroups; make test-cgroup2 runs it on version 2.
	Cgroups Reason = "is for the other version of cgroups"
)

// Except skips the test, under make test as well.
func Except(t testing.TB, why Reason, detail string) {
	t.Helper()
	t.Skipf("%s: %s", why, detail)
}

// Lack ends a test whose machine lacks something that make test provides.
func Lack(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv(all) != "" {
		t.Fatalf("nothing may be skipped in this run ("+all+"): "+format, args...)
	}
	t.Skipf(format+"; make test has it", args...)
}

// Root is for what makes namespaces, mounts or cgroups.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Lack(t, "needs root")
	}
}

// Data returns the folder with the images that make test builds, for tests with real sandboxes,
// which need root as well.
func Data(t testing.TB) string {
	t.Helper()
	Root(t)
	dir := os.Getenv("SANDPOOL_TEST_DATA")
	if dir == "" {
		Lack(t, "needs the Python image in SANDPOOL_TEST_DATA")
	}
	return dir
}

// TwoCores is for what watches how work is spread over cores.
func TwoCores(t testing.TB) {
	t.Helper()
	if runtime.NumCPU() < 2 {
		Except(t, OneCore, "this process may use one")
	}
}
