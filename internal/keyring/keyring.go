package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
)

const (
	version  = "v1"
	keySize  = 32
	idSize   = 16 // hexadecimal digits
	saltSize = 16
	// maxKeys bounds a ring.
	maxKeys = 100
	// maxDerived is how many derived keys a ring remembers: there is one for each start of a server
	// that has sealed something.
	maxDerived = 256
)

// ErrSealed is in the error of Open.
var ErrSealed = errors.New("it is sealed with another key, was changed, or is in another place")

// Ring is one key to seal with and all that open. Its methods may be called from many goroutines.
type Ring struct {
	ids  []string // in the order of the source
	keys map[string][]byte

	current string
	salt    string
	seal    cipher.AEAD

	mu      sync.Mutex // guards derived
	derived map[derivation]cipher.AEAD
}

// derivation is what a key is derived from.
type derivation struct{ id, salt string }

// NewKey makes a key, and returns its text and its id.
func NewKey() (text, id string) {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails since Go 1.24
	return base64.StdEncoding.EncodeToString(key), idOf(key)
}

func idOf(key []byte) string {
	sum := sha256.Sum256(append([]byte("sandpool store key id\x00"), key...))
	return hex.EncodeToString(sum[:])[:idSize]
}

// Parse reads keys: base64 of 32 bytes each, one a line; a line that begins with # is none. The
// first is the one to seal with. No error repeats what was read.
func Parse(text string) (*Ring, error) {
	r := &Ring{keys: map[string][]byte{}}
	for number, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := decode(line)
		if err != nil || len(key) != keySize {
			return nil, fmt.Errorf("line %d is no key: a key is %d bytes in base64, such as "+
				"'sandpool store key' prints", number+1, keySize)
		}
		id := idOf(key)
		if _, twice := r.keys[id]; !twice {
			r.ids = append(r.ids, id)
		}
		r.keys[id] = key
		if len(r.ids) > maxKeys {
			return nil, fmt.Errorf("there are more than %d keys", maxKeys)
		}
	}
	if len(r.ids) == 0 {
		return nil, errors.New("there is no key in it: 'sandpool store key' prints one")
	}
	return r.With(r.ids[0])
}

// decode reads both alphabets of base64, padded or not.
func decode(line string) ([]byte, error) {
	line = strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(line), "=")
	return base64.RawStdEncoding.DecodeString(line)
}

// With returns a ring of the same keys that seals with the one of the given id.
func (r *Ring) With(id string) (*Ring, error) {
	if !r.Has(id) {
		return nil, fmt.Errorf("there is no key %s among the keys %s", id,
			strings.Join(r.ids, ", "))
	}
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails since Go 1.24
	next := &Ring{ids: r.ids, keys: r.keys, current: id, salt: string(salt),
		derived: map[derivation]cipher.AEAD{}}
	var err error
	next.seal, err = next.derive(derivation{id, next.salt})
	return next, err
}

// Current is the id of the key that seals.
func (r *Ring) Current() string { return r.current }

// IDs are the ids of all keys, in the order of their source.
func (r *Ring) IDs() []string { return append([]string(nil), r.ids...) }

// Has reports whether the ring has the key of an id.
func (r *Ring) Has(id string) bool { return r.keys[id] != nil }

// derive makes the cipher of a derived key, which puts a random nonce before what it seals.
func (r *Ring) derive(d derivation) (cipher.AEAD, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.derived[d]; known != nil {
		return known, nil
	}
	key, err := hkdf.Key(sha256.New, r.keys[d.id], []byte(d.salt), "sandpool store "+version,
		keySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	made, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	if len(r.derived) >= maxDerived {
		clear(r.derived)
	}
	r.derived[d] = made
	return made, nil
}

// about is what is authenticated beside a value. The parts are quoted, so that no two places have
// the same text.
func about(id string, place []string) []byte {
	return fmt.Appendf(nil, "%s %s %q", version, id, place)
}

// Seal returns the envelope of a value whose place has the given name.
func (r *Ring) Seal(value string, place ...string) string {
	out := make([]byte, 0, saltSize+12+len(value)+16)
	out = append(out, r.salt...)
	out = r.seal.Seal(out, nil, []byte(value), about(r.current, place))
	return version + "." + r.current + "." + base64.RawURLEncoding.EncodeToString(out)
}

// Open returns the value in an envelope that was sealed for the same place. Any other is
// ErrSealed; no error repeats the envelope.
func (r *Ring) Open(envelope string, place ...string) (string, error) {
	fail := func(why string) (string, error) {
		return "", fmt.Errorf("%q does not open: %s: %w", place, why, ErrSealed)
	}
	v, rest, _ := strings.Cut(envelope, ".")
	id, text, ok := strings.Cut(rest, ".")
	if v != version || !ok {
		return fail("it is no envelope")
	}
	if !r.Has(id) {
		return fail(fmt.Sprintf("there is no key %.16q", id))
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(sealed) < saltSize {
		return fail("it is no whole envelope")
	}
	open, err := r.derive(derivation{id, string(sealed[:saltSize])})
	if err != nil {
		return "", err
	}
	value, err := open.Open(nil, nil, sealed[saltSize:], about(id, place))
	if err != nil {
		return fail("the key " + id + " does not fit")
	}
	return string(value), nil
}
