package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"

	"github.com/sandpool/sandpool/internal/bench"
)

// ratio says how many times longer a peer takes than one of our measures, at the median.
type ratio struct {
	Ours  string  `json:"ours"`
	Peer  string  `json:"peer"`
	Times float64 `json:"times"`
}

// output is the JSON document.
type output struct {
	bench.Report
	Peers  []bench.Measure `json:"peers"`
	Ratios []ratio         `json:"ratios"`
}

// writeReport prints a Markdown table, the ratios, and everything as JSON.
func writeReport(w io.Writer, r bench.Report, peers []bench.Measure) error {
	m := r.Machine
	fmt.Fprintf(w, "%s; %d cores of %s, %d MB, Linux %s, %s, load %s before\n\n", r.Started,
		m.Cores, m.CPU, m.MemoryMB, m.Kernel, m.Go, m.Load)
	fmt.Fprintln(w,
		"| what | unit | N | errors | p50 | p90 | p99 | max |\n|---|---|--:|--:|--:|--:|--:|--:|")
	for _, x := range append(append([]bench.Measure{}, r.Measures...), peers...) {
		fmt.Fprintf(w, "| %s | %s | %d | %d | %.2f | %.2f | %.2f | %.2f |\n", x.Name, x.Unit, x.N,
			x.Errors, x.P50, x.P90, x.P99, x.Max)
	}
	out := output{Report: r, Peers: peers, Ratios: ratios(r.Measures, peers)}
	fmt.Fprintln(w, "\n| ours | peer | the peer takes, at the median |\n|---|---|--:|")
	for _, x := range out.Ratios {
		fmt.Fprintf(w, "| %s | %s | %.1f times as long |\n", x.Ours, x.Peer, x.Times)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "\nNote: %s.", n)
	}
	for _, f := range r.Failures {
		fmt.Fprintf(w, "\nFailed: %s", f)
	}
	fmt.Fprint(w, "\n\n```json\n")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(out); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "```")
	return err
}

// ratios compares what answers the same question: how long until new code has its answer.
func ratios(ours, peers []bench.Measure) []ratio {
	list := []ratio{}
	for _, o := range ours {
		if o.Name != bench.NewSession && o.Name != bench.RoundTrip && o.Name != bench.ColdClaim {
			continue
		}
		for _, p := range peers {
			if o.P50 > 0 && p.P50 > 0 {
				list = append(list, ratio{o.Name, p.Name, math.Round(10*p.P50/o.P50) / 10})
			}
		}
	}
	return list
}
