package store

import (
	"encoding/json"
	"fmt"

	"github.com/sandpool/sandpool"
)

// grant is a sandpool.Grant in a row.
type grant struct {
	Role  string `json:"role"`
	Scope string `json:"scope"`
	// Expires is in nanoseconds since 1970; 0 means never.
	Expires int64 `json:"expires,omitempty"`
}

// GrantsText is how stores keep the grants of a token: a JSON array of {"role", "scope",
// "expires"}, the scope as sandpool.Scope writes it.
func GrantsText(grants []sandpool.Grant) (string, error) {
	rows := make([]grant, 0, len(grants))
	for _, g := range grants {
		rows = append(rows, grant{Role: string(g.Role), Scope: g.Scope.String(),
			Expires: Nanos(g.Expires)})
	}
	text, err := json.Marshal(rows)
	return string(text), err
}

// ParseGrants reads what GrantsText writes. What it does not understand is an error, never a
// wider grant.
func ParseGrants(text string) ([]sandpool.Grant, error) {
	var rows []grant
	if err := json.Unmarshal([]byte(text), &rows); err != nil {
		return nil, fmt.Errorf("grants: %w", err)
	}
	var grants []sandpool.Grant
	for _, r := range rows {
		scope, err := sandpool.ParseScope(r.Scope)
		if err != nil {
			return nil, fmt.Errorf("grants: %w", err)
		}
		grants = append(grants, sandpool.Grant{Role: sandpool.Role(r.Role), Scope: scope,
			Expires: TimeOf(r.Expires)})
	}
	return grants, nil
}
