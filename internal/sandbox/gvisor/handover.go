package gvisor

import (
	"os"
	"path/filepath"
	"strings"

	"gvisor.dev/gvisor/runsc/cli/maincli"
)

// sentryName is the name under which sandbox processes run (argv[0]).
const sentryName = "runsc-sandbox"

// HandOver turns the process into gVisor's kernel if it was started to be
// that, and then does not return. Otherwise it does nothing. main, and TestMain of every test that
// uses the engine, call it before anything else: what runs before it runs
// again in every sandbox process.
func HandOver() {
	if isSentry(os.Args) {
		maincli.Main()
		os.Exit(128) // Main exits by itself; 128 is its own code for a failure
	}
}

// isSentry reports whether gVisor started the process for itself: as the
// kernel of a sandbox, or as the short helper that unmounts /proc beneath it.
func isSentry(args []string) bool {
	if len(args) == 0 {
		return false
	}
	if strings.HasPrefix(filepath.Base(args[0]), "runsc") {
		return true
	}
	return len(args) > 1 && args[0] == "/proc/self/exe" && args[1] == "umount"
}
