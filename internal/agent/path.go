package agent

import (
	"path"
	"strings"

	"github.com/sandpool/sandpool"
)

// CleanPath turns a caller's path into one relative to DataDir: without a leading
// DataDir or slash, without empty and "." elements. The root is "". Parent
// references, NUL bytes and names that no file system can hold are errors of
// class Invalid.
func CleanPath(p string) (string, error) { return CleanPathOf("path", p) }

// CleanPathOf is CleanPath of a parameter with another name, which errors are about.
func CleanPathOf(parameter, p string) (string, error) {
	badPath := func(message string) error {
		return &sandpool.Error{Class: sandpool.Invalid, Code: "InvalidFilePath", Target: parameter,
			Message: message}
	}
	if strings.ContainsRune(p, 0) {
		return "", badPath("The path contains a NUL byte, which no file name can hold. Remove it.")
	}
	if p == DataDir {
		p = ""
	}
	p = strings.TrimPrefix(p, DataDir+"/")
	var elements []string
	for e := range strings.SplitSeq(p, "/") {
		switch {
		case e == "" || e == ".":
		case e == "..":
			return "", badPath(
				"The path contains the element \"..\". Name the file by its path from " + DataDir +
					".")
		case len(e) > 255:
			return "", badPath("A name in the path is longer than 255 bytes. Use a shorter one.")
		default:
			elements = append(elements, e)
		}
	}
	if p = strings.Join(elements, "/"); len(p) > 4000 {
		return "", badPath("The path is longer than 4000 bytes. Use a shorter one.")
	}
	return p, nil
}

// contentTypes is by extension and the same on every machine, unlike the tables of
// an operating system.
const defaultContentType = "application/octet-stream"

func contentTypeOf(ext string) string {
	switch ext {
	case ".txt", ".log", ".text":
		return "text/plain; charset=utf-8"
	case ".csv":
		return "text/csv; charset=utf-8"
	case ".tsv":
		return "text/tab-separated-values; charset=utf-8"
	case ".md":
		return "text/markdown; charset=utf-8"
	case ".py":
		return "text/x-python; charset=utf-8"
	case ".html", ".htm":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js", ".mjs":
		return "text/javascript; charset=utf-8"
	case ".xml":
		return "text/xml; charset=utf-8"
	case ".yaml", ".yml":
		return "application/yaml"
	case ".json":
		return "application/json"
	case ".ipynb":
		return "application/x-ipynb+json"
	default:
		return binaryTypeOf(ext)
	}
}

func binaryTypeOf(ext string) string {
	switch ext {
	case ".png":
		return "image/png"
	case ".jpg", ".jpeg":
		return "image/jpeg"
	case ".gif":
		return "image/gif"
	case ".svg":
		return "image/svg+xml"
	case ".webp":
		return "image/webp"
	case ".pdf":
		return "application/pdf"
	case ".zip":
		return "application/zip"
	case ".gz", ".tgz":
		return "application/gzip"
	case ".parquet":
		return "application/vnd.apache.parquet"
	case ".xlsx":
		return "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
	case ".docx":
		return "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
	case ".pptx":
		return "application/vnd.openxmlformats-officedocument.presentationml.presentation"
	case ".mp3":
		return "audio/mpeg"
	case ".wav":
		return "audio/wav"
	case ".mp4":
		return "video/mp4"
	}
	return defaultContentType
}

// ContentType returns the MIME type of a file by its name's extension.
func ContentType(name string) string {
	return contentTypeOf(strings.ToLower(path.Ext(name)))
}
