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
	"github.com/sandpool/sandpool/test/bench/languages"
)

func main() {
	gvisor.HandOver()
	var o bench.Options
	flag.IntVar(&o.N, "n", 100, "new sessions measured one by one")
	flag.IntVar(&o.Burst, "burst", 100, "new sessions at once")
	flag.DurationVar(&o.Idle, "idle", 10*time.Second, "time to watch idle sandboxes for")
	var l languages.Options
	only := flag.Bool("languages", false, "measure the languages alone")
	tolls := flag.Int("toll-n", 1000, "turns in which callers with several credentials ask")
	onlyToll := flag.Bool("toll", false, "measure alone what callers pay for credentials, limits "+
		"and usage")
	turns := flag.Int("extra-n", 1000, "round trips with and without traces and history")
	onlyExtras := flag.Bool("extras", false, "measure alone what traces and history cost")
	onlyCrowd := flag.Bool("crowd", false, "measure alone what a session notices of a machine "+
		"that others fill")
	flag.IntVar(&l.N, "language-n", 20, "samples of what is short, for each language")
	flag.IntVar(&l.Large, "language-large", 3, "samples of what is large, for each language")
	flag.IntVar(&l.Megabytes, "megabytes", 100, "how much is printed, uploaded and downloaded")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	one := *onlyToll || *onlyExtras || *onlyCrowd
	err := run(ctx, o, l, *tolls, *turns, parts{all: !*only && !one, languages: !one,
		toll: !*only && (!one || *onlyToll), extras: !*only && (!one || *onlyExtras),
		crowd: !*only && (!one || *onlyCrowd)})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// parts are what is measured.
type parts struct{ all, languages, toll, extras, crowd bool }

func run(ctx context.Context, o bench.Options, l languages.Options, tolls, turns int,
	which parts) (err error) {
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
	bin, err := build(ctx, dir)
	if err != nil {
		return err
	}
	images := filepath.Join(data, "images")
	o.Progress = storyTeller()
	l.Progress = o.Progress
	report := bench.Report{Machine: bench.ThisMachine(),
		Started: time.Now().UTC().Format(time.RFC3339)}
	others := []bench.Measure(nil)
	if which.toll { // before the server of the others is there
		rows, err := toll(ctx, bin, dir, images, tolls, o.Progress)
		if err != nil {
			return err
		}
		report.Measures = append(report.Measures, rows...)
		if rows, err = neighbour(ctx, bin, dir, images, tolls/2, o.Progress); err != nil {
			return err
		}
		report.Measures = append(report.Measures, rows...)
	}
	if which.extras {
		o.Progress("extras", "traces and history")
		rows, err := extras(ctx, bin, dir, images, turns)
		if err != nil {
			return err
		}
		report.Measures = append(report.Measures, rows...)
	}
	if which.crowd {
		rows, notes, err := crowd(ctx, bin, dir, images, o.Progress)
		if err != nil {
			return err
		}
		report.Measures = append(report.Measures, rows...)
		report.Notes = append(report.Notes, notes...)
	}
	if which.all || which.languages {
		srv, err := startServer(ctx, bin, dir, images)
		if err != nil {
			return err
		}
		defer func() { err = first(err, srv.stop()) }()
		if which.all {
			rows, notes := report.Measures, report.Notes
			if report, others, err = withPeers(ctx, srv, dir, images, o); err != nil {
				return err
			}
			report.Measures = append(report.Measures, rows...)
			report.Notes = append(report.Notes, notes...)
		}
		rows, err := languages.Run(ctx, srv.client, dir, l)
		if err != nil {
			return err
		}
		report.Measures = append(report.Measures, rows...)
	}
	return writeReport(os.Stdout, report, others)
}

// withPeers measures sandpool and its peers by turns.
func withPeers(ctx context.Context, srv *program, dir, images string, o bench.Options) (
	_ bench.Report, _ []bench.Measure, err error) {
	peers, err := newPeers(ctx, dir, images)
	if err != nil {
		return bench.Report{}, nil, err
	}
	defer func() { err = first(err, peers.close()) }()
	o.Between = peers.between
	report, err := bench.Run(ctx, srv.client, o)
	return report, peers.measures(), err
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
