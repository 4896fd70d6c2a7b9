package exec

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// maxFigureNumber ends the search for a free name.
const maxFigureNumber = 100_000

// figureFormats are the formats that become a file's suffix. The sandbox names
// the format, so nothing else may get into a path.
var figureFormats = map[string]string{"png": "png", "jpeg": "jpg", "jpg": "jpg", "svg": "svg",
	"gif": "gif", "webp": "webp", "pdf": "pdf"}

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

// ResultText renders the value of the last expression: a text as it is, anything
// else as the JSON that came. No value is "".
func ResultText(result json.RawMessage) string {
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

// exitCode is the exit code of an execution: what the code gave sys.exit, as far as
// that is one, and otherwise whether it failed.
func exitCode(e client.Execution) int {
	r := e.Result
	switch {
	case !e.Failed():
		return console.ExitDone
	case e.ExitCode != nil && *e.ExitCode > 0 && *e.ExitCode < 256:
		return *e.ExitCode
	case r.ErrorName != "SystemExit":
		return console.ExitNegative
	case r.ErrorMessage == "" || r.ErrorMessage == "None":
		return console.ExitDone
	}
	if n, err := strconv.ParseUint(r.ErrorMessage, 10, 8); err == nil {
		return int(n)
	}
	return console.ExitNegative
}

// sessionEnded reports whether the session ended under the code, with its files.
func sessionEnded(r api.ExecutionResult) bool { return r.StateLost && r.ErrorName == "Aborted" }

// printStreams writes what came of the code. thrownAway says that nothing of its
// session is kept.
func printStreams(a *console.App, e client.Execution, result json.RawMessage,
	thrownAway bool) error {
	r := e.Result
	out := r.Stdout
	text := ResultText(result)
	for i, d := range r.DisplayData {
		if i == len(r.DisplayData)-1 && len(d) > 1 && d["text/plain"] == text {
			continue // the value itself, in its other representations
		}
		out = addLine(out, d["text/plain"])
	}
	out = addLine(out, text)
	if _, err := io.WriteString(a.Stdout, out); err != nil {
		return err
	}
	said, why := splitStderr(r)
	switch {
	case e.Failed() && exitCode(e) == console.ExitDone:
		said = strings.TrimSuffix(strings.TrimSuffix(said, "SystemExit: "+r.ErrorMessage),
			"SystemExit")
	case thrownAway:
		// The sentences after the first say what is left for the session's next execution.
		first, _, more := strings.Cut(why, ". ")
		if why = first; more {
			why += "."
		}
	}
	fmt.Fprint(a.Stderr, addLine(addLine("", said), why))
	if r.StdoutTruncated || r.StderrTruncated || r.DisplayDataTruncated {
		a.Say("the output was longer than the server's limit and is cut")
	}
	if e.Failed() && e.Error != nil && !strings.Contains(r.Stderr, e.Error.Error.Message) {
		a.Say("%s: %s", e.Error.Error.Code, e.Error.Error.Message)
	}
	if r.StateLost && why == "" && !strings.Contains(r.Stderr, "Variables are lost") {
		a.Say("the session's variables are lost; its files remain")
	}
	return nil
}

// splitStderr separates what the code wrote from the server's own words on why it
// was ended, which are last and on lines of their own.
func splitStderr(r api.ExecutionResult) (text, why string) {
	text, ok := strings.CutSuffix(r.Stderr, r.ErrorMessage)
	if !ok || text != "" && !strings.HasSuffix(text, "\n") {
		return r.Stderr, ""
	}
	return text, r.ErrorMessage
}

// addLine adds text to out on a line of its own. No text adds nothing.
func addLine(out, text string) string {
	if text == "" {
		return out
	}
	if out != "" && !strings.HasSuffix(out, "\n") {
		out += "\n"
	}
	return out + strings.TrimSuffix(text, "\n") + "\n"
}
