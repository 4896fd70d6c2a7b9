package metrics_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/metrics"
)

// The examples of scaling ask for metrics that a server has, or that one of them makes.
func TestScalingExamples(t *testing.T) {
	m, err := metrics.New(slog.New(slog.DiscardHandler), "v1",
		func(context.Context) ([]metrics.Pool, error) {
			return []metrics.Pool{{ID: sandpool.PoolID{Name: "python"}, Max: 20,
				Claims: map[sandpool.ClaimOutcome]int64{sandpool.ClaimReady: 1}}}, nil
		})
	if err != nil {
		t.Fatal(err)
	}
	m.Requests(metrics.Data, http.NotFoundHandler()).ServeHTTP(
		httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/x", nil))
	has := scrape(t, m, "text/plain")
	files, err := filepath.Glob("../../deploy/scaling/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	var asked []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, made := range regexp.MustCompile(`\bas: (\w+)`).FindAllStringSubmatch(string(text),
			-1) {
			has += "\n" + made[1] + " 1"
		}
		asked = append(asked, regexp.MustCompile(`\bsandpool_\w+`).FindAllString(string(text),
			-1)...)
	}
	for _, name := range asked {
		if !strings.Contains(has, "\n"+name+"{") && !strings.Contains(has, "\n"+name+" ") {
			t.Errorf("no server has %s:\n%s", name, has)
		}
	}
}
