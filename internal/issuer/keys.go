package issuer

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

// The life of a key, told by three times that all servers of a store compute alike:
//
//	made ──▶ published ── from ──▶ signs ── from of a later key ──▶ verifies ── keptFor ──▶ gone
//
// A key is a document of its own with a number, and which key signs follows from the numbers and
// the times alone. So servers need no lock: two that make the next key at the same moment agree on
// one of them, and a server that has read the documents knows what every other does.
const (
	// reread is how often a server looks for keys that others have made.
	reread = 5 * time.Second
	// notice is how long before it signs a key is made by command: what all servers need to learn
	// of it, and what their clocks may differ by.
	notice = 30 * time.Second
	// advance is the same for a key that is made since the last one is old: others who verify our
	// tokens may keep what they have read of keys for a day.
	advance = 24 * time.Hour
	// keptFor is how long a key verifies after it has ceased to sign: until its last token ends.
	keptFor = maxLifetime + 5*time.Minute
	// maxKeys bounds how many there may be at a time.
	maxKeys = 20
	// keyPrefix begins the keys of the documents.
	keyPrefix = "issuer-key/"
)

// KeyStore keeps keys.
type KeyStore interface {
	// Documents returns those of a kind whose key begins with prefix.
	Documents(ctx context.Context, kind, prefix string) ([]store.Document, error)
	// Agree keeps d unless there is a document of its kind and key, and returns the one that is
	// kept.
	Agree(ctx context.Context, d store.Document) (store.Document, error)
	// DeleteDocument removes one. An unknown one is not an error.
	DeleteDocument(ctx context.Context, kind, key string) error
}

// KeyOptions say what Keys are made of.
type KeyOptions struct {
	Store KeyStore
	// First is the text of the key that a server had before keys were kept in the store, in PEM;
	// empty if there was none.
	First string
	// Every is after what time another key is to sign; 0 means that only commands make one.
	Every time.Duration
	// Made hears of keys that are made since the last one is old; nil means that nobody does.
	Made func(id string)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Keys are those that sign tokens, one after the other.
type Keys struct {
	o    KeyOptions
	mu   sync.Mutex // makes one key at a time
	ring atomic.Pointer[ring]
}

// key is a document.
type key struct {
	number  int
	id      string
	private *ecdsa.PrivateKey
	signer  jose.Signer
	seal    cipher.AEAD // of device codes
	made    time.Time
	from    time.Time // when it begins to sign
	// ends is when it ceases to verify; zero as long as nothing says so.
	ends time.Time
}

// keyText is the text of the document of a key.
type keyText struct {
	PEM  string    `json:"pem"`
	Made time.Time `json:"made"`
	From time.Time `json:"from"`
	// Drop ends the keys before this one when it begins to sign, with their tokens.
	Drop bool `json:"drop,omitempty"`
}

// ring is all keys, the last one first, and the number of the newest document.
type ring struct {
	keys   []*key
	newest int
}

// OpenKeys reads the keys in the store, and makes the first one if there is none.
func OpenKeys(ctx context.Context, o KeyOptions) (*Keys, error) {
	if o.Store == nil {
		return nil, errors.New("issuer: a store of keys is required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	k := &Keys{o: o}
	if err := k.read(ctx); err != nil {
		return nil, fmt.Errorf("the issuer's keys: %w", err)
	}
	if len(k.ring.Load().keys) > 0 {
		return k, nil
	}
	text := o.First
	if text == "" {
		text = NewKey()
	}
	if err := k.make(ctx, keyText{PEM: text, From: o.Now()}); err != nil {
		return nil, fmt.Errorf("the issuer's first key: %w", err)
	}
	return k, nil
}

// NewKey makes a key, in PEM.
func NewKey() string {
	made, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // cannot happen: the curve is known, and randomness never fails
	}
	der, err := x509.MarshalECPrivateKey(made)
	if err != nil {
		panic(err) // cannot happen: the key is of a known curve
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

// parseKey reads the document of a key.
func parseKey(number int, text string) (*key, keyText, error) {
	var t keyText
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return nil, t, err
	}
	block, _ := pem.Decode([]byte(t.PEM))
	if block == nil {
		return nil, t, errors.New("it holds no key in PEM")
	}
	private, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, t, err
	}
	public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return nil, t, err
	}
	sum := sha256.Sum256(public)
	k := &key{number: number, id: hex.EncodeToString(sum[:10]), private: private, made: t.Made,
		from: t.From}
	options := (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", k.id)
	if k.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private},
		options); err != nil {
		return nil, t, err
	}
	secret, err := private.Bytes()
	if err != nil {
		return nil, t, err
	}
	derived, err := hkdf.Key(sha256.New, secret, nil, "sandpool device codes", 32)
	if err != nil {
		return nil, t, err
	}
	cipherOf, err := aes.NewCipher(derived)
	if err != nil {
		return nil, t, err
	}
	k.seal, err = cipher.NewGCMWithRandomNonce(cipherOf)
	return k, t, err
}

// read reads all keys, and forgets those that have ended.
func (k *Keys) read(ctx context.Context) error {
	list, err := k.o.Store.Documents(ctx, store.ServerSecret, keyPrefix)
	if err != nil {
		return err
	}
	r := &ring{}
	drops := map[int]bool{}
	for _, d := range list {
		number, err := strconv.Atoi(strings.TrimPrefix(d.Key, keyPrefix))
		if err != nil {
			return fmt.Errorf("the key %q has no number", d.Key)
		}
		r.newest = max(r.newest, number)
		if d.Text == "" { // it was given up with the store's key
			continue
		}
		made, t, err := parseKey(number, d.Text)
		if err != nil {
			return fmt.Errorf("the key %q: %w", d.Key, err)
		}
		r.keys, drops[number] = append(r.keys, made), t.Drop
	}
	if old := k.ring.Load(); len(r.keys) == 0 && old != nil && len(old.keys) > 0 {
		return errors.New("they are gone from the store; the server goes on with those it has read")
	}
	slices.SortFunc(r.keys, func(a, b *key) int { return b.number - a.number })
	for at, each := range r.keys {
		for _, later := range r.keys[:at] {
			ends := later.from
			if !drops[later.number] {
				ends = ends.Add(keptFor)
			}
			if each.ends.IsZero() || ends.Before(each.ends) {
				each.ends = ends
			}
		}
	}
	k.ring.Store(r)
	now := k.o.Now()
	for _, each := range r.keys {
		if !each.verifies(now) {
			if err := k.o.Store.DeleteDocument(ctx, store.ServerSecret,
				keyName(each.number)); err != nil {
				return err
			}
		}
	}
	return nil
}

func keyName(number int) string { return fmt.Sprintf("%s%08d", keyPrefix, number) }

// make makes the next key, and reads what has become of it: if another server has made one at the
// same moment, that is the next. mu is held, or nobody else has k.
func (k *Keys) make(ctx context.Context, t keyText) error {
	t.Made = k.o.Now().UTC().Truncate(time.Second)
	t.From = t.From.UTC().Truncate(time.Second)
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if _, _, err := parseKey(0, string(text)); err != nil {
		return err
	}
	next := keyName(k.ring.Load().newest + 1)
	if _, err = k.o.Store.Agree(ctx, store.Document{Kind: store.ServerSecret, Key: next,
		Text: string(text)}); err != nil {
		return err
	}
	return k.read(ctx)
}

// verifies reports whether tokens of the key count.
func (k *key) verifies(now time.Time) bool { return k.ends.IsZero() || now.Before(k.ends) }

// signing is the key that signs.
func (k *Keys) signing() *key {
	keys, now := k.ring.Load().keys, k.o.Now()
	for _, each := range keys {
		if !now.Before(each.from) {
			return each
		}
	}
	return keys[len(keys)-1] // the clock was set back
}

// verifying returns the key of an id, if its tokens count.
func (k *Keys) verifying(id string) (*key, bool) {
	now := k.o.Now()
	for _, each := range k.ring.Load().keys {
		if each.id == id && each.verifies(now) {
			return each, true
		}
	}
	return nil, false
}

// published are the keys that verify tokens, and those that will.
func (k *Keys) published() (set jose.JSONWebKeySet) {
	now := k.o.Now()
	for _, each := range k.ring.Load().keys {
		if each.verifies(now) {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: &each.private.PublicKey,
				KeyID: each.id, Algorithm: string(jose.ES256), Use: "sig"})
		}
	}
	return set
}

// sealed seals a text with the key that signs.
func (k *Keys) sealed(text, about []byte) string {
	return base64.RawURLEncoding.EncodeToString(k.signing().seal.Seal(nil, nil, text, about))
}

// unsealed opens what any of the keys that count has sealed.
func (k *Keys) unsealed(sealed string, about []byte) ([]byte, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		return nil, false
	}
	now := k.o.Now()
	for _, each := range k.ring.Load().keys {
		if !each.verifies(now) {
			continue
		}
		if text, err := each.seal.Open(nil, nil, raw, about); err == nil {
			return text, true
		}
	}
	return nil, false
}

// rotate makes a key that signs from notice on. With drop, earlier ones and their tokens are worth
// nothing from then on.
func (k *Keys) rotate(ctx context.Context, drop bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.read(ctx); err != nil {
		return err
	}
	if len(k.ring.Load().keys) >= maxKeys {
		return &sandpool.Error{Class: sandpool.Conflict, Code: "TooManyIssuerKeys",
			Message: fmt.Sprintf("There are %d keys already; each is kept until its last token "+
				"has ended. Wait for that.", maxKeys)}
	}
	return k.make(ctx, keyText{PEM: NewKey(), From: k.o.Now().Add(notice), Drop: drop})
}

// tend reads the keys again, and makes the next one if it is time.
func (k *Keys) tend(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.read(ctx); err != nil || k.o.Every == 0 {
		return err
	}
	keys, now := k.ring.Load().keys, k.o.Now()
	from := keys[0].from.Add(k.o.Every)
	if now.Before(from.Add(-advance)) || keys[0].from.After(now) {
		return nil
	}
	if soonest := now.Add(notice); from.Before(soonest) {
		from = soonest
	}
	before := k.ring.Load().newest
	if err := k.make(ctx, keyText{PEM: NewKey(), From: from}); err != nil {
		return err
	}
	if made := k.ring.Load(); k.o.Made != nil && made.newest > before {
		k.o.Made(made.keys[0].id)
	}
	return nil
}

// Run tends to the keys until ctx ends. failed hears of errors; what a server knows of keys goes on
// meanwhile.
func (k *Keys) Run(ctx context.Context, failed func(error)) error {
	tick := time.NewTicker(reread)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := k.tend(ctx); err != nil && ctx.Err() == nil {
				failed(err)
			}
		}
	}
}
