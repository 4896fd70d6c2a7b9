package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sandpool/sandpool/api"
)

// maxFigureNumber ends the search for a free name.
const maxFigureNumber = 100_000

// figureFormats are the formats that become a file's suffix. The sandbox names
// the format, so nothing else may get into a path.
var figureFormats = map[string]string{"png": "png", "jpeg": "jpg", "jpg": "jpg", "svg": "svg", "gif": "gif", "webp": "webp", "pdf": "pdf"}

// splitResult separates the value of the last expression from the images. An
// image as the value counts as an image only.
func splitResult(r api.ExecutionResult) (json.RawMessage, []api.Image) {
	images := r.Images
	var one api.Image
	if json.Unmarshal(r.ExecutionResult, &one) == nil && one.Type == "image" && one.Data != "" {
		if len(images) == 0 {
			images = []api.Image{one}
		}
		return json.RawMessage(`""`), images
	}
	if len(r.ExecutionResult) == 0 {
		return json.RawMessage(`""`), images
	}
	return r.ExecutionResult, images
}

// resultText renders the value of the last expression: a text as it is, anything
// else as the JSON that came. No value, and None, are "".
func resultText(result json.RawMessage) string {
	var s string
	if json.Unmarshal(result, &s) == nil {
		return s // null too leaves it empty
	}
	return string(result)
}

// saveFigures writes images to dir as figure-N with the lowest free numbers and
// returns the names of the files written.
func saveFigures(dir string, images []api.Image) ([]string, error) {
	saved := []string{}
	number := 1
	for _, img := range images {
		suffix, ok := figureFormats[img.Format]
		if !ok {
			suffix = "bin"
		}
		data, err := base64.StdEncoding.DecodeString(img.Data)
		if err != nil {
			return saved, fmt.Errorf("decode figure: %w", err)
		}
		name, err := writeNew(dir, suffix, &number, data)
		if err != nil {
			return saved, fmt.Errorf("save figure: %w", err)
		}
		saved = append(saved, name)
	}
	return saved, nil
}

// writeNew writes data to the first free name from *number on, and moves *number
// past it. The file is created exclusively: nothing is overwritten, no link followed.
func writeNew(dir, suffix string, number *int, data []byte) (string, error) {
	for ; *number < maxFigureNumber; *number++ {
		name := filepath.Join(dir, fmt.Sprintf("figure-%d.%s", *number, suffix))
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		*number++
		_, err = f.Write(data)
		return name, errors.Join(err, f.Close())
	}
	return "", fmt.Errorf("directory %q is full of figures", dir)
}
