package console

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestProgress(t *testing.T) {
	for _, tt := range []struct {
		terminal bool
		want     string
	}{
		{false, "a  1  (0s)\nb  2  (0s)\nb  4  (6s)\nend  (6s)\n"},
		{true, "\ra  1  (0s)\rb  2  (0s)\rb  4  (6s)\rend  (6s) \n"},
	} {
		var out bytes.Buffer
		now := time.Unix(0, 0)
		p := startProgress(&out, tt.terminal, func() time.Time { return now })
		p.Update("a", "1")
		p.Update("b", "2") // a new step is shown at once
		p.Update("b", "3") // too soon
		now = now.Add(6 * time.Second)
		p.Update("b", "4")
		p.Done("end")
		if got := out.String(); strings.TrimRight(got, " ") != tt.want {
			t.Errorf("terminal %v:\n%q\nwant\n%q", tt.terminal, got, tt.want)
		}
	}
}
