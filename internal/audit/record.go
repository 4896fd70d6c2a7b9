package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sandpool/sandpool/api"
)

// Record is one line of the log.
type Record = api.AuditRecord

// Hash is the hash of a record, which covers all before it.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// ParseHash reads what String writes.
func ParseHash(s string) (Hash, error) {
	var h Hash
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("%.80q is not a hash: use 64 hexadecimal digits", s)
	}
	copy(h[:], b)
	return h, nil
}

// A line ends with its hash: hashKey, 64 digits, hashEnd.
const (
	hashKey = `,"hash":"`
	hashEnd = `"}`
)

// lineOf is a record's line, without the newline, and its hash.
func lineOf(r Record, before Hash) ([]byte, Hash, error) {
	r.Hash = ""
	text, err := json.Marshal(r)
	if err != nil {
		return nil, Hash{}, err
	}
	covered := text[:len(text)-1] // without the closing brace
	h := chain(before, covered)
	return fmt.Appendf(covered, "%s%s%s", hashKey, h, hashEnd), h, nil
}

func chain(before Hash, covered []byte) Hash {
	sum := sha256.New()
	sum.Write(before[:])
	sum.Write(covered)
	return Hash(sum.Sum(nil))
}

var errLine = errors.New("it is not a record")

// split returns what the hash of a line covers, and the hash.
func split(line []byte) (covered []byte, h Hash, err error) {
	n := len(line) - len(hashKey) - 2*sha256.Size - len(hashEnd)
	if n < 0 || !bytes.HasSuffix(line, []byte(hashEnd)) ||
		!bytes.HasPrefix(line[n:], []byte(hashKey)) {
		return nil, h, errLine
	}
	h, err = ParseHash(string(line[n+len(hashKey) : len(line)-len(hashEnd)]))
	if err == nil && h.String() != string(line[n+len(hashKey):len(line)-len(hashEnd)]) {
		err = errLine // digits in capitals are another spelling
	}
	return line[:n], h, err
}

// parse reads a line.
func parse(line []byte) (Record, error) {
	var r Record
	if _, _, err := split(line); err != nil {
		return r, err
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return r, errLine
	}
	return r, nil
}
