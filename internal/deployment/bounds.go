package deployment

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

// What deployments may take of the server. A deployment holds its template in memory until it has
// ended, and what is shown of it in the store until it is deleted.
const (
	// maxEvaluations bounds the requests whose templates are evaluated at one time; others wait.
	maxEvaluations = 4
	// maxActive and maxActiveBytes bound the deployments that have not ended, and their requests.
	// One resource group may have the inGroup-th part of either.
	maxActive      = 200
	maxActiveBytes = 64 << 20
	inGroup        = 8
	// maxNested bounds deployments within deployments, as Azure does.
	maxNested = 5
	// maxShown bounds the parameters and tags of a deployment, and its outputs.
	maxShown = 256 << 10
	// maxHistory and maxHistoryBytes bound the ended deployments of a resource group. The oldest
	// go first, as in Azure.
	maxHistory      = 800
	maxHistoryBytes = 32 << 20
)

// load is what a deployment that has not ended takes.
type load struct {
	group string // a prefix of its key
	bytes int
}

// groupPrefix begins the keys of the deployments in the group of rec.
func groupPrefix(rec *record) string {
	key := strings.ToLower(rec.Shown.ID)
	return key[:strings.LastIndexByte(key, '/')+1]
}

// admit counts rec among those that have not ended, if there is room for it. mu is held.
func (s *Service) admit(rec *record) error {
	now := load{group: groupPrefix(rec), bytes: len(rec.Request)}
	count, all, groups, own := 1, now.bytes, 1, now.bytes
	for _, other := range s.active {
		count, all = count+1, all+other.bytes
		if other.group == now.group {
			groups, own = groups+1, own+other.bytes
		}
	}
	if count > maxActive || all > maxActiveBytes || groups > maxActive/inGroup ||
		own > maxActiveBytes/inGroup {
		return sandpool.Errorf(sandpool.Unavailable, "TooManyDeployments", "",
			"Too many deployments run, or too large ones. Wait for the end of one, or cancel one.")
	}
	s.active[strings.ToLower(rec.Shown.ID)] = now
	return nil
}

// prune makes room for one more deployment in the group of rec.
func (s *Service) prune(ctx context.Context, rec *record) error {
	docs, err := s.o.Documents.Documents(ctx, kind, groupPrefix(rec))
	if err != nil {
		return err
	}
	total, ended := 0, map[string]*record{}
	for _, d := range docs {
		total += len(d.Text)
		if r, err := read(d); err == nil && r.ended() {
			ended[d.Key] = r
		}
	}
	slices.SortFunc(docs, func(a, b store.Document) int {
		return strings.Compare(began(ended[a.Key]), began(ended[b.Key]))
	})
	count := len(docs)
	for _, d := range docs {
		if count < maxHistory && total < maxHistoryBytes {
			return nil
		}
		if ended[d.Key] == nil {
			continue
		}
		if err := s.o.Documents.DeleteDocument(ctx, d.Kind, d.Key); err != nil {
			return err
		}
		count, total = count-1, total-len(d.Text)
	}
	return nil
}

func began(r *record) string {
	if r == nil {
		return ""
	}
	return r.Shown.Properties.Timestamp
}

// fits reports whether v, which is to be kept with a deployment, is small enough.
func fits(what string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(text) > maxShown {
		return sandpool.Errorf(sandpool.Invalid, "DeploymentTooLarge", what,
			"The %s of a deployment are kept with it and may have %d bytes; these have %d.", what,
			maxShown, len(text))
	}
	return nil
}

// depth is how many deployments the one that ctx asks for would be within, itself included.
func depth(ctx context.Context) (int, error) {
	deep := 1
	if in := outer(ctx); in != nil {
		deep += in.Depth
	}
	if deep > maxNested {
		return 0, sandpool.Errorf(sandpool.Invalid, "DeploymentsNestedTooDeep", "resources",
			"Deployments may be nested %d deep.", maxNested)
	}
	return deep, nil
}
