package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
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

// ApproveDevice lets the program that shows a code have a token, which may do what the caller's may
// and ends with it.
func (c *Client) ApproveDevice(ctx context.Context, userCode string) error {
	_, _, err := c.do(ctx, call{method: http.MethodPost, path: joinPath("sandpool", "devices"),
		body: api.DeviceApproval{UserCode: userCode}}, nil)
	return err
}

// IssuerKeys are the keys that sign the server's JSON Web Tokens, the last one first.
func (c *Client) IssuerKeys(ctx context.Context) ([]api.IssuerKey, error) {
	var list api.IssuerKeys
	_, _, err := c.do(ctx, call{method: http.MethodGet,
		path: joinPath("sandpool", "issuer", "keys")}, &list)
	return list.Value, err
}

// RotateIssuerKeys makes the next key. With drop the earlier ones end when it begins to sign, with
// their tokens; otherwise each is kept until its last token has ended.
func (c *Client) RotateIssuerKeys(ctx context.Context, drop bool) ([]api.IssuerKey, error) {
	var list api.IssuerKeys
	_, _, err := c.do(ctx, call{method: http.MethodPost,
		path: joinPath("sandpool", "issuer", "keys"), body: api.IssuerKeyRequest{Drop: drop}}, &list)
	return list.Value, err
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
	_, _, err := c.do(ctx, call{method: http.MethodGet,
		path: below(scope, "roleAssignments")}, &list)
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

// identities is the path of the user-assigned identities of the group.
func (c *Client) identities() string {
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/%s", c.sub, c.rg,
		api.UserAssignedIdentityType)
}

// Identities are the user-assigned identities of the resource group.
func (c *Client) Identities(ctx context.Context) ([]api.UserAssignedIdentity, error) {
	var list api.List[api.UserAssignedIdentity]
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: c.identities()}, &list)
	return list.Value, err
}

// PutIdentity makes a user-assigned identity, or gives the one of that name other tags.
func (c *Client) PutIdentity(ctx context.Context, name string,
	body api.UserAssignedIdentity) (out api.UserAssignedIdentity, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodPut,
		path: c.identities() + joinPath(name), body: body}, &out)
	return out, err
}

// DeleteIdentity deletes a user-assigned identity, and reports whether there was one. Pools that
// have it get no more tokens of it.
func (c *Client) DeleteIdentity(ctx context.Context, name string) (bool, error) {
	status, _, err := c.do(ctx, call{method: http.MethodDelete,
		path: c.identities() + joinPath(name)}, nil)
	return status == http.StatusOK, err
}

// Login is a sign-in that waits for somebody to approve it.
type Login struct {
	// Code is what they are to be shown.
	Code api.DeviceCode

	client *Client
	until  time.Time
}

// loginClient is what the client calls itself to the issuer.
const loginClient = "sandpool"

// BeginLogin begins a sign-in at the server of cfg, whose token is not looked at. The token that it
// leads to is good for the given time, at most 12 hours.
func BeginLogin(ctx context.Context, cfg Config, good time.Duration) (*Login, error) {
	cfg.Token = ""
	c, err := New(cfg)
	if err != nil {
		return nil, err
	}
	l := &Login{client: c}
	failed, err := c.form(ctx, "devicecode", url.Values{"client_id": {loginClient},
		"scope":    {"https://management.azure.com/.default"},
		"lifetime": {strconv.Itoa(int(good / time.Second))}}, &l.Code)
	if err == nil && failed != (oauthError{}) {
		err = failed.error()
	}
	l.until = time.Now().Add(time.Duration(l.Code.ExpiresIn) * time.Second)
	return l, err
}

// Wait asks until somebody has approved, and returns the token.
func (l *Login) Wait(ctx context.Context) (string, error) {
	defer l.client.CloseIdle()
	interval := time.Duration(max(l.Code.Interval, 1)) * time.Second
	for {
		if err := pause(ctx, interval); err != nil {
			return "", err
		}
		var got struct {
			Token string `json:"access_token"`
		}
		failed, err := l.client.form(ctx, "token", url.Values{"client_id": {loginClient},
			"grant_type":  {"urn:ietf:params:oauth:grant-type:device_code"},
			"device_code": {l.Code.DeviceCode}}, &got)
		switch {
		case err != nil:
			return "", err
		case got.Token != "":
			return got.Token, nil
		case failed.Code == "slow_down" && time.Now().Before(l.until): // RFC 8628, section 3.5
			interval += 5 * time.Second
		case failed.Code != "authorization_pending" || time.Now().After(l.until):
			return "", failed.error()
		}
	}
}

// oauthError is an error of the issuer (RFC 6749, section 5.2).
type oauthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

func (e oauthError) error() error {
	return &sandpool.Error{Class: sandpool.Unauthenticated, Code: e.Code, Message: e.Description}
}

// maxForm bounds an answer of the issuer.
const maxForm = 64 << 10

// form sends a form to the issuer and decodes its answer into out, or returns what it refuses.
func (c *Client) form(ctx context.Context, path string, form url.Values,
	out any) (failed oauthError, err error) {
	ctx, cancel := call{}.bound(ctx)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost,
		c.Endpoint()+"/adfs/oauth2/v2.0/"+path, strings.NewReader(form.Encode()))
	if err != nil {
		return failed, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := c.http.Do(r)
	if err != nil {
		return failed, &sandpool.Error{Class: sandpool.Unavailable, Err: err,
			Message: "The server " + c.Endpoint() + " does not answer."}
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxForm))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return failed, err
	}
	if resp.StatusCode == http.StatusOK {
		return failed, json.Unmarshal(text, out)
	}
	if json.Unmarshal(text, &failed) != nil || failed.Code == "" {
		return failed, fmt.Errorf("%s answers with status %d: it may be no server of sandpool",
			c.Endpoint(), resp.StatusCode)
	}
	return failed, nil
}
