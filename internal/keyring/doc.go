// Package keyring seals what a store keeps of secrets, with keys that are outside the store: who
// has a copy of the store alone reads none.
//
// # Keys
//
// A key is 32 random bytes, written in base64. Its id is made of a hash of it, so a store can say
// which key it needs, and a key that has this id is the right one. A source (Settings) holds one
// key or several: the first is the one to seal with, all open. A store says by which one its
// secrets are sealed; that the first key is another means that a change of keys is not over.
//
// # Envelopes
//
// A sealed value is text:
//
//	v1.KEYID.BASE64URL(salt, 16 bytes | nonce, 12 bytes | ciphertext and tag)
//
// AES-256-GCM is used with a key that HKDF-SHA256 derives from the key and the salt, which is
// random for each Ring, so that no key comes near the number of messages that random nonces are
// good for. The version, the key's id and the place of the value are authenticated with it: an
// envelope that was moved to another place does not open.
package keyring
