package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/template"

	"go.yaml.in/yaml/v3"
)

// Form is what a result on stdout looks like: "table", "json", "yaml", or "go-template=" with a
// template over the names of the JSON.
type Form string

const (
	formYAML       = Form("yaml")
	templatePrefix = "go-template="
)

// Validate refuses a form that does not exist, before anything is done.
func (f Form) Validate() error {
	if f.template() {
		_, err := f.parse()
		return err
	}
	switch f {
	case "table", "json", formYAML:
		return nil
	}
	return fmt.Errorf("the form %q is none of table, json, yaml and go-template=TEMPLATE",
		string(f))
}

func (f Form) template() bool { return strings.HasPrefix(string(f), templatePrefix) }

func (f Form) parse() (*template.Template, error) {
	text := strings.TrimPrefix(string(f), templatePrefix)
	return template.New("go-template").Option("missingkey=zero").Parse(text)
}

// write writes v as YAML or by the template. Each of several documents ends with a mark or a line.
func (f Form) write(w io.Writer, v any, several bool) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var plain any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&plain); err != nil {
		return err
	}
	plain = numbers(plain)
	var out bytes.Buffer
	if f == formYAML {
		if several {
			out.WriteString("---\n")
		}
		enc := yaml.NewEncoder(&out)
		enc.SetIndent(2)
		if err := enc.Encode(plain); err != nil {
			return err
		}
	} else {
		t, err := f.parse()
		if err != nil {
			return err
		}
		if err := t.Execute(&out, plain); err != nil {
			return UsageError(err.Error())
		}
		if several || !bytes.HasSuffix(out.Bytes(), []byte("\n")) {
			out.WriteByte('\n')
		}
	}
	// A name that someone else chose must not be able to steer the terminal.
	_, err = io.WriteString(w, PrintableLines(out.String()))
	return err
}

// numbers makes whole numbers whole again: JSON has none.
func numbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, each := range v {
			v[key] = numbers(each)
		}
	case []any:
		for i, each := range v {
			v[i] = numbers(each)
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if n, err := v.Float64(); err == nil {
			return n
		}
	}
	return v
}
