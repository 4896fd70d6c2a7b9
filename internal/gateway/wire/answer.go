package wire

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
)

// The words of the service for executions that did not end by themselves, which
// clients look for in stderr.
const (
	timedOutPhrase = "Request timed out waiting for code execution to complete"
	abortedPhrase  = "Execution aborted"
)

// Names of errors that are no exception's.
const (
	timedOut   = "Timeout"
	exitStatus = "ExitStatus" // a command's, which is not zero
)

// AnswerOf turns what the agent reports into an answer.
func AnswerOf(res agent.ExecuteResult, timeout time.Duration) Answer {
	var images []api.Image
	var rest []map[string]string
	if len(res.Value)+len(res.Displays) > 0 {
		images, rest = sortDisplays(res)
	}
	stderr := res.Stderr
	if res.Notice != "" { // what has to be said before it
		stderr = res.Notice + "\n" + stderr
	}
	a := Answer{ok: true, stdout: res.Stdout, stderr: stderr, result: valueOf(res, images),
		milliseconds: res.Duration.Milliseconds(), Took: res.Duration, exit: res.ExitStatus,
		extras: api.ExecutionExtras{StdoutTruncated: res.StdoutTruncated,
			StderrTruncated: res.StderrTruncated,
			DisplayData:     rest, DisplayDataTruncated: res.DisplaysTruncated,
			StateLost: res.KernelRestarted}}
	switch res.Outcome {
	case agent.OK:
	case agent.TimeoutInterrupted:
		a.fail(timedOut, timeoutMessage(timeout,
			"The code was interrupted; variables and files are kept."))
	case agent.TimeoutRestarted:
		a.extras.StateLost = true
		a.fail(timedOut, timeoutMessage(timeout, "The code did not react to the interrupt, so "+
			"the interpreter was restarted: variables are lost, files are kept."))
	case agent.Interrupted:
		a.fail("Interrupted", "Execution interrupted. Variables and files are kept.")
	case agent.KernelDied:
		a.extras.StateLost = true
		a.fail("KernelDied", abortedPhrase+": "+whyDied(res)+" Files are kept.")
	default:
		a.raised(res)
	}
	if len(images) > 1 || !a.ok { // otherwise the result says it all
		a.extras.Images = images
	}
	return a
}

func timeoutMessage(timeout time.Duration, then string) string {
	return fmt.Sprintf("%s after %d s (timeoutInSeconds). %s", timedOutPhrase,
		int64(timeout/time.Second), then)
}

// whyDied says what the agent knows of a kernel's end.
func whyDied(res agent.ExecuteResult) string {
	if res.Error == nil || res.Error.Message == "" {
		return "The interpreter ended while the code ran. Variables are lost."
	}
	return res.Error.Message
}

// fail marks an answer as failed for a reason that the code itself did not print.
func (a *Answer) fail(name, message string) {
	a.ok = false
	a.result = json.RawMessage(noValue)
	a.stderr = appendLine(a.stderr, message)
	a.extras.ErrorName, a.extras.ErrorMessage = name, message
}

// raised marks an answer as ended by an exception.
func (a *Answer) raised(res agent.ExecuteResult) {
	a.ok = false
	a.result = json.RawMessage(noValue)
	if res.Error == nil && res.ExitStatus != nil {
		a.extras.ErrorName, a.extras.ErrorMessage = exitStatus,
			fmt.Sprintf("The command ended with status %d.", *res.ExitStatus)
		return
	}
	if res.Error == nil {
		a.extras.ErrorName, a.extras.ErrorMessage = "Error", "The code failed."
		return
	}
	a.stderr = appendLine(a.stderr, res.Error.Traceback)
	a.extras.ErrorName, a.extras.ErrorMessage = res.Error.Name, res.Error.Message
}

// AbortedBy is the answer to an execution whose session ended under it. Like every
// other end of the code it is an answer and not an HTTP error.
func AbortedBy(ended *sandpool.Error, took time.Duration) Answer {
	a := Answer{Took: took, milliseconds: took.Milliseconds(), extras: api.ExecutionExtras{
		StateLost: true}}
	why := strings.TrimSuffix(ended.Message, ".")
	if why == "" {
		why = "the session ended"
	}
	a.fail("Aborted", fmt.Sprintf("%s: %s. The session's variables and files are lost.",
		abortedPhrase, why))
	return a
}

// appendLine adds a line to output, which may end within one.
func appendLine(output, line string) string {
	if output != "" && !strings.HasSuffix(output, "\n") {
		output += "\n"
	}
	return output + line
}

// sortDisplays separates the images of an execution from its other displays. The
// value's own image comes first; a figure that is shown and also the value is one
// image. If an image takes the value's place as the result, the value's text is a display; so
// are the value's other representations, such as HTML, which the result cannot hold.
func sortDisplays(res agent.ExecuteResult) (images []api.Image, rest []map[string]string) {
	own, ownImage := imageIn(res.Value)
	if ownImage {
		images = append(images, own)
	}
	for _, d := range res.Displays {
		switch image, ok := imageIn(d.Data); {
		case !ok:
			rest = append(rest, d.Data)
		case !ownImage || image != own:
			images = append(images, image)
		}
	}
	if faces := facesOf(res.Value); len(faces) > 1 || len(faces) == 1 && res.Text == "" {
		rest = append(rest, faces)
	} else if len(images) > 0 && res.HasValue && res.Text != "" && !ownImage {
		rest = append(rest, map[string]string{"text/plain": res.Text})
	}
	return images, rest
}

// facesOf returns the representations of a value that are no images.
func facesOf(value agent.Bundle) map[string]string {
	faces := map[string]string{}
	for mime, data := range value {
		if !strings.HasPrefix(mime, "image/") {
			faces[mime] = data
		}
	}
	return faces
}

// imageIn returns the image of a display, the raster form before the vector one.
func imageIn(d map[string]string) (api.Image, bool) {
	for _, f := range [...]struct{ mime, format string }{
		{"image/png", "png"}, {"image/jpeg", "jpeg"}, {"image/gif", "gif"}, {"image/webp", "webp"},
		{"image/svg+xml", "svg"},
	} {
		data, ok := d[f.mime]
		if !ok {
			continue
		}
		if f.format == "svg" { // a text, unlike the others
			data = base64.StdEncoding.EncodeToString([]byte(data))
		}
		return api.Image{Type: "image", Format: f.format, Data: strings.TrimSpace(data)}, true
	}
	return api.Image{}, false
}

// noValue is the result of code that leaves none: the empty string, which
// clients that index the result need.
const noValue = `""`

// valueOf returns the result of an execution as the service shows it: an image
// if there is one, else the text of the last expression's value, as JSON if it
// happens to be JSON and as a string if not.
func valueOf(res agent.ExecuteResult, images []api.Image) json.RawMessage {
	if len(images) > 0 {
		return encode(images[0])
	}
	if !res.HasValue {
		return json.RawMessage(noValue)
	}
	return textValue(res.Text)
}

// textValue turns the printed form of a value into JSON: it is the same in both
// or no JSON at all. Numbers keep all their digits, because the text itself is the JSON. A
// value that prints as null is a value: clients take the JSON null for none, and some fail on it.
func textValue(text string) json.RawMessage {
	if trimmed := strings.TrimSpace(text); portable(trimmed) {
		return json.RawMessage(trimmed)
	}
	return encode(text)
}

// encode marshals what cannot fail to marshal.
func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("wire: encode a plain value: " + err.Error())
	}
	return b
}
