// Package sheet writes answers of the API as comma-separated values, for spreadsheets.
package sheet

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool/api"
)

// usedColumns are the names of the numbers in a CSV file.
func usedColumns() []string {
	return []string{"session_seconds", "cpu_seconds", "memory_byte_seconds", "disk_byte_seconds",
		"egress_bytes", "executions"}
}

func usedCells(u api.Used) []string {
	seconds := func(f float64) string { return strconv.FormatFloat(f, 'f', 3, 64) }
	whole := func(n int64) string { return strconv.FormatInt(n, 10) }
	return []string{seconds(u.SessionSeconds), seconds(u.CPUSeconds), whole(u.MemoryByteSeconds),
		whole(u.DiskByteSeconds), whole(u.EgressBytes), whole(u.Executions)}
}

// UsageTotals writes totals as comma-separated values, with a heading.
func UsageTotals(w io.Writer, t api.UsageTotals) error {
	out := csv.NewWriter(w)
	_ = out.Write(append([]string{"time", "pool", "principal", "identifier_hash", "sessions"},
		usedColumns()...)) // Flush tells of its error
	for _, v := range t.Value {
		at := ""
		if v.Time != nil {
			at = v.Time.UTC().Format(time.RFC3339)
		}
		_ = out.Write(append([]string{at, Cell(v.Pool), Cell(v.Principal), v.IdentifierHash,
			strconv.FormatInt(v.Sessions, 10)}, usedCells(v.Used)...))
	}
	out.Flush()
	return out.Error()
}

// UsageRecords returns what writes records as comma-separated values, and what ends the file.
func UsageRecords(w io.Writer) (each func(api.UsageRecord) error, end func() error) {
	out := csv.NewWriter(w)
	_ = out.Write(append([]string{"number", "pool", "sandbox", "identifier_hash", "principal",
		"began", "until", "running"}, usedColumns()...)) // end tells of its error
	each = func(r api.UsageRecord) error {
		return out.Write(append([]string{strconv.FormatInt(r.Number, 10), Cell(r.Pool), r.Sandbox,
			r.IdentifierHash, Cell(r.Principal), r.Began.UTC().Format(time.RFC3339Nano),
			r.Until.UTC().Format(time.RFC3339Nano), strconv.FormatBool(r.Running)},
			usedCells(r.Used)...))
	}
	return each, func() error {
		out.Flush()
		return out.Error()
	}
}

// Cell keeps spreadsheets from taking text that others have chosen for a formula.
func Cell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}
