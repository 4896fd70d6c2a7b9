// Command bench measures sandpool and, in the same run and between its samples, what
// people would use instead: a plain Python process without any isolation, and a
// gVisor sandbox that boots from nothing for every call. It prints a Markdown table
// and the same as JSON.
//
// It runs the real program, serving from a data directory of its own with the images of
// SANDPOOL_TEST_DATA, and leaves nothing behind.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sandpool/sandpool/internal/bench"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor"
)

func main() {
	gvisor.HandOver()
	var o bench.Options
	flag.IntVar(&o.N, "n", 100, "new sessions measured one by one")
	flag.IntVar(&o.Burst, "burst", 100, "new sessions at once")
	flag.DurationVar(&o.Idle, "idle", 10*time.Second, "time to watch idle sandboxes for")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o bench.Options) (err error) {
	data := os.Getenv("SANDPOOL_TEST_DATA")
	if data == "" {
		return fmt.Errorf(
			"SANDPOOL_TEST_DATA names no directory with the Python image; run make bench")
	}
	dir, err := os.MkdirTemp("", "sandpool-bench-")
	if err != nil {
		return err
	}
	defer func() { err = first(err, os.RemoveAll(dir)) }()
	images := filepath.Join(data, "images")
	peers, err := newPeers(ctx, dir, images)
	if err != nil {
		return err
	}
	defer func() { err = first(err, peers.close()) }()
	srv, err := startServer(ctx, dir, images)
	if err != nil {
		return err
	}
	defer func() { err = first(err, srv.stop()) }()

	o.Between = peers.between
	o.Progress = storyTeller()
	report, err := bench.Run(ctx, srv.client, o)
	if err != nil {
		return err
	}
	return writeReport(os.Stdout, report, peers.measures())
}

// storyTeller tells on stderr what is under way: each step once.
func storyTeller() func(step, detail string) {
	begin, last := time.Now(), ""
	return func(step, detail string) {
		if step != last {
			last = step
			fmt.Fprintf(os.Stderr, "%6s  %s %s\n", time.Since(begin).Round(time.Second), step,
				detail)
		}
	}
}

// first returns the error that happened first.
func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
