package store

import (
	"encoding/json"
	"fmt"

	"github.com/sandpool/sandpool"
)

// PoolTexts is how stores keep the parts of a pool that have a form of their own: JSON.
func PoolTexts(p sandpool.Pool) (tags, spec, history string, err error) {
	t, err := json.Marshal(p.Tags)
	if err != nil {
		return "", "", "", err
	}
	s, err := json.Marshal(p.Spec)
	if err != nil {
		return "", "", "", err
	}
	a, err := json.Marshal(historyOf{p.CreatedBy, p.UpdatedBy, Nanos(p.SettledAt)})
	return string(t), string(s), string(a), err
}

// historyOf is who made a pool, who changed it last, and when it was settled.
type historyOf struct {
	Created sandpool.Author `json:"created,omitzero"`
	Updated sandpool.Author `json:"updated,omitzero"`
	Settled int64           `json:"settled,omitzero"` // see Nanos
}

// ReadPoolTexts reads what PoolTexts has written into p, whose ID is in the error.
func ReadPoolTexts(p *sandpool.Pool, tags, spec, history string) error {
	if err := json.Unmarshal([]byte(tags), &p.Tags); err != nil {
		return fmt.Errorf("tags of pool %q: %w", p.ID.Key(), err)
	}
	if err := json.Unmarshal([]byte(spec), &p.Spec); err != nil {
		return fmt.Errorf("spec of pool %q: %w", p.ID.Key(), err)
	}
	var a historyOf
	if err := json.Unmarshal([]byte(history), &a); err != nil {
		return fmt.Errorf("history of pool %q: %w", p.ID.Key(), err)
	}
	p.CreatedBy, p.UpdatedBy, p.SettledAt = a.Created, a.Updated, TimeOf(a.Settled)
	return nil
}
