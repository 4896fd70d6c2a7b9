package exec

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"image"
	_ "image/gif"  // decoded
	_ "image/jpeg" // decoded
	"image/png"
	"io"
	"strings"

	"github.com/mattn/go-sixel"

	"github.com/sandpool/sandpool/api"
)

// mostPixels bounds a figure that is shown: decoded, one has four bytes each.
const mostPixels = 16 << 20

// mostSixels bounds a figure that is shown by sixels, which are many bytes and few pixels a second.
const mostSixels = 2 << 20

// widestSixels bounds its width: the encoder has 256 bytes for each column.
const widestSixels = 8192

// graphics is how a terminal shows figures; nil if it cannot.
type graphics func(w io.Writer, picture image.Image) error

// graphicsOf is what the environment says of the terminal. Within tmux and screen, figures
// would not be where they belong.
func graphicsOf(getenv func(string) string) graphics {
	name, program := getenv("TERM"), getenv("TERM_PROGRAM")
	switch {
	case getenv("TMUX") != "", strings.HasPrefix(name, "screen"), strings.HasPrefix(name, "tmux"):
		return nil
	case getenv("KITTY_WINDOW_ID") != "", name == "xterm-kitty", name == "xterm-ghostty",
		program == "ghostty":
		return showKitty
	case program == "iTerm.app", program == "WezTerm", getenv("LC_TERMINAL") == "iTerm2":
		return showITerm
	}
	return nil
}

// show shows a figure. The terminal gets none of the session's bytes: the figure is decoded, and
// made anew.
func (g graphics) show(w io.Writer, img api.Image) error {
	if g == nil {
		return errors.New("the terminal shows no figures")
	}
	data, err := base64.StdEncoding.DecodeString(img.Data)
	if err != nil {
		return fmt.Errorf("decode figure: %w", err)
	}
	config, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("decode figure: %w", err)
	}
	if int64(config.Width)*int64(config.Height) > mostPixels {
		return fmt.Errorf("the figure has more than %d pixels", mostPixels)
	}
	decoded, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("decode figure: %w", err)
	}
	return g(w, decoded)
}

// encode returns a figure as base64 of a PNG of so many bytes.
func encode(picture image.Image) (text string, size int, err error) {
	var data bytes.Buffer
	if err := png.Encode(&data, picture); err != nil {
		return "", 0, fmt.Errorf("encode figure: %w", err)
	}
	return base64.StdEncoding.EncodeToString(data.Bytes()), data.Len(), nil
}

// showKitty speaks https://sw.kovidgoyal.net/kitty/graphics-protocol/. The terminal is told to
// answer nothing, which would be taken for typed.
func showKitty(w io.Writer, picture image.Image) error {
	const longest = 4096
	var out strings.Builder
	text, _, err := encode(picture)
	if err != nil {
		return err
	}
	head := "a=T,f=100,q=2,"
	for text != "" {
		n, more := min(len(text), longest), 0
		if n < len(text) {
			more = 1
		}
		fmt.Fprintf(&out, "\x1b_G%sm=%d;%s\x1b\\", head, more, text[:n])
		text, head = text[n:], ""
	}
	out.WriteString("\n")
	_, err = io.WriteString(w, out.String())
	return err
}

// showITerm speaks https://iterm2.com/documentation-images.html.
func showITerm(w io.Writer, picture image.Image) error {
	text, size, err := encode(picture)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\x1b]1337;File=inline=1;size=%d:%s\a\n", size, text)
	return err
}

// showSixel speaks what DEC's VT340 did (https://vt100.net/docs/vt3xx-gp/chapter14.html).
func showSixel(w io.Writer, picture image.Image) error {
	if size := picture.Bounds().Size(); size.X*size.Y > mostSixels {
		return fmt.Errorf("the figure has more than %d pixels", mostSixels)
	} else if size.X > widestSixels {
		return fmt.Errorf("the figure is more than %d pixels wide", widestSixels)
	}
	var out bytes.Buffer
	if err := sixel.NewEncoder(&out).Encode(picture); err != nil {
		return fmt.Errorf("encode figure: %w", err)
	}
	out.WriteByte('\n')
	_, err := w.Write(out.Bytes())
	return err
}

// imageOf returns the image of a display, the raster form before the vector one.
func imageOf(data map[string]string) (api.Image, bool) {
	for _, format := range []string{"png", "jpeg", "gif", "webp"} {
		if text, ok := data["image/"+format]; ok {
			return api.Image{Type: "image", Format: format, Data: strings.TrimSpace(text)}, true
		}
	}
	if text, ok := data["image/svg+xml"]; ok { // a text, unlike the others
		return api.Image{Type: "image", Format: "svg",
			Data: base64.StdEncoding.EncodeToString([]byte(text))}, true
	}
	return api.Image{}, false
}
