package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// obey says which stop signal comes, and ends, unless it is to be deaf.
func obey(how string) {
	if how == "" {
		return
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGUSR1)
	names := map[os.Signal]string{syscall.SIGTERM: "SIGTERM", syscall.SIGUSR1: "SIGUSR1"}
	go func() {
		for s := range signals {
			if how != "deaf" {
				fmt.Fprintln(os.Stdin, names[s])
				os.Exit(0)
			}
		}
	}()
}

// capabilities are the names of those of the tests, by their numbers (capabilities(7)).
var capabilities = map[int]string{0: "CAP_CHOWN", 1: "CAP_DAC_OVERRIDE", 3: "CAP_FOWNER",
	5: "CAP_KILL", 6: "CAP_SETGID",
	7: "CAP_SETUID"}

// self says what this process is, as sandboxtest.Self.
func self(w http.ResponseWriter, _ *http.Request) {
	groups, _ := os.Getgroups()
	slices.Sort(groups)
	dir, _ := os.Getwd()
	host, _ := os.Hostname()
	text := func(path string) string {
		data, _ := os.ReadFile(path)
		return string(data)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"UID": os.Getuid(), "GID": os.Getgid(), "Groups": groups, "Env": os.Environ(), "Dir": dir,
		"Effective": caps("CapEff:"), "Bounding": caps("CapBnd:"), "Hostname": host,
		"Hosts": text("/etc/hosts"), "HostnameFile": text("/etc/hostname"),
		"Resolv": text("/etc/resolv.conf"),
	})
}

func caps(field string) (names []string) {
	data, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(data)) {
		value, ok := strings.CutPrefix(line, field)
		if !ok {
			continue
		}
		set, _ := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		for n := range 64 {
			if set&(1<<n) == 0 {
				continue
			}
			name := capabilities[n]
			if name == "" {
				name = strconv.Itoa(n)
			}
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// say writes to the standard output or error.
func say(_ http.ResponseWriter, r *http.Request) {
	w := os.Stdout
	if r.FormValue("err") == "true" {
		w = os.Stderr
	}
	fmt.Fprintln(w, r.FormValue("text"))
}
