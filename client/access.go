package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// CreateToken makes a token. Its text is in the answer and nowhere else.
func (c *Client) CreateToken(ctx context.Context, req api.TokenRequest) (api.NewToken, error) {
	var t api.NewToken
	_, _, err := c.do(ctx, call{method: http.MethodPost, path: joinPath("sandpool", "tokens"),
		body: req}, &t)
	return t, err
}

// Tokens returns all tokens, without their secrets.
func (c *Client) Tokens(ctx context.Context) ([]api.Token, error) {
	var list api.Tokens
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: joinPath("sandpool", "tokens")},
		&list)
	return list.Value, err
}

// RevokeToken ends a token at once. id is its public part.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	_, _, err := c.do(ctx, call{method: http.MethodDelete, path: joinPath("sandpool", "tokens",
		id)}, nil)
	return err
}

const authorization = "/providers/Microsoft.Authorization/"

// below is the path of what lies below a scope, which is no wider than everything and no narrower
// than a pool.
func below(scope sandpool.Scope, rest string) string {
	scope.Identifier, scope.Prefix = "", false
	return strings.TrimSuffix(scope.String(), "/") + authorization + rest
}

// RoleDefinitions are the roles that can be assigned.
func (c *Client) RoleDefinitions(ctx context.Context) ([]api.RoleDefinition, error) {
	var list api.List[api.RoleDefinition]
	_, _, err := c.do(ctx, call{method: http.MethodGet,
		path: below(sandpool.Scope{}, "roleDefinitions")}, &list)
	return list.Value, err
}

// RoleAssignments are those at a scope, above it and below it that the caller may see.
func (c *Client) RoleAssignments(ctx context.Context,
	scope sandpool.Scope) ([]api.RoleAssignment, error) {
	var list api.List[api.RoleAssignment]
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: below(scope, "roleAssignments")}, &list)
	return list.Value, err
}

// AssignRole gives a principal the role of a definition at a scope. A zero expires means that it
// does not end by itself.
func (c *Client) AssignRole(ctx context.Context, scope sandpool.Scope, definition, principal string,
	expires time.Time) (made api.RoleAssignment, err error) {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails since Go 1.24
	name := fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	body := api.RoleAssignment{Properties: api.RoleAssignmentProperties{
		RoleDefinitionID: definition, PrincipalID: principal}}
	if !expires.IsZero() {
		body.Properties.Sandpool = &api.AssignmentSettings{
			ExpiresAt: expires.UTC().Format(time.RFC3339)}
	}
	_, _, err = c.do(ctx, call{method: http.MethodPut, path: below(scope, "roleAssignments/"+name),
		body: body}, &made)
	return made, err
}

// EndRoleAssignment ends the assignment of an id at once. One that there is not is no error.
func (c *Client) EndRoleAssignment(ctx context.Context, id string) error {
	_, _, err := c.do(ctx, call{method: http.MethodDelete, path: id}, nil)
	return err
}
