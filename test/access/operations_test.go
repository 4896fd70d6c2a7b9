package access_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// operation is a route of the server, as its source says.
type operation struct {
	method string
	// path is a pattern: that of the control plane's mux, or one below a pool's endpoint.
	path string
	// plane is whose route it is.
	plane plane
}

type plane string

const (
	management plane = "control plane"
	data       plane = "data plane"
	agents     plane = "MCP endpoint"
	container  plane = "containers"
)

func (o operation) String() string { return o.method + " " + o.path }

// folders are those whose files register routes of the control plane.
func folders() []string {
	return []string{"audit", "control", "control/tree", "deployment", "issuer", "server", "usage"}
}

// names are what the sources call paths.
func names() map[string]string {
	const subscription, group = "/subscriptions/{subscription}",
		"/subscriptions/{subscription}/resourceGroups/{resourceGroup}"
	const pools = group + "/providers/Microsoft.App/sessionPools/{pool}"
	return map[string]string{
		"arm.SubscriptionPath":  subscription + "/providers/Microsoft.App",
		"arm.ResourceGroupPath": group + "/providers/Microsoft.App",
		"arm.PoolPath":          pools,
		"subscriptionPath":      subscription, "groupPath": group,
		"environmentsPath": group + "/providers/Microsoft.App/managedEnvironments",
		"environmentPath": group +
			"/providers/Microsoft.App/managedEnvironments/{environment}",
		"identitiesBelow": "/providers/Microsoft.ManagedIdentity/userAssignedIdentities",
		"identitiesPath":  group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities",
		"userIdentityPath": group +
			"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{identity}",
		"definitionsPath": "/providers/Microsoft.Authorization/roleDefinitions",
		"assignmentsPath": "/providers/Microsoft.Authorization/roleAssignments",
		"locksPath":       "/providers/Microsoft.Authorization/locks",
		"listPath":        group + "/providers/Microsoft.Resources/deployments",
		"path":            group + "/providers/Microsoft.Resources/deployments/{deployment}",
		"metricsPath":     "/metrics", "healthPath": "/healthz",
		"identityPath": "/metadata/identity/oauth2/token",
	}
}

// open are paths that need no token: they are before authentication.
func open(path string) bool {
	return path == "/healthz" || strings.HasPrefix(path, "/metadata/") ||
		strings.HasPrefix(path, "/adfs/") || strings.HasPrefix(path, "/{authority}/")
}

// scopesOfRoles are what stands for "scope", over which the routes of roles are registered.
func scopesOfRoles(names map[string]string) []string {
	return []string{"", names["subscriptionPath"], names["groupPath"], names["arm.PoolPath"]}
}

var method = regexp.MustCompile(`^(GET|HEAD|PUT|POST|PATCH|DELETE) `)

// operations reads all routes of the server from its sources, so that none can be forgotten.
func operations(t *testing.T) []operation {
	t.Helper()
	var all []operation
	for _, folder := range folders() {
		files, err := filepath.Glob("../../internal/" + folder + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", folder, files, err)
		}
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				all = append(all, routesIn(t, file)...)
			}
		}
	}
	all = append(all, dataRoutes(t)...)
	all = append(all, operation{"POST", "/mcp", agents}, operation{"DELETE", "/mcp", agents})
	for _, m := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		all = append(all, operation{m, "/any/path", container})
	}
	all = append(all, operation{"GET", "/.management/tunnel", container})
	slices.SortFunc(all, func(a, b operation) int {
		return strings.Compare(order(a)+a.path+a.method, order(b)+b.path+b.method)
	})
	return slices.Compact(all)
}

// routesIn reads the routes of the control plane that a file registers.
func routesIn(t *testing.T, file string) (all []operation) {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		routes := patterns(e, names())
		if sum, ok := e.(*ast.BinaryExpr); ok && len(routes) == 0 && begins(sum) {
			t.Errorf("%s has a route with a name that names() does not know", file)
		}
		for _, r := range routes {
			m, path, _ := strings.Cut(r, " ")
			if strings.HasPrefix(path, "/") && !open(path) {
				all = append(all, operation{m, path, management})
			}
		}
		return len(routes) == 0
	})
	return all
}

// begins reports whether a sum begins as a route does.
func begins(e *ast.BinaryExpr) bool {
	switch x := e.X.(type) {
	case *ast.BinaryExpr:
		return begins(x)
	case *ast.BasicLit:
		s, err := strconv.Unquote(x.Value)
		return err == nil && method.MatchString(s) && strings.HasSuffix(s, " ")
	}
	return false
}

// order sorts planes.
func order(o operation) string {
	return strconv.Itoa(slices.Index([]plane{management, data, agents, container}, o.plane))
}

// patterns are the routes that an expression spells; none if it is no pattern with a method.
func patterns(e ast.Expr, names map[string]string) []string {
	texts := []string{""}
	if !spell(e, names, &texts) || !method.MatchString(texts[0]) {
		return nil
	}
	return slices.DeleteFunc(texts, func(s string) bool { return strings.HasSuffix(s, " ") })
}

// spell appends what a sum of texts and names says to each of texts.
func spell(e ast.Expr, names map[string]string, texts *[]string) bool {
	add := func(ends ...string) bool {
		var longer []string
		for _, s := range *texts {
			for _, end := range ends {
				longer = append(longer, s+end)
			}
		}
		*texts = longer
		return true
	}
	switch e := e.(type) {
	case *ast.BinaryExpr:
		return e.Op == token.ADD && spell(e.X, names, texts) && spell(e.Y, names, texts)
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return e.Kind == token.STRING && err == nil && add(s)
	case *ast.Ident:
		if e.Name == "scope" {
			return add(scopesOfRoles(names)...)
		}
		s, ok := names[e.Name]
		return ok && add(s)
	case *ast.SelectorExpr:
		x, ok := e.X.(*ast.Ident)
		if !ok {
			return false
		}
		s, ok := names[x.Name+"."+e.Sel.Name]
		return ok && add(s)
	}
	return false
}

// dataRoutes reads the table of the data plane.
func dataRoutes(t *testing.T) (all []operation) {
	t.Helper()
	text, err := os.ReadFile("../../internal/gateway/routes.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\t\t\{"([A-Z]+)", "([^"]+)", (run|look),`).
		FindAllSubmatch(text, -1) {
		all = append(all, operation{string(m[1]), "/" + string(m[2]), data})
	}
	return all
}

// TestOperations: the sources are read as they are meant.
func TestOperations(t *testing.T) {
	all := operations(t)
	count := map[plane]int{}
	for _, o := range all {
		count[o.plane]++
	}
	for _, want := range []operation{
		{"GET", "/subscriptions", management}, {"GET", "/metrics", management},
		{"DELETE", "/sandpool/tokens/{id}", management},
		{"PUT", "/subscriptions/{subscription}/providers/Microsoft.Authorization/roleAssignments/" +
			"{assignment}", management},
		{"POST", "/executions", data}, {"GET", "/terminals/*", data},
	} {
		if !slices.Contains(all, want) {
			t.Errorf("%s is not found", want)
		}
	}
	if count[management] < 90 || count[data] < 45 {
		t.Errorf("too few routes are found: %v", fmt.Sprint(count))
	}
}
