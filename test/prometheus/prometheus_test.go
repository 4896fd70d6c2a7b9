// Package prometheus_test has Prometheus itself scrape a server, evaluate the alerts of deploy/,
// and read the dashboard's queries.
package prometheus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/server"
	"github.com/sandpool/sandpool/test/real"
)

const deploy = "../../deploy/"

// patience only ends a hang.
const patience = 2 * time.Minute

// TestMain lets the engine start this program again for its sandboxes.
func TestMain(m *testing.M) {
	server.HandOver()
	os.Exit(m.Run())
}

// program returns the path of a program of the distribution.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		need.Lack(t, "needs %s, from the package prometheus", name)
	}
	return path
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), program(t, "promtool"),
		args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestRules: the alerts are rules, each fires when it should and only then, and each has a runbook.
func TestRules(t *testing.T) {
	promtool(t, "check", "rules", deploy+"prometheus/alerts.yaml")
	promtool(t, "test", "rules", deploy+"prometheus/alerts_test.yaml")
	rules, err := os.ReadFile(deploy + "prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(deploy + "prometheus/alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(rules), -1) {
		for _, what := range []string{" fires", " is silent"} {
			if !strings.Contains(string(tests), m[1]+what) {
				t.Errorf("no test says when %s%s", m[1], what)
			}
		}
	}
	runbooks, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(runbooks),
		-1) {
		known = append(known, strings.ReplaceAll(strings.ToLower(m[1]), " ", "-"))
	}
	for _, m := range regexp.MustCompile(`runbook: docs/operations.md#(\S+)`).FindAllStringSubmatch(
		string(rules), -1) {
		if !slices.Contains(known, m[1]) {
			t.Errorf("there is no runbook %q", m[1])
		}
	}
}

// queries are those of the dashboard, with what Grafana puts into them.
func queries(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile(deploy + "grafana/sandpool.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("$__rate_interval", "1m", "$pool", ".*")
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.Title == "" || len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d, %q: its id is not its own, or it has no title, query or room", p.ID,
				p.Title)
		}
		ids[p.ID] = true
		for _, q := range p.Targets {
			all = append(all, fill.Replace(q.Expr))
		}
	}
	return all
}

// TestDashboardQueries: each is one that Prometheus understands.
func TestDashboardQueries(t *testing.T) {
	var rules strings.Builder
	rules.WriteString("groups: [{name: all, rules: [\n")
	for i, q := range queries(t) {
		fmt.Fprintf(&rules, "{record: 'q%d', expr: %q},\n", i, q)
	}
	rules.WriteString("]}]\n")
	file := filepath.Join(t.TempDir(), "queries.yaml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}

// prom is a Prometheus that scrapes every second.
type prom struct {
	*testing.T
	url string
}

// newProm starts one that scrapes target with a token, and evaluates the alerts as they are, but
// with seconds in place of the minutes that they wait.
func newProm(t *testing.T, target, token string) *prom {
	t.Helper()
	path, dir := program(t, "prometheus"), t.TempDir()
	rules, err := os.ReadFile(deploy + "prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	hasty := regexp.MustCompile(`for: [1-9]\d*m`).ReplaceAll(rules, []byte("for: 2s"))
	config := fmt.Sprintf(`global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [alerts.yaml]
scrape_configs:
  - job_name: sandpool
    authorization: {credentials_file: token}
    static_configs: [{targets: [%q]}]
`, target)
	for name, text := range map[string]string{"alerts.yaml": string(hasty), "token": token,
		"prometheus.yml": config} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	free, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	_ = free.Close()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), path, "--config.file="+
		filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr, "--log.level=warn")
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait() // it was told to end
		if t.Failed() {
			t.Logf("Prometheus said:\n%s", log.String())
		}
	})
	return &prom{t, "http://" + addr}
}

// get reads an answer of the API into out.
func (p *prom) get(path string, out any) error {
	ctx, cancel := context.WithTimeout(p.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	return json.NewDecoder(res.Body).Decode(out)
}

// count is how many series a query has.
func (p *prom) count(query string) int {
	var out struct {
		Data struct{ Result []any }
	}
	if err := p.get("/api/v1/query?query="+url.QueryEscape(query), &out); err != nil {
		return 0
	}
	return len(out.Data.Result)
}

// firing are the names of the alerts that fire.
func (p *prom) firing() (names []string) {
	var out struct {
		Data struct {
			Alerts []struct {
				State  string
				Labels map[string]string
			}
		}
	}
	if err := p.get("/api/v1/alerts", &out); err != nil {
		return nil
	}
	for _, a := range out.Data.Alerts {
		if a.State == "firing" {
			names = append(names, a.Labels["alertname"])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// await waits until is says so.
func (p *prom) await(what string, is func() bool) {
	p.Helper()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(end) {
			p.Fatalf("%s: not in %s; alerts %v", what, patience, p.firing())
		}
	}
}

// TestScrape: Prometheus reads what a server says; the alerts are silent while it does well, and
// those of each fault fire alone.
func TestScrape(t *testing.T) {
	srv := real.Start(t)
	c := srv.Client
	token, err := c.CreateToken(t.Context(), api.TokenRequest{Name: "prometheus",
		Role: "monitoring-reader"})
	if err != nil {
		t.Fatal(err)
	}
	one, port := 1, 80
	if _, err := c.PutPool(t.Context(), "python", api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{ContainerType: "PythonLTS",
			ScaleConfiguration: &api.ScaleConfiguration{
				ReadySessionInstances: &one}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WaitReady(t.Context(), "python", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Execute(t.Context(), "python", "abcd", client.Run{Code: "6 * 7"}); err != nil {
		t.Fatal(err)
	}
	p := newProm(t, strings.TrimPrefix(srv.URL(), "http://"), token.Text)
	p.await("the server is scraped", func() bool { return p.count("up == 1") == 1 })
	p.await("the execution is counted",
		func() bool { return p.count("sandpool_first_answer_seconds_count == 1") == 1 })
	names := map[string]bool{}
	for _, q := range queries(t) {
		for _, name := range regexp.MustCompile(`\b(sandpool|process)_\w+`).FindAllString(q, -1) {
			names[name] = true
		}
	}
	for name := range names {
		if name != "sandpool_events_total" && p.count(name) == 0 {
			t.Errorf("the dashboard asks for %s, which the server does not say", name)
		}
	}
	p.await("five evaluations", func() bool {
		return p.count(`count_over_time(up{job="sandpool"}[1m]) > 5`) == 1
	})
	if got := p.firing(); len(got) != 0 {
		t.Errorf("of a server that does well there are alerts: %v", got)
	}

	if _, err := c.BeginPutPool(t.Context(), "lost", api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{ContainerType: "CustomContainer",
			CustomContainerTemplate: &api.CustomContainerTemplate{
				Ingress: &api.Ingress{TargetPort: &port}, Containers: []api.Container{
					{Name: "main", Image: "127.0.0.1:1/nothing:1"}}}}}); err != nil {
		t.Fatal(err)
	}
	p.await("the alert of a pool that cannot start",
		func() bool { return slices.Equal(p.firing(), []string{"SandpoolPoolFailed"}) })
	if _, err := c.DeletePool(t.Context(), "lost"); err != nil {
		t.Fatal(err)
	}
	p.await("it ends with the pool", func() bool { return len(p.firing()) == 0 })
	srv.Stop()
	p.await("the alert of a server that is down",
		func() bool { return slices.Equal(p.firing(), []string{"SandpoolDown"}) })
}
