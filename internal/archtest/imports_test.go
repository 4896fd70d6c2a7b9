package archtest

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// mayImport says which packages of the module the shipped files of a folder may
// import; "." is the root package. A folder without an entry takes that of the nearest
// folder above, and a package may import what lies beneath itself.
func mayImport() map[string][]string {
	vocabulary := []string{"."}
	contract := slices.Clip([]string{".", "internal/sandbox"})
	// Handlers know the words of the contract (statistics, why a sandbox ended), never an engine.
	handlers := slices.Clip(append(contract, "api", "internal/arm", "internal/auth",
		"internal/agent", "internal/event", "internal/tracing", "internal/pool", "internal/interpreter",
		"internal/budget", "internal/fault", "internal/history/executions"))
	return map[string][]string{
		"internal/agent/guest/executions": {".", "internal/agent", "internal/agent/guest/output"},

		// The bridge to kernels of Jupyter, and the protocol that they speak.
		"internal/agent/jupyter":      {".", "internal/agent", "internal/agent/kernels"},
		"internal/agent/jupyter/zmtp": nil,

		"internal/agent/guest/background": {".", "internal/agent", "internal/agent/guest/process"},
		"internal/agent/guest/terminal":   {".", "internal/agent", "internal/agent/guest/process"},
		"internal/agent/guest/watch":      {".", "internal/agent"},

		"internal/agent/guest/store": {".", "internal/agent", "internal/agent/guest/tree"},
		"internal/agent/guest/tree":  nil,

		".":            nil,
		"api":          vocabulary,
		"images":       nil,
		"client":       {".", "api", "internal/arm", "internal/fault"},
		"client/sheet": {"api"},
		// main.go alone knows every group of commands; the groups know the console, and each
		// what it is about.
		"cmd/sandpool":         {".", "internal/server"},
		"cmd/sandpool/console": {".", "client"},
		"cmd/sandpool/config":  {"cmd/sandpool/console", "internal/server"},
		"cmd/sandpool/bench":   {"cmd/sandpool/console", "internal/bench"},
		"cmd/sandpool/exec":    {".", "api", "client", "cmd/sandpool/console"},
		"cmd/sandpool/files":   {"api", "client", "cmd/sandpool/console"},
		"cmd/sandpool/image": {".", "cmd/sandpool/config", "cmd/sandpool/console", "internal/image",
			"internal/oci"},
		"cmd/sandpool/mcp":     {"cmd/sandpool/console"},
		"cmd/sandpool/pool":    {"api", "client", "cmd/sandpool/console"},
		"cmd/sandpool/session": {".", "api", "client", "cmd/sandpool/console"},
		"cmd/sandpool/audit": {"api", "client", "cmd/sandpool/console",
			"internal/audit"},
		"cmd/sandpool/usage":    {"api", "client", "client/sheet", "cmd/sandpool/console"},
		"cmd/sandpool/events":   {"api", "client", "cmd/sandpool/console"},
		"cmd/sandpool/token":    {"api", "client", "cmd/sandpool/console"},
		"cmd/sandpool/identity": {".", "api", "cmd/sandpool/console", "cmd/sandpool/token"},
		"cmd/sandpool/role":     {".", "api", "client", "cmd/sandpool/console"},
		"cmd/sandpool/trust":    {"cmd/sandpool/console"},
		"cmd/sandpool/azure":    {".", "api", "client", "cmd/sandpool/console"},
		"cmd/sandpool/local": {"client", "cmd/sandpool/config", "cmd/sandpool/console",
			"internal/backup", "internal/keyring", "internal/local", "internal/server", "internal/server/vault"},
		"cmd/sandpool/top": {"api", "client", "cmd/sandpool/console"},
		"cmd/sandpool/serve": {".", "api", "client", "cmd/sandpool/config",
			"cmd/sandpool/console", "cmd/sandpool/exec", "cmd/sandpool/image",
			"internal/logging", "internal/loopback", "internal/server"},
		"cmd/sandpool-agent": {".", "internal/agent", "internal/agent/guest",
			"internal/agent/jupyter", "internal/agent/kernels"},
		"internal/archtest":      nil,
		"internal/arm":           {".", "api", "internal/fault", "internal/reply"},
		"internal/reply":         nil,
		"internal/fault":         vocabulary,
		"internal/budget":        nil,
		"internal/auth":          vocabulary,
		"internal/bench":         {".", "api", "client"},
		"internal/agent":         {".", "api", "internal/fault"},
		"internal/agent/kernels": nil,
		"internal/agent/guest": {".", "internal/agent", "internal/agent/jupyter",
			"internal/agent/kernels", "internal/quiet"},
		"internal/interpreter": append(contract, "internal/agent", "internal/budget"),
		"internal/endpoint": {".", "internal/arm", "internal/auth", "internal/proxy",
			"internal/tracing"},
		"internal/quiet":         nil,
		"internal/event":         vocabulary,
		"internal/systemd":       nil,
		"internal/logging":       nil,
		"internal/tracing":       {".", "internal/otlp", "internal/reply"},
		"internal/otlp/otlptest": nil,
		"internal/otlp":          nil,
		"internal/event/export":  {"internal/event", "internal/otlp"},
		"internal/local":         {"internal/logging"},
		"internal/backup":        {".", "internal/sqlite"},
		"internal/metrics": {".", "internal/event", "internal/otlp", "internal/reply",
			"internal/tracing"},
		"internal/history/executions": {".", "api", "internal/agent", "internal/auth",
			"internal/tracing"},
		"internal/history": append(contract, "api", "internal/event", "internal/pool"),
		"internal/web": {".", "api", "client", "client/sheet", "internal/fault",
			"internal/loopback"},
		"internal/audit": {".", "api", "internal/arm", "internal/auth"},
		"internal/usage": append(contract, "api", "internal/arm", "internal/auth",
			"internal/event", "internal/pool/meter", "internal/store"),
		"internal/limit":    vocabulary,
		"internal/issuer":   {".", "api", "internal/arm", "internal/auth", "internal/store"},
		"internal/oidc":     {".", "internal/auth", "internal/loopback"},
		"internal/identity": append(contract, "internal/arm", "internal/audit", "internal/auth"),
		// The description is a file; what writes it and what holds handlers to it are for tests.
		"internal/openapi":             nil,
		"internal/openapi/describe":    {"api"},
		"internal/openapi/openapitest": {"internal/arm", "internal/openapi", "internal/template"},
		"internal/pool":                append(contract, "internal/event", "internal/store"),
		"internal/pool/plan":           {".", "internal/pool/room"},
		"internal/pool/ahead":          vocabulary,
		"internal/pool/lease":          {"internal/store"},
		"internal/pool/meter":          contract,
		"internal/pool/room":           nil,
		"internal/pool/quota":          vocabulary,
		"internal/pool/refusal":        {"."},
		"internal/pool/share":          contract,
		"internal/machine":             {"internal/pool/room"},
		"internal/proxy":               append(vocabulary, "internal/quiet"),
		"internal/store":               vocabulary,
		"internal/store/storetest":     append(vocabulary, "internal/store"),
		"internal/sandbox":             vocabulary,
		"internal/sandbox/passwd":      vocabulary,
		"internal/sandbox/probe":       vocabulary,
		"internal/sandbox/turn":        nil,
		"internal/sandbox/sandboxtest": append(contract, "internal/sandbox/passwd",
			"internal/need"),
		"internal/sandbox/gvisor": append(contract, "internal/egress", "internal/egress/front",
			"internal/quiet",
			"internal/sandbox/passwd", "internal/sandbox/probe", "internal/sandbox/turn"),
		"internal/sandbox/kube": append(contract, "internal/sandbox/passwd",
			"internal/sandbox/probe", "internal/sandbox/turn"),
		"internal/sandbox/kube/rest":  nil,
		"internal/sandbox/kube/place": vocabulary,
		"internal/sandbox/kube/pull":  {"internal/sandbox/kube/rest"},
		"internal/sandbox/kube/kubetest": append(contract, "internal/sandbox/kube/rest",
			"internal/sandbox/sandboxtest"),
		"internal/sqlite":       {".", "internal/store", "internal/store/burst"},
		"internal/postgres":     {".", "internal/store", "internal/store/burst"},
		"internal/store/burst":  nil,
		"internal/keyring":      vocabulary,
		"internal/template":     vocabulary,
		"internal/authority":    {"internal/descriptor", "internal/signer"},
		"internal/signer":       nil,
		"internal/egress":       vocabulary,
		"internal/egress/front": {".", "internal/egress"},
		"internal/egress/ca":    {"internal/signer"},
		"internal/erofs":        nil,
		"internal/deployment": {".", "api", "internal/arm", "internal/auth", "internal/store",
			"internal/template"},
		"internal/image":                 append(contract, "images", "internal/erofs"),
		"internal/oci":                   {".", "internal/erofs", "internal/image", "internal/loopback"},
		"internal/oci/pack":              nil,
		"internal/oci/pack/sandpool-oci": {".", "internal/oci/pack"},
		"internal/oci/ocitest":           {"internal/image", "internal/need"},
		"internal/oci/layer":             {".", "internal/erofs"},
		"internal/container": append(contract, "internal/image", "internal/oci",
			"internal/pool", "internal/sandbox/probe"),
		"internal/control": append(handlers, "internal/audit", "internal/egress",
			"internal/store"),
		"internal/control/precondition": vocabulary,
		"internal/control/history":      {".", "api"},
		"internal/control/managed":      {".", "api"},
		"internal/control/ready":        {".", "api"},
		"internal/control/crowd":        {".", "api"},
		"internal/control/tree": append(handlers, "internal/audit", "internal/control/precondition",
			"internal/store"),
		"internal/control/network": {".", "api", "internal/egress"},
		"internal/server/timed": append(contract, "internal/sandbox/gvisor",
			"internal/sandbox/kube", "internal/store"),
		"internal/server/engine": append(contract, "internal/agent", "internal/oci",
			"internal/sandbox/gvisor", "internal/sandbox/kube", "internal/sandbox/kube/place",
			"internal/sandbox/kube/rest", "internal/server/timed"),
		"internal/server/vault": {".", "internal/auth", "internal/backup", "internal/keyring",
			"internal/postgres", "internal/sqlite", "internal/store"},
		"internal/server/entry":    {"internal/loopback", "internal/oidc", "internal/web"},
		"internal/server/settings": nil,
		"internal/server/datadir":  contract,
		"internal/server/network": {"internal/control/network", "internal/egress",
			"internal/egress/ca", "internal/egress/front",
			"internal/sandbox/gvisor"},
		"internal/gateway":          handlers,
		"internal/gateway/body":     {".", "internal/budget", "internal/gateway/wire"},
		"internal/gateway/filename": {"internal/arm"},
		"internal/gateway/live":     {"api"},
		"internal/gateway/request": {".", "api", "internal/agent", "internal/arm",
			"internal/gateway/wire"},
		"internal/gateway/wire": {".", "api", "internal/agent"},
		"internal/mcp":          append(handlers, "internal/gateway/wire"),
		"internal/mcp/access":   {".", "internal/auth", "internal/loopback"},
		"internal/mcp/rpc":      nil,
		"internal/peer": {".", "internal/arm", "internal/pool", "internal/pool/lease",
			"internal/signer", "internal/store"},
		"internal/server": append(handlers, "internal/authority", "internal/deployment",
			"internal/peer", "internal/audit", "internal/identity", "internal/issuer", "internal/limit", "internal/oidc",
			"internal/openapi",
			"images", "internal/container",
			"internal/control", "internal/gateway", "internal/mcp", "internal/mcp/access",
			"internal/endpoint", "internal/proxy", "internal/systemd", "internal/metrics", "internal/otlp",
			"internal/event/export", "internal/history", "internal/history/executions",
			"internal/local", "internal/logging", "internal/control/network", "internal/control/tree",
			"internal/web",
			"internal/sandbox/gvisor", "internal/keyring", "internal/store",
			"internal/image", "internal/erofs", "internal/oci", "internal/oci/layer",
			"internal/quiet",
			"internal/descriptor", "internal/machine", "internal/pool/meter",
			"internal/pool/room", "internal/pool/share", "internal/usage"),
		// A server for others' tests: everything but the engine, which would need Linux and root.
		"sandpooltest": append(handlers, "client", "internal/control", "internal/endpoint",
			"internal/gateway", "internal/proxy", "internal/sandbox/sandboxtest",
			"internal/sqlite"),
		"test": {".", "api", "client", "internal/arm"},
		// Measures the engine beside the whole product.
		"test/kube/clustertest": {"internal/need"},
		"test/real":             {"client", "internal/need", "internal/server"},
		"test/bench": {".", "api", "client", "internal/bench", "internal/image",
			"internal/sandbox", "internal/sandbox/gvisor", "test/bench/languages"},
		"test/bench/languages": {".", "api", "client", "internal/bench"},

		"internal/descriptor": nil,
		"internal/loopback":   nil,
		"internal/pattern":    nil,

		// What tests ask of their machine; the kits have it too.
		"internal/need": nil,

		// Parts of the engine.
		"internal/sandbox/gvisor/hostfiles": contract,
		"internal/sandbox/gvisor/cgroup":    append(contract, "internal/sandbox/gvisor/kernfile"),
		"internal/sandbox/gvisor/kernfile":  nil,
		"internal/sandbox/gvisor/logs":      vocabulary,
		"internal/sandbox/gvisor/netns": append(contract, "internal/egress",
			"internal/egress/front", "internal/sandbox/gvisor/kernfile"),
	}
}

// outsideHomes says where a dependency may be imported; a dependency without an
// entry may be imported anywhere but in the packages of stdOnly.
func outsideHomes() map[string][]string {
	return map[string][]string{
		"gvisor.dev/gvisor": {"internal/sandbox/gvisor",
			"internal/erofs/erofstest"},
		"modernc.org/":                           {"internal/sqlite"},
		"github.com/jackc/pgx":                   {"internal/postgres"},
		"github.com/prometheus/client_golang":    {"internal/metrics"},
		"github.com/vishvananda/netlink":         {"internal/sandbox/gvisor/netns"},
		"github.com/google/nftables":             {"internal/sandbox/gvisor/netns"},
		"github.com/mdlayher/netlink":            {"internal/sandbox/gvisor/netns"},
		"github.com/google/go-containerregistry": {"internal/oci"},
		"github.com/klauspost/compress":          {"internal/oci"},
		"github.com/alecthomas/kong":             {"cmd/sandpool"},
	}
}

// stdOnly are the packages that every program may import without a second thought.
func stdOnly() []string { return []string{".", "api", "images"} }

// checkImports finds imports against the table.
func checkImports(t *tree) (found []string) {
	table := mayImport()
	for _, p := range t.pkgs {
		entry, ok := nearest(table, p.dir)
		if !ok && len(p.shipped()) > 0 {
			found = append(found, p.dir+": no entry in mayImport says what this package may import")
			continue
		}
		for _, f := range p.shipped() {
			for _, spec := range f.ast.Imports {
				target, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					continue
				}
				if why := refuse(t.module, p.dir, target, table[entry]); why != "" {
					found = append(found, t.at(spec, "%s", why))
				}
			}
		}
	}
	return found
}

// refuse says why the package in dir may not import target, or "".
func refuse(module, dir, target string, allowed []string) string {
	inside, ours := strings.CutPrefix(target, module+"/")
	if target == module {
		inside, ours = ".", true
	}
	switch {
	case ours && (slices.Contains(allowed, inside) || strings.HasPrefix(inside, dir+"/")):
		return ""
	case ours && inside == "internal/pattern" && within(dir, "internal"):
		return "" // it stands in std's place
	case ours:
		return "package " + dir + " may not import " + inside
	case !strings.Contains(strings.Split(target, "/")[0], "."):
		return "" // std
	case slices.Contains(stdOnly(), dir):
		return "package " + dir + " imports std only, not " + target
	}
	for prefix, homes := range outsideHomes() {
		if strings.HasPrefix(target, prefix) && !slices.ContainsFunc(homes, func(h string) bool {
			return within(dir, h)
		}) {
			return target + " belongs to " + strings.Join(homes, ", ") + ", not to " + dir
		}
	}
	return ""
}

// within says whether dir is home or beneath it.
func within(dir, home string) bool { return dir == home || strings.HasPrefix(dir, home+"/") }

// nearest finds the table's entry for dir or for the nearest folder above it.
func nearest(table map[string][]string, dir string) (string, bool) {
	if _, ok := table[dir]; ok {
		return dir, true
	}
	if parent := path.Dir(dir); parent != "." {
		return nearest(table, parent)
	}
	return "", false
}
