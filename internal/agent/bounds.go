package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// A few bytes of JSON can be a whole struct or an entry of a map. So what a sandbox, whose
// agent may have been taken over, can make the host hold in memory is bounded by number
// as well as by bytes.

// maxBundle is how many representations of one value are read.
const maxBundle = 1024

// Bundle holds representations of one value by MIME type.
type Bundle map[string]string

// UnmarshalJSON implements json.Unmarshaler.
func (b *Bundle) UnmarshalJSON(text []byte) error {
	dec, err := inside(text, '{')
	if dec == nil {
		return err
	}
	read := Bundle{}
	for dec.More() {
		if len(read) == maxBundle {
			return fmt.Errorf("there are more than %d representations", maxBundle)
		}
		key, err := dec.Token()
		if err != nil {
			return err
		}
		var value string
		if err := dec.Decode(&value); err != nil {
			return err
		}
		read[key.(string)] = value // the decoder takes no other keys
	}
	*b = read
	return nil
}

// Displays is what a cell showed, in order.
type Displays []Display

// UnmarshalJSON implements json.Unmarshaler.
func (d *Displays) UnmarshalJSON(text []byte) (err error) {
	*d, err = decodeList[Display](text, MaxDisplays)
	return err
}

// decodeList reads a list of at most the given length; null is none.
func decodeList[T any](text []byte, most int) ([]T, error) {
	dec, err := inside(text, '[')
	if dec == nil {
		return nil, err
	}
	list := []T{}
	for dec.More() {
		if len(list) == most {
			return nil, fmt.Errorf("the list has more than %d entries", most)
		}
		var one T
		if err := dec.Decode(&one); err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, nil
}

// inside returns a decoder that has read the opening delimiter. It is nil for null.
func inside(text []byte, delimiter json.Delim) (*json.Decoder, error) {
	if bytes.Equal(text, []byte("null")) {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	first, err := dec.Token()
	if err == nil && first != delimiter {
		err = fmt.Errorf("%v stands where %v should", first, delimiter)
	}
	if err != nil {
		return nil, err
	}
	return dec, nil
}
