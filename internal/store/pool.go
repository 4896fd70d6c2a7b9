package store

import (
	"encoding/json"
	"fmt"

	"github.com/sandpool/sandpool"
)

// PoolTexts is how stores keep the parts of a pool that have a form of their own: JSON.
func PoolTexts(p sandpool.Pool) (tags, spec string, err error) {
	t, err := json.Marshal(p.Tags)
	if err != nil {
		return "", "", err
	}
	s, err := json.Marshal(p.Spec)
	return string(t), string(s), err
}

// ReadPoolTexts reads what PoolTexts has written into p, whose ID is in the error.
func ReadPoolTexts(p *sandpool.Pool, tags, spec string) error {
	if err := json.Unmarshal([]byte(tags), &p.Tags); err != nil {
		return fmt.Errorf("tags of pool %q: %w", p.ID.Key(), err)
	}
	if err := json.Unmarshal([]byte(spec), &p.Spec); err != nil {
		return fmt.Errorf("spec of pool %q: %w", p.ID.Key(), err)
	}
	return nil
}
