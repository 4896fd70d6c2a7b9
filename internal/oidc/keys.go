package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// fresh is how long keys are believed without a question, and stale how long at the most, if
	// questions are not answered.
	fresh = time.Hour
	stale = 24 * time.Hour
	// aging is when the issuer is asked while nobody has to wait for it yet.
	aging = 50 * time.Minute
	// pause is between two questions.
	pause = 10 * time.Second
	// fetchTimeout bounds one question, and maxAnswer what is read of the answer.
	fetchTimeout = 5 * time.Second
	maxAnswer    = 512 << 10
	// maxKeys bounds the keys of an issuer. Entra ID has about ten.
	maxKeys = 100
)

// errUnknownKey means that the issuer has no such key.
var errUnknownKey = errors.New("the issuer has no such key")

// keySet holds the keys of an issuer.
type keySet struct {
	s      Settings
	client *http.Client
	now    func() time.Time

	// asking is held by the one who asks the issuer.
	asking chan struct{}

	mu      sync.Mutex
	keys    map[string]jose.JSONWebKey
	says    configuration // what keys were found by
	fetched time.Time     // the last answer
	asked   time.Time     // the last question, or its end
	failure error         // why the last question had no answer
}

func newKeySet(s Settings, client *http.Client, now func() time.Time) *keySet {
	return &keySet{s: s, client: client, now: now, asking: make(chan struct{}, 1)}
}

// key returns the key with that id, and when the keys were fetched. If the issuer has none, the
// error is errUnknownKey; any other means that it could not be asked.
func (k *keySet) key(ctx context.Context, id string) (jose.JSONWebKey, time.Time, error) {
	if key, fetched, ok := k.known(id, fresh); ok {
		if k.now().Sub(fetched) >= aging {
			k.refreshSoon(ctx)
		}
		return key, fetched, nil
	}
	if key, fetched, ok := k.known(id, stale); ok && k.down() {
		k.refreshSoon(ctx)
		return key, fetched, nil
	}
	err := k.refresh(ctx, id)
	if key, fetched, ok := k.known(id, stale); ok {
		return key, fetched, nil
	}
	if err == nil {
		err = errUnknownKey
	}
	return jose.JSONWebKey{}, time.Time{}, err
}

// known returns a key of an answer that is no older than age.
func (k *keySet) known(id string, age time.Duration) (jose.JSONWebKey, time.Time, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key, ok := k.keys[id]
	return key, k.fetched, ok && k.now().Sub(k.fetched) < age
}

// refresh asks the issuer for its keys, unless somebody did within the pause.
func (k *keySet) refresh(ctx context.Context, id string) error {
	select {
	case k.asking <- struct{}{}:
		defer func() { <-k.asking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if _, _, ok := k.known(id, fresh); ok {
		return nil // whoever asked before got it
	}
	if due, failure := k.due(); !due {
		return failure
	}
	return k.ask(ctx)
}

// refreshSoon asks the issuer, unless somebody does, and waits for nothing.
func (k *keySet) refreshSoon(ctx context.Context) {
	select {
	case k.asking <- struct{}{}:
	default:
		return
	}
	if due, _ := k.due(); !due {
		<-k.asking
		return
	}
	go func() {
		defer func() { <-k.asking }()
		_ = k.ask(ctx) // kept as failure
	}()
}

// down reports whether the last question had no answer.
func (k *keySet) down() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.failure != nil
}

// due reports whether the pause is over, and if not, why the last question had no answer. It begins
// the next pause. Whoever calls it holds asking.
func (k *keySet) due() (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if !k.asked.IsZero() && now.Sub(k.asked) < pause {
		return false, k.failure
	}
	k.asked = now
	return true, nil
}

// ask asks the issuer. Whoever calls it holds asking.
func (k *keySet) ask(ctx context.Context) error {
	// a caller that leaves must not spoil the answer for those that wait
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*fetchTimeout)
	defer cancel()
	keys, says, err := k.fetch(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	// The pause counts from the end of the question: otherwise each of those that wait would ask a
	// slow issuer anew, one after the other.
	k.failure, k.asked = err, k.now()
	if err == nil {
		k.keys, k.says, k.fetched = keys, says, k.now()
	}
	return err
}

// configuration is what we read of an issuer's discovery document.
type configuration struct {
	Issuer  string `json:"issuer"`
	JWKSURI string `json:"jwks_uri"`

	// The rest is for those who sign in; an issuer whose tokens are only verified may have none.

	Authorize string   `json:"authorization_endpoint"`
	Token     string   `json:"token_endpoint"`
	Methods   []string `json:"token_endpoint_auth_methods_supported"`
	// NamesItself is true if answers to sign-ins name the issuer (RFC 9207).
	NamesItself bool `json:"authorization_response_iss_parameter_supported"`
}

// configuration returns what the issuer says of itself, as key returns its keys.
func (k *keySet) configuration(ctx context.Context) (configuration, error) {
	says, age := k.saidBefore()
	if age < fresh || age < stale && k.down() {
		if age >= aging {
			k.refreshSoon(ctx)
		}
		return says, nil
	}
	err := k.refresh(ctx, "")
	if says, age = k.saidBefore(); age < stale {
		return says, nil
	}
	return configuration{}, err
}

// saidBefore is the configuration of the last answer, and how old it is.
func (k *keySet) saidBefore() (configuration, time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.says, k.now().Sub(k.fetched)
}

func (k *keySet) fetch(ctx context.Context) (map[string]jose.JSONWebKey, configuration, error) {
	var found configuration
	if err := k.get(ctx, k.s.discovery(), &found); err != nil {
		return nil, found, err
	}
	if found.Issuer != k.s.Issuer {
		return nil, found, fmt.Errorf("%s says that its issuer is %.200q, which is not %q",
			k.s.discovery(), found.Issuer, k.s.Issuer)
	}
	if err := checkURL(found.JWKSURI); err != nil {
		return nil, found, fmt.Errorf("%s: jwks_uri %w", k.s.discovery(), err)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := k.get(ctx, found.JWKSURI, &set); err != nil {
		return nil, found, err
	}
	keys := map[string]jose.JSONWebKey{}
	for _, text := range set.Keys[:min(len(set.Keys), maxKeys)] {
		var key jose.JSONWebKey
		// keys of kinds that are not known here, and those for something else, are left out
		if err := json.Unmarshal(text, &key); err == nil && usable(key, k.s.accepted()) {
			keys[key.KeyID] = key
		}
	}
	if len(keys) == 0 {
		return nil, found, fmt.Errorf("%s has no key for signatures by %v", found.JWKSURI,
			k.s.accepted())
	}
	return keys, found, nil
}

// usable reports whether signatures can be checked with the key.
func usable(key jose.JSONWebKey, accepted []jose.SignatureAlgorithm) bool {
	return key.Valid() && key.IsPublic() && (key.Use == "" || key.Use == "sig") &&
		(key.Algorithm == "" || slices.Contains(accepted, jose.SignatureAlgorithm(key.Algorithm)))
}

// get reads a JSON document of bounded size.
func (k *keySet) get(ctx context.Context, address string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := k.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers with status %d", address, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("%s answers with more than %d bytes", address, maxAnswer)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s answers with no JSON of this kind: %w", address, err)
	}
	return nil
}
