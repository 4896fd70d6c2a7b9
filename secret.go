package sandpool

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
	"maps"
	"slices"
)

// hidden is what a secret is printed as.
const hidden = "[secret]"

// Secret is a value that only its user reads, by Reveal. However it is printed, logged or
// encoded, its text does not appear: it is in a closure, which fmt and reflect do not look into.
// The zero Secret has no value.
type Secret struct {
	reveal func() string
}

// NewSecret returns a secret with the given text.
func NewSecret(text string) Secret {
	return Secret{reveal: func() string { return text }}
}

// Reveal returns the text.
func (s Secret) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// IsZero reports whether s has no value.
func (s Secret) IsZero() bool { return s.reveal == nil }

// Equal compares the texts. The time it takes says nothing about them but their lengths.
func (s Secret) Equal(t Secret) bool {
	return s.IsZero() == t.IsZero() && subtle.ConstantTimeCompare([]byte(s.Reveal()),
		[]byte(t.Reveal())) == 1
}

// String implements fmt.Stringer.
func (Secret) String() string { return hidden }

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hidden)) }

// MarshalText makes encoders write what String says.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// Secrets are a pool's secrets by name.
type Secrets map[string]Secret

// Equal reports whether s and t hold the same.
func (s Secrets) Equal(t Secrets) bool { return maps.EqualFunc(s, t, Secret.Equal) }

// Names returns the names, sorted.
func (s Secrets) Names() []string { return slices.Sorted(maps.Keys(s)) }
