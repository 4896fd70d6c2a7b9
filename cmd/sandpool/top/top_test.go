package top

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sandpool/sandpool/api"
)

// TestWrite: a look fits the terminal, and has what matters on a small one too.
func TestWrite(t *testing.T) {
	memory, cpu, took := int64(123<<20), 12.3, 0.00123
	v := view{}
	for _, name := range []string{"python", "a-pool-with-a-long-name"} {
		v.Pools = append(v.Pools, line{Name: name, ClaimsPerMinute: 12, ClaimP99: &took,
			AnswerP99: &took, Status: api.PoolStatus{ProvisioningState: "Succeeded", MaxSessions: 20,
				Claimed: 9, Ready: 3, ReadySessions: 3, Starting: 1}})
	}
	for i := range 30 {
		v.Rows = append(v.Rows, row{Pool: "python", Session: fmt.Sprintf("%02d", i) +
			strings.Repeat("x", 100), Sandbox: "0f8fad5b-d9cb-469f-a165-70867728950e", State: "claimed",
			CreatedAt:  time.Now().Add(-time.Hour).Format(time.RFC3339),
			LastUsedAt: time.Now().Format(time.RFC3339), Memory: &memory, CPUSeconds: &cpu})
	}
	for _, size := range [][2]int{{80, 24}, {100, 30}, {140, 40}} {
		var out bytes.Buffer
		if err := v.write(&out, size[0], size[1]); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		for _, text := range lines {
			if n := utf8.RuneCountInString(strings.TrimRight(text, " ")); n > size[0] {
				t.Errorf("%d columns of %d: %s", n, size[0], text)
			}
		}
		if len(lines) >= size[1] {
			t.Errorf("%d lines of %d", len(lines), size[1])
		}
		for _, want := range []string{"[#####", "9/20", "CLAIM P99", "1.23ms", "123.0 MiB"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("in %d columns there is no %s:\n%s", size[0], want, out.String())
			}
		}
	}
}
