package wire

import (
	"cmp"
	"net/url"
	"path"
	"strconv"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
)

// The content types of what is no file with a name that tells one. Clients for .NET need
// one of everything in a list.
const (
	// https://specifications.freedesktop.org/shared-mime-info-spec
	directoryContent = "inode/directory"
	otherContent     = "application/octet-stream"
)

// File is a file or a directory in the new form.
func File(f agent.FileInfo) api.File {
	dir := path.Dir(f.Path)
	if dir == "." {
		dir = ""
	}
	kind := f.ContentType
	if kind == "" && f.Type == agent.Directory {
		kind = directoryContent
	}
	v := api.File{Name: cmp.Or(f.Name, path.Base(f.Path)), Type: string(f.Type),
		ContentType: cmp.Or(kind, otherContent),
		SizeInBytes: f.Size, LastModifiedAt: Stamp(f.ModTime), Directory: dir, SHA256: f.SHA256}
	if len(f.Raw) > 0 {
		v.EncodedPath = (&url.URL{Path: string(f.Raw)}).EscapedPath()
	}
	return v
}

// FileEvent is something that has happened to a file or a directory.
func FileEvent(number int64, e agent.FileEvent) api.FileEvent {
	v := api.FileEvent{Sequence: number, Type: string(e.Type), Path: e.Path, From: e.From,
		Directory: e.Directory}
	if len(e.Raw) > 0 {
		v.EncodedPath = (&url.URL{Path: string(e.Raw)}).EscapedPath()
	}
	if len(e.RawFrom) > 0 {
		v.EncodedFrom = (&url.URL{Path: string(e.RawFrom)}).EscapedPath()
	}
	return v
}

// OldFiles is a list of files in the form up to 2024-08-02-preview.
func OldFiles(files []agent.FileInfo) api.OldFiles {
	list := api.OldFiles{SerialID: "1", Value: make([]api.OldFile, len(files))}
	for i, f := range files {
		list.Value[i] = api.OldFile{SerialID: strconv.Itoa(2 + 2*i), Properties: api.OldFileProps{
			SerialID: strconv.Itoa(3 + 2*i),
			Filename: f.Path, Size: f.Size, LastModifiedTime: Stamp(f.ModTime)}}
	}
	return list
}

// Session is a session as callers see it.
func Session(s sandpool.Session) api.SessionView {
	end := Stamp(s.ExpiresAt)
	return api.SessionView{Identifier: string(s.Identifier), ETag: string(s.Sandbox),
		CreatedAt: Stamp(s.CreatedAt), LastAccessedAt: Stamp(s.LastUsedAt), ExpireAt: end,
		ExpiresAt: end}
}

// Stamp renders a time as the service does, in UTC with seven digits.
func Stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

// Metadata says what code of a pool finds.
func Metadata(p sandpool.Pool, md agent.KernelInfo) api.Metadata {
	packages := md.Packages
	if packages == nil {
		packages = []api.Package{} // clients want a list
	}
	return api.Metadata{
		Runtimes:             []api.Package{{Name: md.Runtime, Version: md.Version}},
		PreInstalledPackages: packages,
		CreatedAt:            Stamp(p.CreatedAt),
		LastUpdatedAt:        Stamp(p.UpdatedAt),
		JupyterKernel:        kernel(md),
	}
}

// kernel describes what runs the code; of Jupyter's are its role and its name alone.
func kernel(md agent.KernelInfo) api.JupyterKernel {
	k := api.JupyterKernel{Name: md.Kernel, Version: md.KernelVersion}
	switch md.Kernel {
	case "ipython":
		k.ProjectURL = "https://ipython.org"
		k.Description =
			"IPython's formatters, magics and display hooks, driven by sandpool's agent."
	case "bash":
		k.ProjectURL = "https://www.gnu.org/software/bash/"
		k.Description = "One shell for all commands of a session, driven by sandpool's agent."
	case "node":
		k.ProjectURL = "https://nodejs.org"
		k.Description =
			"V8's console mode with CommonJS and ES modules, driven by sandpool's agent."
	}
	return k
}
