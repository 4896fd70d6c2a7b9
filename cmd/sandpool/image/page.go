package image

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sandpool/sandpool/internal/image"
)

// pageWidth is how wide the lines of a page are.
const pageWidth = 100

// writePage writes what is in an image as a page of Markdown, each kind of package with its
// versions.
func writePage(w io.Writer, i image.Image) error {
	contents, err := i.Contents()
	if err != nil {
		return err
	}
	name := title(i)
	var b strings.Builder
	fmt.Fprintf(&b, "# What is in the image %s\n\n", name)
	fill(&b, []string{"Written", "by", "`sandpool image show " + name + " --packages`."})
	for _, kind := range [][3]string{
		{"py:", "==", "Python"}, {"npm:", "==", "Node.js"}, {"deb:", "=", "Debian"},
	} {
		var items []string
		for _, p := range contents {
			if p, ok := strings.CutPrefix(p, kind[0]); ok {
				name, version, _ := strings.Cut(p, kind[1])
				items = append(items, "`"+name+"` "+version)
			}
		}
		if len(items) == 0 {
			continue
		}
		slices.SortFunc(items, func(a, b string) int {
			return strings.Compare(strings.ToLower(a), strings.ToLower(b))
		})
		fmt.Fprintf(&b, "\n## %s, %d packages\n\n", kind[2], len(items))
		for n := range items[:len(items)-1] {
			items[n] += ","
		}
		fill(&b, items)
	}
	_, err = io.WriteString(w, b.String())
	return err
}

// fill writes words in lines.
func fill(b *strings.Builder, words []string) {
	at := 0
	for _, word := range words {
		switch {
		case at == 0:
		case at+1+len(word) > pageWidth:
			b.WriteByte('\n')
			at = 0
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += len(word)
	}
	b.WriteByte('\n')
}
