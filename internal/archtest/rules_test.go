package archtest

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
)

// The ceilings. What they guard against is the tail: the one file and the one
// function that nobody reads to the end.
const (
	maxFileLines      = 500
	maxFunctionLines  = 100 // of shipped code; a table of cases may be longer
	maxMethods        = 8
	maxFilesAPackage  = 15
	minCommentPercent = 95
)

// fullRooms says of the packages that have as many files as a package may have why no part of them
// is a package of its own. The next file has to find one.
func fullRooms() map[string]string {
	return map[string]string{
		"api": "the one vocabulary of both planes, with a file for each resource",
		"internal/agent/guest": "its files share the kernel that runs and who waits for it; what needs " +
			"neither has left (executions, output, process, store, terminal, tree)",
		"internal/gateway": "a file for each group of operations on a call and its session; bodies, " +
			"forms and carriers have left (body, request, live, terminal, wire)",
		"internal/pool": "its files are methods of one Manager under one lock; what decides " +
			"without the lock has left (plan, room, queue, refusal)",
		"internal/sandbox/gvisor": "its files share the engine's table of processes; what owns " +
			"objects of the kernel has left (cgroup, netns, cores, logs)",
		"internal/sandbox/kube": "its files share one copy of the cluster's pods; what asks the API " +
			"server has left (rest)",
		"internal/sandbox/sandboxtest": "a file for each part of the contract, whose checks share " +
			"one suite, and the fake that the suite checks too",
		"internal/sqlite": "a file for each table, whose statements share the one connection that " +
			"writes",
		"internal/server": "it wires the parts, with a file for each; what does more than wire " +
			"has left",
	}
}

// checkSizes finds files, functions, interfaces and packages over their ceiling.
func checkSizes(t *tree) (found []string) {
	for _, p := range t.pkgs {
		n := len(p.shipped())
		if reason := fullRooms()[p.dir]; n == maxFilesAPackage && reason == "" {
			found = append(found, fmt.Sprintf("%s: %d files, the most a package may have: find "+
				"the part that can be a package, or say in fullRooms why there is none", p.dir, n))
		} else if n < maxFilesAPackage && reason != "" {
			found = append(found, fmt.Sprintf("%s: %d files; fullRooms need not name it", p.dir, n))
		}
		if n > maxFilesAPackage {
			found = append(found, fmt.Sprintf("%s: %d files, of at most %d a package", p.dir, n,
				maxFilesAPackage))
		}
		for _, f := range p.files {
			if n := t.fset.File(f.ast.Pos()).LineCount(); n > maxFileLines {
				found = append(found, fmt.Sprintf("%s: %d lines, of at most %d a file", f.name, n,
					maxFileLines))
			}
			ast.Inspect(f.ast, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncDecl:
					if !f.test && t.lines(n) > maxFunctionLines {
						found = append(found, t.at(n, "func %s has %d lines, of at most %d",
							n.Name.Name, t.lines(n), maxFunctionLines))
					}
				case *ast.InterfaceType:
					if n.Methods.NumFields() > maxMethods {
						found = append(found, t.at(n, "interface with %d methods, of at most %d",
							n.Methods.NumFields(), maxMethods))
					}
				}
				return true
			})
		}
	}
	return found
}

// checkPackageComments finds packages that do not say what they are for.
func checkPackageComments(t *tree) (found []string) {
	for _, p := range t.pkgs {
		files := p.shipped()
		if len(files) == 0 {
			continue
		}
		want := "Package " + p.name() + " "
		if p.name() == "main" {
			want = ""
		}
		if !slices.ContainsFunc(files, func(f source) bool {
			return f.ast.Doc != nil && strings.HasPrefix(f.ast.Doc.Text(), want)
		}) {
			found = append(found, fmt.Sprintf("%s: no comment that begins %q", p.dir, "Package "+
				p.name()))
		}
	}
	return found
}

// checkComments finds exported names without a comment, if they are too many.
func checkComments(t *tree) (found []string) {
	exported := 0
	for _, p := range t.pkgs {
		if p.name() == "main" {
			continue
		}
		for _, f := range p.shipped() {
			for _, d := range f.ast.Decls {
				names, bare := exportedNames(d)
				exported += names
				for _, id := range bare {
					found = append(found, t.at(id, "%s has no comment", id.Name))
				}
			}
		}
	}
	if len(found)*100 <= exported*(100-minCommentPercent) {
		return nil
	}
	return found
}

// exportedNames counts what d exports and lists what of it has no comment.
func exportedNames(d ast.Decl) (n int, bare []*ast.Ident) {
	count := func(id *ast.Ident, commented bool) {
		if !id.IsExported() {
			return
		}
		n++
		if !commented {
			bare = append(bare, id)
		}
	}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if receiverExported(d) {
			count(d.Name, d.Doc != nil)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				count(s.Name, d.Doc != nil || s.Doc != nil || s.Comment != nil)
			case *ast.ValueSpec:
				for _, id := range s.Names {
					count(id, d.Doc != nil || s.Doc != nil || s.Comment != nil)
				}
			}
		}
	}
	return n, bare
}

func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if index, ok := typ.(*ast.IndexExpr); ok {
		typ = index.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}

// checkProcesses finds programs started outside the packages that may.
func checkProcesses(t *tree) (found []string) {
	homes := []string{
		"internal/sandbox/gvisor", "internal/image", "internal/keyring",
		"internal/oci",                         // docker's credential helpers
		"internal/sandbox/kube/rest",           // credential plugins of kubeconfig files
		"internal/agent", "cmd/sandpool-agent", // inside the sandbox, where kernels are processes
		"cmd/sandpool/azure", "cmd/sandpool/trust", // az, and the machine's own store
		"test/bench", // which measures a plain process as a peer
		"test/real",  // which builds the agent
	}
	starts := []string{
		"os.StartProcess", "syscall.ForkExec", "syscall.StartProcess", "syscall.Exec",
		"golang.org/x/sys/unix.Exec", "os/exec.Command", "os/exec.CommandContext", "os/exec.Cmd",
	}
	for _, p := range t.pkgs {
		if p.kit() || slices.ContainsFunc(homes, func(h string) bool { return within(p.dir, h) }) {
			continue
		}
		for _, f := range p.shipped() {
			uses(f, func(n ast.Node, name string) {
				if slices.Contains(starts, name) {
					found = append(found, t.at(n, "%s: only %s start processes", name,
						strings.Join(homes, ", ")))
				}
			})
		}
	}
	return found
}

// checkContexts finds work that nobody can cancel.
func checkContexts(t *tree) (found []string) {
	for _, p := range t.pkgs {
		if p.name() == "main" || p.kit() {
			continue
		}
		for _, f := range p.shipped() {
			uses(f, func(n ast.Node, name string) {
				if name == "context.Background" || name == "context.TODO" {
					found = append(found, t.at(n, "%s: take the caller's context", name))
				}
			})
		}
	}
	return found
}

// checkSleeps finds tests that wait instead of watching.
func checkSleeps(t *tree) (found []string) {
	for _, p := range t.pkgs {
		for _, f := range p.files {
			if !f.test && !p.kit() {
				continue
			}
			uses(f, func(n ast.Node, name string) {
				if name == "time.Sleep" {
					found = append(found, t.at(n,
						"time.Sleep in a test: wait for what must happen"))
				}
			})
		}
	}
	return found
}
