package jupyter

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// delimiter stands between the identities of a message and its signed parts.
const delimiter = "<IDS|MSG>"

// signedParts is the number of parts that a signature covers.
const signedParts = 4

// header begins a message.
type header struct {
	ID       string `json:"msg_id"`
	Session  string `json:"session"`
	Username string `json:"username"`
	Date     string `json:"date"`
	Type     string `json:"msg_type"`
	Version  string `json:"version"`
}

// message is what the bridge and a kernel tell each other.
type message struct {
	header  header
	parent  header
	content json.RawMessage
}

// signer makes and checks messages under one key.
type signer struct {
	key     []byte
	session string
}

func newSigner() signer {
	return signer{key: []byte(rand.Text()), session: rand.Text()}
}

// sign returns the signature of the signed parts, in hexadecimal digits.
func (s signer) sign(parts [][]byte) []byte {
	mac := hmac.New(sha256.New, s.key)
	for _, p := range parts {
		mac.Write(p)
	}
	return hex.AppendEncode(nil, mac.Sum(nil))
}

// encode returns a message of the given type as parts, and its id.
func (s signer) encode(kind string, parent *header, content any) ([][]byte, string, error) {
	h := header{ID: rand.Text(), Session: s.session, Username: "sandbox",
		Date: time.Now().UTC().Format(time.RFC3339Nano), Type: kind, Version: "5.3"}
	parts := [][]byte{nil, []byte("{}"), []byte("{}"), nil}
	var err error
	if parts[0], err = json.Marshal(h); err != nil {
		return nil, "", err
	}
	if parent != nil {
		if parts[1], err = json.Marshal(parent); err != nil {
			return nil, "", err
		}
	}
	if parts[3], err = json.Marshal(content); err != nil {
		return nil, "", fmt.Errorf("encode %s: %w", kind, err)
	}
	return append([][]byte{[]byte(delimiter), s.sign(parts)}, parts...), h.ID, nil
}

// decode reads the parts of a message. Identities before it and buffers after it are left alone.
func (s signer) decode(parts [][]byte) (message, error) {
	var m message
	for i, p := range parts {
		if string(p) != delimiter {
			continue
		}
		rest := parts[i+1:]
		if len(rest) < 1+signedParts {
			return m, fmt.Errorf("a message has %d parts after its delimiter", len(rest))
		}
		signed := rest[1 : 1+signedParts]
		if !hmac.Equal(rest[0], s.sign(signed)) {
			return m, errors.New("a message has a wrong signature")
		}
		if err := json.Unmarshal(signed[0], &m.header); err != nil {
			return m, fmt.Errorf("header of a message: %w", err)
		}
		// For a message that answers nothing, some kernels send an empty object and some nothing.
		if p := bytes.TrimSpace(signed[1]); len(p) > 0 {
			if err := json.Unmarshal(p, &m.parent); err != nil {
				return m, fmt.Errorf("parent of a message: %w", err)
			}
		}
		m.content = signed[3]
		return m, nil
	}
	return m, errors.New("a message has no delimiter")
}
