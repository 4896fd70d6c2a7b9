package tree

import (
	"net/http"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
)

// readAssignment reads the request of a role assignment. What would make it narrower is refused
// if the server does not know it: ignored, it would give more than was asked for.
func readAssignment(w http.ResponseWriter, r *http.Request) (api.RoleAssignment, error) {
	var body api.RoleAssignment
	ignored, err := arm.DecodeKnown(w, r, maxBody, &body)
	if err != nil {
		return body, err
	}
	for _, path := range ignored {
		if lower := strings.ToLower(path); strings.HasPrefix(lower, "properties.sandpool.") {
			return body, sandpool.Errorf(sandpool.Invalid, "InvalidRequestContent", path,
				"Role assignments have no property %s; properties.sandpool takes expiresAt.", path)
		}
	}
	if body.Properties.Condition != "" {
		return body, sandpool.Errorf(sandpool.Unsupported, "ConditionNotSupported",
			"properties.condition", "This server's role assignments have no conditions. Leave it out, "+
				"and choose a narrower scope or role.")
	}
	if len(body.Properties.Description) > maxDescription {
		return body, sandpool.Errorf(sandpool.Invalid, "InvalidRequestContent",
			"properties.description", "The description has %d bytes; it may have %d.",
			len(body.Properties.Description), maxDescription)
	}
	return body, nil
}

// maxDescription bounds the description of a role assignment, in bytes.
const maxDescription = 1024

// end checks when an assignment is to end.
func (t *Tree) end(body api.RoleAssignment) (*api.AssignmentSettings, error) {
	if body.Properties.Sandpool == nil || body.Properties.Sandpool.ExpiresAt == "" {
		return nil, nil
	}
	const field = "properties.sandpool.expiresAt"
	ends, err := arm.ParseTime(field, body.Properties.Sandpool.ExpiresAt)
	if err != nil {
		return nil, err
	}
	if !ends.After(t.o.Now()) {
		return nil, sandpool.Errorf(sandpool.Invalid, "InvalidRoleAssignmentExpiry", field,
			"The role assignment would end at %s, which is not in the future.",
			ends.Format(time.RFC3339))
	}
	return &api.AssignmentSettings{ExpiresAt: ends.Format(time.RFC3339)}, nil
}
