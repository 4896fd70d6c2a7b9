package client

import (
	"context"
	"net/http"

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
