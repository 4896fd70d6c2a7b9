// Package place says in which namespace of a cluster the sandboxes of a pool are.
package place

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pattern"
)

// Namespaces are those that have sandboxes beside the usual one, each with the pools that it is
// for. A pool is a name or a pattern of names, such as team-a-*, or either behind a resource group,
// such as team-a/*. A namespace without pools gets no new sandboxes; those that it has live on.
type Namespaces map[string][]string

// The most that there may be: the pods of each are watched by themselves.
const most = 100

// label is what Kubernetes takes as the name of a namespace.
var label = pattern.Lazy(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// Validate reports what is wrong with each namespace, by its name. usual is the one of all other
// pools, or empty if that is not known yet.
func (n Namespaces) Validate(usual string) map[string]error {
	found := map[string]error{}
	owner := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(n)) {
		switch {
		case !label().MatchString(name):
			found[name] = errors.New("it must be up to 63 lower-case letters, digits and hyphens")
		case name == usual:
			found[name] = errors.New("it is the namespace of all pools that none is named for: " +
				"leave it out")
		case len(n) > most:
			found[name] = fmt.Errorf("there are %d namespaces; name at most %d", len(n), most)
		}
		for _, of := range n[name] {
			_, bad := path.Match(of, "")
			switch key := strings.ToLower(of); {
			case of == "" || bad != nil || strings.Count(of, "/") > 1:
				found[name] = fmt.Errorf("%q is no pool: write a name, a pattern such as "+
					"team-a-*, or either behind a resource group, such as team-a/*", of)
			case owner[key] != "":
				found[name] = fmt.Errorf("%q is a pool of %q, too: a pool has one namespace", of,
					owner[key])
			default:
				owner[key] = name
			}
		}
	}
	return found
}

// Of returns the namespace of a pool's new sandboxes. A name goes before a pattern, a longer
// pattern before a shorter one.
func (n Namespaces) Of(pool sandpool.PoolID, usual string) string {
	name := strings.ToLower(pool.Name)
	whole := strings.ToLower(pool.ResourceGroup) + "/" + name
	best, namespace := "", usual
	for _, in := range slices.Sorted(maps.Keys(n)) {
		for _, of := range n[in] {
			of = strings.ToLower(of)
			asked := name
			if strings.Contains(of, "/") {
				asked = whole
			}
			if ok, err := path.Match(of, asked); err == nil && ok && before(of, best) {
				best, namespace = of, in
			}
		}
	}
	return namespace
}

// before reports whether the pattern a goes before b.
func before(a, b string) bool {
	rank := func(p string) int {
		switch {
		case p == "":
			return 0
		case strings.ContainsAny(p, `*?[\`):
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(len(a), len(b)),
		cmp.Compare(a, b)) > 0
}

// All are all namespaces, the usual one first.
func (n Namespaces) All(usual string) []string {
	return append([]string{usual}, slices.Sorted(maps.Keys(n))...)
}
