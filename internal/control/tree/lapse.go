package tree

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/audit"
)

// endOf is when an assignment ends; zero means never. An end that is no time, which was never
// accepted, has passed.
func endOf(a api.RoleAssignment) time.Time {
	if a.Properties.Sandpool == nil || a.Properties.Sandpool.ExpiresAt == "" {
		return time.Time{}
	}
	ends, err := arm.ParseTime("expiresAt", a.Properties.Sandpool.ExpiresAt)
	if err != nil {
		return time.Unix(1, 0).UTC()
	}
	return ends
}

// ForgetEnded deletes the assignments that have ended, and those to managed identities that are
// gone, and returns how many. They give nothing since their end, whether they are deleted or not.
func (t *Tree) ForgetEnded(ctx context.Context) (forgotten int, err error) {
	t.assigning.Lock()
	defer t.assigning.Unlock()
	return t.forgetEnded(ctx)
}

// forgetEnded is ForgetEnded with assigning held.
func (t *Tree) forgetEnded(ctx context.Context) (forgotten int, err error) {
	all, err := t.allAssignments(ctx)
	if err != nil {
		return 0, err
	}
	gone, err := t.orphaned(ctx, all)
	if err != nil {
		return 0, err
	}
	for _, a := range all {
		if !(sandpool.Grant{Expires: endOf(a)}).Ended(t.o.Now()) && !gone(a) {
			continue
		}
		if err := t.ungrant(ctx, a); err != nil {
			return forgotten, err
		}
		if err := t.kept.DeleteDocument(ctx, assignmentKind, strings.ToLower(a.ID)); err != nil {
			return forgotten, err
		}
		forgotten++
		if t.o.Ended != nil {
			t.o.Ended(a)
		}
	}
	return forgotten, nil
}

// orphaned returns which of the assignments are to managed identities that have ended. These are
// read after the assignments: a principal that was there when it was given a role is found.
func (t *Tree) orphaned(ctx context.Context, all []api.RoleAssignment) (
	func(api.RoleAssignment) bool, error) {
	ofPool := func(a api.RoleAssignment) bool {
		return sandpool.IsManagedPrincipal(a.Properties.PrincipalID)
	}
	if !slices.ContainsFunc(all, ofPool) {
		return func(api.RoleAssignment) bool { return false }, nil
	}
	live, err := t.managed(ctx)
	return func(a api.RoleAssignment) bool {
		return ofPool(a) && !live[a.Properties.PrincipalID]
	}, err
}

// Forget deletes the role assignments of a principal that has ended.
func (t *Tree) Forget(ctx context.Context, principal string) error {
	kept, err := t.allAssignments(ctx)
	if err != nil {
		return err
	}
	for _, a := range kept {
		if a.Properties.PrincipalID == principal {
			if err := t.kept.DeleteDocument(ctx, assignmentKind,
				strings.ToLower(a.ID)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Tree) deleteAssignment(w http.ResponseWriter, r *http.Request) error {
	id, err := assignmentID(r)
	if err != nil {
		return err
	}
	a, err := t.unassign(r.Context(), id)
	if err != nil && sandpool.ClassOf(err) == sandpool.NotFound {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err != nil {
		return err
	}
	return arm.WriteJSON(w, http.StatusOK, a)
}

// unassign ends the assignment of an id, and returns it.
func (t *Tree) unassign(ctx context.Context, id string) (api.RoleAssignment, error) {
	t.assigning.Lock()
	defer t.assigning.Unlock()
	a, err := t.findAssignment(ctx, id)
	if err != nil {
		return a, err
	}
	if err := t.ungrant(ctx, a); err != nil {
		return a, err
	}
	if err := t.kept.DeleteDocument(ctx, assignmentKind, strings.ToLower(id)); err != nil {
		return a, err
	}
	audit.Changed(ctx, a, nil)
	return a, nil
}

// ungrant takes what an assignment gives from its principal, if that is a token of the server.
func (t *Tree) ungrant(ctx context.Context, a api.RoleAssignment) error {
	g, err := grantOf(a)
	if err != nil {
		return err
	}
	err = t.granter.Ungrant(ctx, a.Properties.PrincipalID, g)
	if sandpool.ClassOf(err) == sandpool.NotFound {
		return nil
	}
	return err
}
