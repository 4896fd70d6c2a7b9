// Package filename reads the names that clients give to the files of a form. Names that are not
// ASCII come in many forms: as they are (browsers, most libraries), by RFC 5987 (filename*=), by
// RFC 2047 (.NET and mail libraries), and percent-encoded (aiohttp, on which AutoGen is built); in
// UTF-8, and in the charset of the machine that a client runs on.
//
// A name is a caller's, so what cannot be decoded whole stays as it came: it is for whoever stores
// the file to refuse a name.
package filename

import (
	"io"
	"mime"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/sandpool/sandpool/internal/arm"
	"golang.org/x/text/encoding/htmlindex"
)

// maxEncoded bounds the bytes of a name that is decoded: 4 KiB is the longest path that Linux
// takes, and no charset takes ten times as much.
const maxEncoded = 40 << 10

// Of returns the name that a part of a form was given by its Content-Disposition, directories
// included, or "". userAgent is that of the request.
func Of(disposition, userAgent string) string {
	name := Parameter(disposition, "filename")
	if strings.Contains(userAgent, "aiohttp/") {
		name = arm.DecodeOnce(name)
	}
	if len(name) > maxEncoded {
		return name
	}
	if plain, ok := words(name); ok {
		return plain
	}
	decoder := mime.WordDecoder{CharsetReader: reader}
	if plain, err := decoder.DecodeHeader(name); err == nil && whole(plain) {
		return plain
	}
	return name
}

// Parameter returns a parameter of a Content-Disposition, or "". In a header that is not by its
// grammar, because a name with spaces or other letters is not quoted, it is what stands between the
// parameter and the next semicolon.
func Parameter(disposition, name string) string {
	if value, ok := extended(disposition, name); ok {
		return value
	}
	if _, params, err := mime.ParseMediaType(disposition); err == nil {
		return params[name]
	}
	for piece := range strings.SplitSeq(disposition, ";") {
		key, value, _ := strings.Cut(piece, "=")
		if strings.EqualFold(strings.TrimSpace(key), name) {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ""
}

// extended returns a parameter by RFC 5987 in another charset than UTF-8, which package mime
// leaves out.
func extended(disposition, name string) (string, bool) {
	for piece := range strings.SplitSeq(disposition, ";") {
		key, value, _ := strings.Cut(piece, "=")
		charset, rest, _ := strings.Cut(strings.Trim(strings.TrimSpace(value), `"`), "'")
		_, encoded, ok := strings.Cut(rest, "'")
		if !ok || !strings.EqualFold(strings.TrimSpace(key), name+"*") ||
			strings.EqualFold(charset, "utf-8") || len(encoded) > maxEncoded {
			continue
		}
		text, err := url.PathUnescape(encoded)
		if err != nil {
			return "", false
		}
		return decode(charset, text)
	}
	return "", false
}

// words decodes a name that consists of encoded words of one charset. They are decoded together:
// some clients break a word within a letter.
func words(name string) (string, bool) {
	charset := ""
	var text strings.Builder
	for _, word := range strings.Fields(name) {
		inner, opened := strings.CutPrefix(word, "=?")
		of, rest, named := strings.Cut(inner, "?")
		of, _, _ = strings.Cut(of, "*") // a language, by RFC 2231
		if !opened || !named || charset != "" && !strings.EqualFold(of, charset) {
			return "", false
		}
		charset = of
		// By this charset each byte becomes one rune.
		raw, err := new(mime.WordDecoder).Decode("=?iso-8859-1?" + rest)
		if err != nil {
			return "", false
		}
		for _, r := range raw {
			text.WriteByte(byte(r))
		}
	}
	return decode(charset, text.String())
}

// decode returns a text of a charset in UTF-8, if the charset is one that browsers know and all of
// the text can be decoded.
func decode(charset, text string) (string, bool) {
	if strings.EqualFold(charset, "utf-8") {
		return text, utf8.ValidString(text)
	}
	encoding, err := htmlindex.Get(charset)
	if err != nil {
		return "", false
	}
	plain, err := encoding.NewDecoder().String(text)
	return plain, err == nil && whole(plain)
}

// reader is what decodes the words of a name beside other text.
func reader(charset string, input io.Reader) (io.Reader, error) {
	encoding, err := htmlindex.Get(charset)
	if err != nil {
		return nil, err
	}
	return encoding.NewDecoder().Reader(input), nil
}

// whole tells whether a text was decoded without a loss.
func whole(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsRune(text, utf8.RuneError)
}
