package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

type versionCmd struct{}

// versionInfo is the result of the version command.
type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func buildInfo() versionInfo {
	v := versionInfo{Version: sandpool.Version, Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value
		}
	}
	return v
}

// Run prints the version.
func (versionCmd) Run(a *console.App) error {
	v := buildInfo()
	if a.JSON() {
		return a.PrintJSON(v)
	}
	_, err := fmt.Fprintf(a.Stdout, "sandpool %s (%s, %s)\n", v.Version, v.Go, v.Platform)
	return err
}
